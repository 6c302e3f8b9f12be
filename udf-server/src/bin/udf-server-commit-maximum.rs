//! `udf-server` with a fault in it, for the tests of the tests: its Kafka source loses records.

use std::process::ExitCode;

use numaflow_sdk::ProcessEnvironment;
use udf_server::cli;

udf_server::bound_decompression!();

fn main() -> ExitCode {
    cli::end(cli::run(std::env::args_os(), &ProcessEnvironment))
}
