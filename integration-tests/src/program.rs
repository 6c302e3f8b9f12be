//! What the suite's programs share: how they say something, and how they end.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// What there is, or a sentence on why not.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Why a line could not be printed, for the end of the program.
static UNPRINTED: OnceLock<io::Error> = OnceLock::new();

/// Prints a line on standard output.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = unless_closed(writeln!(out, "{line}").and_then(|()| out.flush())) {
        // One reason is enough.
        drop(UNPRINTED.set(error));
    }
}

/// Prints a line on standard error.
pub(crate) fn note(line: &str) {
    // Where nobody can read it, it need not be said.
    _ = writeln!(io::stderr(), "{line}");
}

/// A reader that has closed the pipe has read what it wanted: the program goes on, and its exit code stays its verdict.
pub(crate) fn unless_closed(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Ends a program: with 0 when all was right, with 1 when something was not, and a sentence where it could not be told.
pub(crate) fn end(name: &str, done: Outcome<bool>) -> ExitCode {
    let printed = match UNPRINTED.get() {
        Some(error) => Err(format!("standard output cannot be written: {error}").into()),
        None => Ok(()),
    };
    match done.and_then(|good| printed.map(|()| good)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            note(&format!("{name}: {error}"));
            ExitCode::FAILURE
        }
    }
}
