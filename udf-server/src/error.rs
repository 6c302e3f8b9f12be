//! How a command fails: what is printed, and the exit code.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use numaflow_sdk::ServeError;

use crate::print;

/// Why a command failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// What was asked for makes no sense or cannot be done as asked: exit code 64. Every mistake found, one a line.
    Configuration(Vec<String>),
    /// Something went wrong on the way: exit code 1.
    Run(String),
    /// The command line; clap has a text of its own, with hints. Exit code 0 for `--help`, 64 otherwise.
    Usage(clap::Error),
}

impl Failure {
    /// One mistake in what was asked for.
    #[must_use]
    pub fn configuration(problem: impl Into<String>) -> Self {
        Self::Configuration(vec![problem.into()])
    }

    /// A failure on the way, from an error and its causes.
    #[must_use]
    pub fn run(error: &(dyn Error + 'static)) -> Self {
        Self::Run(chain(error))
    }

    /// Prints the failure on standard error, or the help that was asked for on standard output, and returns the exit code.
    #[must_use]
    pub fn report(self) -> ExitCode {
        match &self {
            Self::Usage(error) if !error.use_stderr() => {
                match print::written(error.print().and_then(|()| io::stdout().flush())) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(failure) => failure.report(),
                }
            }
            Self::Usage(error) => {
                if io::stderr().is_terminal() {
                    // With colours. Nothing can be done about a terminal that is gone.
                    drop(error.print());
                } else {
                    print::note(error.to_string().trim_end());
                }
                ExitCode::from(64)
            }
            Self::Configuration(_) => {
                print::note(&self);
                ExitCode::from(64)
            }
            Self::Run(_) => {
                print::note(&self);
                ExitCode::FAILURE
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    let line_break = if index == 0 { "" } else { "\n" };
                    write!(f, "{line_break}error: {problem}")?;
                }
                Ok(())
            }
            Self::Run(text) => write!(f, "error: {text}"),
            Self::Usage(error) => write!(f, "{error}"),
        }
    }
}

impl Error for Failure {}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        // What went wrong before serving is the command's own, and says it all.
        let text = if let ServeError::SetUp { source } = &error { chain(&**source) } else { chain(&error) };
        if error.is_configuration() { Self::configuration(text) } else { Self::Run(text) }
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
