//! What all commands that serve have in common: their flags, their start and their end.

use std::path::{Path, PathBuf};

use clap::Args;
use numaflow_sdk::map::MapService;
use numaflow_sdk::{Environment, ServeError, Server, Settings, check_socket_path, run_server_with};

use crate::config::Layers;
use crate::error::Failure;
use crate::logging::{self, LogFormat};
use crate::variables;

/// The flags of every command that serves. Each can also be set by the environment variable of the same name with the
/// prefix `UDF_` (`UDF_MAX_IN_FLIGHT`), or by a key of the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server options (also UDF_... in the environment, or a key of the file)")]
pub(crate) struct ServerArgs {
    /// Where to listen [default: what the platform dials, in /var/run/numaflow]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<String>,
    /// Where to write the server-info file [default: what the platform reads, in /var/run/numaflow]
    #[arg(long, value_name = "PATH")]
    pub(crate) server_info: Option<String>,
    /// Permissions of the socket, in octal [default: 0666, since the platform may run under another uid]
    #[arg(long, value_name = "MODE")]
    pub(crate) socket_mode: Option<String>,
    /// The most bytes in flight, such as 128MiB [default: a quarter of the memory limit, 64MiB to 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_in_flight_bytes: Option<String>,
    /// How long a stop may take, such as 25s [default: 25s, below Kubernetes' 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) drain_timeout: Option<String>,
    /// The age at which a message in flight is named in the log, such as 30s [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) slow_after: Option<String>,
    /// Where to answer HTTP: /metrics, /livez, /readyz, /inflight; a bare port is one of 127.0.0.1 [default: off]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// A YAML file with settings; flags and environment beat it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The flags of every command that serves a map, besides those of all servers and set in the same places.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Map options (also UDF_... in the environment, or a key of the file)")]
pub(crate) struct MapArgs {
    /// How the platform hands messages over: unary, one by one; batch, for throughput, though a batch waits for its
    /// slowest message; stream, where a message becomes many [default: unary]
    #[arg(long, value_name = "MODE")]
    pub(crate) map_mode: Option<String>,
    /// The most messages in flight; beyond it the server reads no further. A range such as 64..4096 adapts to the
    /// handlers' latency [default: 4096]
    #[arg(long, value_name = "N|N..N")]
    pub(crate) max_in_flight: Option<String>,
    /// What becomes of a message that fails: fail ends the stream, and the platform sends again; drop, nack[:DELAY],
    /// dead-letter:TAG (the input itself, with this tag) or fail-tag answer for it [default: fail]
    #[arg(long, value_name = "POLICY")]
    pub(crate) on_failure: Option<String>,
    /// How often a message is tried before that, with growing pauses [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) attempts: Option<String>,
    /// Where handlers run: automatic; tasks, spread over the cores from the start; blocking[:N], on at most N threads of
    /// their own [default: automatic]
    #[arg(long, value_name = "WHERE")]
    pub(crate) execution: Option<String>,
    /// The most bytes of all batches that are collected and handled in one call each, such as 256MiB [default: half of the
    /// memory limit, 128MiB to 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_batch_bytes: Option<String>,
}

impl MapArgs {
    /// What flags, environment and file say of the map.
    fn settings(&self, layers: &mut Layers<'_>) -> Settings {
        let flags = [
            ("map-mode", &self.map_mode),
            ("max-in-flight", &self.max_in_flight),
            ("on-failure", &self.on_failure),
            ("attempts", &self.attempts),
            ("execution", &self.execution),
            ("max-batch-bytes", &self.max_batch_bytes),
        ];
        parsed(layers, &flags)
    }
}

/// The settings with these names, whose flags say this.
fn parsed(layers: &mut Layers<'_>, flags: &[(&'static str, &Option<String>)]) -> Settings {
    let mut settings = Settings::default();
    for (name, flag) in flags {
        layers.parsed(name, flag.as_deref(), |text| {
            settings.set(name, text)?;
            if *name == "socket" { check_socket(text) } else { Ok(()) }
        });
    }
    settings
}

/// Refuses a path that the start would refuse.
fn check_socket(text: &str) -> Result<(), String> {
    match check_socket_path(Path::new(text)) {
        Err(ServeError::SocketPathTooLong { limit, .. }) => Err(format!(
            "is {text:?}; it has {} bytes, and the system allows {limit}: choose a shorter one",
            text.len()
        )),
        Err(_) | Ok(()) => Ok(()),
    }
}

