//! The demo's map: the example `flights`, served by this program, so that `cargo run -- demo` builds all it needs.

use clap::Args;
use numaflow_sdk::{Environment, map};

use crate::error::Failure;
use crate::serve::{MapArgs, ServerArgs, serve_map};

/// The flags of the demo's map.
#[derive(Debug, Args)]
pub(crate) struct FlightsMapArgs {
    #[command(flatten)]
    map: MapArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &FlightsMapArgs, environment: &dyn Environment) -> Result<(), Failure> {
    serve_map(map::service(flights::mapper()), &args.map, &args.server, environment)
}
