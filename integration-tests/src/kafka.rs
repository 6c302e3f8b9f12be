//! The chaos run of a Kafka source: real processes, a real broker, and everything that happens to them in a cluster.
//!
//! See `kafka-chaos --help`; [`main`] is all of it.

use std::process::ExitCode;

mod args;
mod chaos;
mod clock;
mod driver;
mod faults;
mod journal;
mod member;
mod process;
mod producers;
mod program;
mod report;
mod sampler;
mod scenarios;
mod scene;
mod stage;
mod suite;
mod truth;
mod verdict;

/// What there is, or a sentence on why not.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The program `kafka-chaos`: parses the command line, runs, and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    match args::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a command-line program")]
            {
                eprintln!("kafka-chaos: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