impl ServerArgs {
    /// What flags, environment, file and platform say of the server.
    pub(crate) fn settings(&self, layers: &mut Layers<'_>) -> Settings {
        let flags = [
            ("socket", &self.socket),
            ("server-info", &self.server_info),
            ("socket-mode", &self.socket_mode),
            ("max-in-flight-bytes", &self.max_in_flight_bytes),
            ("drain-timeout", &self.drain_timeout),
            ("slow-after", &self.slow_after),
            ("admin", &self.admin),
        ];
        parsed(layers, &flags).or(layers.platform())
    }

    /// How flags, environment and file want log lines.
    pub(crate) fn log_format(&self, layers: &mut Layers<'_>) -> LogFormat {
        LogFormat::from_layers(layers, self.log_format.as_deref())
    }
}

/// Sets up the log, and names variables in it that are probably misspelt.
pub(crate) fn begin(log_format: LogFormat, environment: &dyn Environment) {
    logging::set_up(log_format, environment);
    for unknown in variables::unknown(environment) {
        tracing::warn!("the environment has a variable without effect: {unknown}");
    }
}

/// Serves a map that needs nothing but the common flags, until a signal.
pub(crate) fn serve_map(
    service: MapService,
    map: &MapArgs,
    server: &ServerArgs,
    environment: &dyn Environment,
) -> Result<(), Failure> {
    let mut layers = Layers::new(environment, server.config.as_deref())?;
    let settings = map.settings(&mut layers).or(server.settings(&mut layers));
    let log_format = server.log_format(&mut layers);
    layers.finish()?;
    begin(log_format, environment);
    run_server_with(async move || Ok::<_, ServeError>(Server::new(service).settings(settings)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use numaflow_sdk::map::FailurePolicy;
    use numaflow_sdk::{MapMode, MaxInFlight};

    use super::*;
    use crate::config::tests::{Variables, file};

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        map: MapArgs,
        #[command(flatten)]
        server: ServerArgs,
    }

    fn settings(arguments: &[&str], environment: &Variables, file: &str) -> Result<Settings, Failure> {
        let file = self::file(file);
        let arguments = std::iter::once("map").chain(arguments.iter().copied());
        let Command { map, server } = Command::try_parse_from(arguments).unwrap();
        let mut layers = Layers::new(environment, Some(file.path()))?;
        let settings = map.settings(&mut layers).or(server.settings(&mut layers));
        layers.finish()?;
        Ok(settings)
    }

    #[test]
    fn every_name_has_a_flag() {
        for name in Settings::NAMES.into_iter().chain(Settings::MAP_NAMES) {
            // With a value that no option takes, so that the place of the mistake shows that the flag was asked.
            let error = settings(&[&format!("--{name}"), ""], &Variables::default(), "").unwrap_err().to_string();
            assert!(error.starts_with(&format!("error: --{name} is ")), "{error}");
        }
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_refused_before_the_start() {
        let fits = "s".repeat(107);
        assert!(settings(&["--socket", &fits], &Variables::default(), "").is_ok());
        let rule = "it has 108 bytes, and the system allows 107: choose a shorter one";
        let error = settings(&["--socket", &format!("{fits}s")], &Variables::default(), "").unwrap_err().to_string();
        assert_eq!(error, format!("error: --socket is \"{fits}s\"; {rule}"));
        let error = settings(&[], &Variables::default(), &format!("socket: {fits}s\n")).unwrap_err().to_string();
        assert!(error.ends_with(&format!(", line 1: {rule}")), "{error}");
    }

    #[test]
    fn options_of_maps_have_the_same_places_as_all() {
        let text = "map-mode: stream\non-failure: drop\nattempts: 3\nexecution: tasks\nmax-in-flight: 8..16\n";
        let environment = Variables::from([("UDF_MAP_MODE", "batch"), ("UDF_ON_FAILURE", "dead-letter:bad")]);
        let settings = settings(&["--map-mode", "unary"], &environment, text).unwrap();
        assert_eq!(settings.map_mode, Some(MapMode::Unary));
        assert_eq!(settings.on_failure, Some(FailurePolicy::DeadLetter { tag: "bad".to_owned() }));
        assert_eq!((settings.attempts, settings.max_in_flight), (Some(3), Some(MaxInFlight::from(8..=16))));
        assert_eq!(settings.max_batch_bytes, None);
    }
}
