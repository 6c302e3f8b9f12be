//! Numaflow servers side by side, in one run: see `benchmarks --help`.

use std::process::ExitCode;

mod args;
mod beside;
mod chart;
mod child;
mod client;
mod collector;
mod compare;
mod flight;
mod goals;
mod handler;
mod kafka;
mod load;
mod machine;
mod measure;
mod paced;
mod progress;
mod reading;
mod report;
mod results;
mod scenario;
mod serve;
mod subject;
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
            progress::say(&format!("benchmarks: {error}"));
            ExitCode::FAILURE
        }
    }
}
