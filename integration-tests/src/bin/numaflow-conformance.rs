//! The suite as a program: see `numaflow-conformance --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    numaflow_conformance::cli()
}
