//! The command line: what there is, and where each command goes.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use numaflow_sdk::Environment;

#[cfg(feature = "kafka")]
use crate::check_config::{self, CheckConfigArgs};
#[cfg(feature = "kafka")]
use crate::demo::{self, DemoArgs};
use crate::drive::{self, DriveArgs};
use crate::error::Failure;
#[cfg(feature = "kafka")]
use crate::flights_map::{self, FlightsMapArgs};
use crate::health::{self, HealthArgs};
#[cfg(feature = "kafka")]
use crate::kafka_source::{self, KafkaSourceArgs};
use crate::map::{self, MapCommand};
#[cfg(feature = "kafka")]
use crate::parent;

/// Numaflow sidecar: a Kafka source, maps without code, and a driver that plays the platform on a laptop.
///
/// Exit codes: 0 clean, 64 a mistake in flags, environment or file, 1 anything else.
#[derive(Debug, Parser)]
#[command(name = "udf-server", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// The process with which this one is to end; the demo says so to its servers.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "PID", global = true, hide = true)]
    exit_with_parent: Option<i32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole product on real data: broker, Kafka source, map, and the platform between them
    #[cfg(feature = "kafka")]
    Demo(DemoArgs),
    /// Serve records of Kafka topics, committing only what was acked
    #[cfg(feature = "kafka")]
    KafkaSource(Box<KafkaSourceArgs>),
    /// Check the settings of a Kafka source, and the way to its brokers
    #[cfg(feature = "kafka")]
    CheckConfig(Box<CheckConfigArgs>),
    /// Serve a map that needs no code
    #[command(subcommand)]
    Map(Box<MapCommand>),
    /// Play the platform for a source and a map: read, map, write, ack
    Drive(Box<DriveArgs>),
    /// Ask the server on a socket whether it is ready
    Health(HealthArgs),
    /// Serve the demo's map
    #[cfg(feature = "kafka")]
    #[command(hide = true)]
    FlightsMap(FlightsMapArgs),
}

/// How long the end of the program waits for its last lines on standard error to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Says how a command failed, if it did, and returns the exit code of the program, which ends now.
#[must_use]
pub fn end(result: Result<(), Failure>) -> ExitCode {
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    };
    numaflow_sdk::logging::flush(LAST_LINES);
    code
}

/// Parses the command line and runs the command.
///
/// # Errors
///
/// What the command fails with; its [`Failure::report`] knows the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &dyn Environment) -> Result<(), Failure> {
    let cli = parse(arguments.into_iter().collect()).map_err(Failure::Usage)?;
    #[cfg(feature = "kafka")]
    if let Some(parent) = cli.exit_with_parent {
        parent::exit_with(parent)?;
    }
    match cli.command {
        #[cfg(feature = "kafka")]
        Command::Demo(args) => demo::command(&args, environment),
        #[cfg(feature = "kafka")]
        Command::KafkaSource(args) => kafka_source::run(&args, environment),
        #[cfg(feature = "kafka")]
        Command::CheckConfig(args) => check_config::command(&args, environment),
        Command::Map(command) => map::run(&command, environment),
        Command::Drive(args) => drive::command(&args),
        Command::Health(args) => health::command(&args),
        #[cfg(feature = "kafka")]
        Command::FlightsMap(args) => flights_map::run(&args, environment),
    }
}

/// Parses the command line. An error quotes no property's value: one that stands in the wrong place may be a secret.
fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let is_property = |argument: &OsString| argument.to_string_lossy().starts_with("--property");
    let has_properties = arguments.iter().any(is_property);
    Cli::try_parse_from(arguments).map_err(|mut error| {
        for kind in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue] {
            let Some(ContextValue::String(text)) = error.get(kind) else { continue };
            let shown = match text.split_once('=') {
                Some((name, _)) if has_properties || !text.starts_with('-') => format!("{name}=…"),
                None if has_properties && !text.starts_with('-') => "…".to_owned(),
                _ => continue,
            };
            error.insert(kind, ContextValue::String(shown));
            // Hints repeat the argument.
            error.remove(ContextKind::Suggested);
            error.remove(ContextKind::SuggestedSubcommand);
        }
        error
    })
}

#[cfg(test)]
#[cfg(feature = "kafka")]
mod tests {
    use super::*;

    fn told(arguments: &[&str]) -> String {
        parse(arguments.iter().map(Into::into).collect()).unwrap_err().to_string()
    }

    #[test]
    fn no_mistake_on_the_command_line_shows_a_secret() {
        for command in ["kafka-source", "check-config"] {
            for rest in [
                &["a.yaml", "sasl.password=hunter2"][..],
                &["--property", "sasl.username=me", "a.yaml", "sasl.password=hunter2"],
                &["--property", "sasl.password", "hunter2", "hunter2"],
                &["--propertys=sasl.password=hunter2"],
                &["--property=sasl.username=me", "--sasl.password=hunter2"],
            ] {
                let told = told(&[&["udf-server", command], rest].concat());
                assert!(!told.contains("hunter2"), "{told}");
            }
        }
        assert!(told(&["udf-server", "kafka-source", "--grop", "x"]).contains("--grop"));
        assert!(told(&["udf-server", "kafka-sorce"]).contains("kafka-source"), "a hint is of use");
    }
}
