//! What the suite's programs share: how they say something, and how they end.

use std::process::ExitCode;

/// What there is, or a sentence on why not.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Says a line to whoever runs the program.
#[expect(clippy::print_stdout, reason = "a command-line program")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Ends a program: with 0 when all was right, with 1 when something was not, and a sentence where it could not be told.
pub(crate) fn end(name: &str, done: Outcome<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a command-line program")]
            {
                eprintln!("{name}: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
