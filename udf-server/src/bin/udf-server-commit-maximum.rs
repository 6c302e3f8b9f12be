//! `udf-server` with a fault in it, for the tests of the tests: its Kafka source loses records.

use std::process::ExitCode;

use numaflow_sdk::ProcessEnvironment;

fn main() -> ExitCode {
    match udf_server::cli::run(std::env::args_os(), &ProcessEnvironment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
