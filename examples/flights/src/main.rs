//! Serves the map of flights.

use std::process::ExitCode;

use numaflow_sdk::map;

fn main() -> ExitCode {
    numaflow_sdk::run(map::service(flights::mapper()))
}
