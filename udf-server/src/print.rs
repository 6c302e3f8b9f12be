//! How every command prints: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::error::Failure;

/// Prints a line of what a command is for on standard output.
///
/// A reader that has closed the pipe has read what it wanted (`udf-server check-config | head -1`): the command goes on
/// and ends as it would have.
///
/// # Errors
///
/// Whatever else keeps the line from being written.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// What comes of printing on standard output.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Run(format!("standard output cannot be written: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a line for whoever watches on standard error. Neither waits nor fails, so that nobody who reads no further can
/// hold a command up.
pub(crate) fn note(text: impl Display) {
    // The writer takes everything.
    drop(writeln!(numaflow_sdk::logging::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_pipe_is_no_error() {
        assert!(written(Err(ErrorKind::BrokenPipe.into())).is_ok());
        let full = written(Err(ErrorKind::StorageFull.into())).unwrap_err().to_string();
        assert!(full.starts_with("error: standard output cannot be written: "), "{full}");
    }
}
