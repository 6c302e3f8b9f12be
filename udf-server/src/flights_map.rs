//! The demo's map: the example `flights`, served by this program, so that `cargo run -- demo` builds all it needs.

use numaflow_sdk::{Environment, map};

use crate::error::Failure;
use crate::serve::{ServerArgs, serve};

pub(crate) fn run(args: &ServerArgs, environment: &dyn Environment) -> Result<(), Failure> {
    serve(map::service(flights::mapper()), args, environment)
}
