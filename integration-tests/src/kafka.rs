//! The chaos run of a Kafka source: real processes, a real broker, and everything that happens to them in a cluster.
//!
//! See `kafka-chaos --help`; [`main`] is all of it.

use std::process::ExitCode;

use crate::program::Outcome;

mod args;
mod brokers;
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

/// The program `kafka-chaos`: parses the command line, runs, and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    crate::program::end("kafka-chaos", args::run())
}
