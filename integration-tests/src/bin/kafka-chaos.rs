//! The chaos run of a Kafka source: see `kafka-chaos --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    numaflow_conformance::kafka::main()
}
