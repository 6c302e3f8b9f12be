//! The command line: what there is, and where each command goes.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use numaflow_sdk::Environment;

use crate::drive::{self, DriveArgs};
use crate::error::Failure;
use crate::health::{self, HealthArgs};
use crate::map::{self, MapCommand};

/// Numaflow sidecar: a Kafka source, maps without code, and a driver that plays the platform on a laptop.
///
/// Exit codes: 0 clean, 64 a mistake in flags, environment or file, 1 anything else.
#[derive(Debug, Parser)]
#[command(name = "udf-server", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a map that needs no code
    #[command(subcommand)]
    Map(MapCommand),
    /// Play the platform for a source and a map: read, map, write, ack
    Drive(DriveArgs),
    /// Ask the server on a socket whether it is ready
    Health(HealthArgs),
}

/// Parses the command line and runs the command.
///
/// # Errors
///
/// What the command fails with; its [`Failure::report`] knows the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &dyn Environment) -> Result<(), Failure> {
    let cli = Cli::try_parse_from(arguments).map_err(Failure::Usage)?;
    match cli.command {
        Command::Map(command) => map::run(&command, environment),
        Command::Drive(args) => drive::command(&args),
        Command::Health(args) => health::command(&args),
    }
}
