//! Whether the suite catches servers with faults: see `mutants --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    numaflow_conformance::mutants()
}
