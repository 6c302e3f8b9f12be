//! Numaflow servers side by side, in one run: see `benchmarks --help`.

use std::process::ExitCode;

mod args;
mod child;
mod client;
mod compare;
mod handler;
mod load;
mod measure;
mod progress;
mod results;
mod serve;
mod table;
mod wire;

/// The messages that `codegen/` makes for the SDK, which keeps them to itself.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated code")]
#[path = "../../numaflow-sdk/src/pb/mod.rs"]
mod pb;

/// What there is, or a sentence on why not.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    match args::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a command-line program")]
            {
                eprintln!("benchmarks: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
