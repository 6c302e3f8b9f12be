//! `udf-server map`: maps that need no code.

use clap::Subcommand;
use numaflow_sdk::{Environment, MapRequest, map};

use crate::error::Failure;
use crate::serve::{MapArgs, ServerArgs, serve_map};

/// The maps there are.
#[derive(Debug, Subcommand)]
pub(crate) enum MapCommand {
    /// Pass every message on as it is: value, keys and user metadata
    Cat {
        #[command(flatten)]
        map: MapArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
}

pub(crate) fn run(command: &MapCommand, environment: &dyn Environment) -> Result<(), Failure> {
    match command {
        MapCommand::Cat { map: args, server } => {
            let cat = map::from_fn(async |request: MapRequest| Ok(request.into_message()));
            serve_map(map::service(cat), args, server, environment)
        }
    }
}
