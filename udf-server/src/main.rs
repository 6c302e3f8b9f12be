//! `udf-server`: see `udf-server --help`.

use std::process::ExitCode;

use numaflow_sdk::ProcessEnvironment;
use udf_server::cli;

#[cfg(feature = "kafka")]
udf_server::bound_decompression!();

fn main() -> ExitCode {
    cli::end(cli::run(std::env::args_os(), &ProcessEnvironment))
}
