//! All implementations against all cases: see `matrix --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    numaflow_conformance::matrix()
}
