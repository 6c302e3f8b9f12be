//! What all commands that serve have in common: their flags, their start and their end.

use std::path::PathBuf;

use clap::Args;
use numaflow_sdk::{Environment, ServeError, Server, Service, Settings, run_server_with};

use crate::config::Layers;
use crate::error::Failure;
use crate::logging::{self, LogFormat};

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
    /// The most messages in flight; beyond it the server reads no further [default: 4096]
    #[arg(long, value_name = "N")]
    pub(crate) max_in_flight: Option<String>,
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

impl ServerArgs {
    /// What flags, environment, file and platform say of the server.
    pub(crate) fn settings(&self, layers: &mut Layers<'_>) -> Settings {
        let flags = [
            ("socket", &self.socket),
            ("server-info", &self.server_info),
            ("socket-mode", &self.socket_mode),
            ("max-in-flight", &self.max_in_flight),
            ("max-in-flight-bytes", &self.max_in_flight_bytes),
            ("drain-timeout", &self.drain_timeout),
            ("slow-after", &self.slow_after),
            ("admin", &self.admin),
        ];
        let mut settings = Settings::default();
        for (name, flag) in flags {
            layers.parsed(name, flag.as_deref(), |text| settings.set(name, text));
        }
        settings.or(layers.platform())
    }

    /// How flags, environment and file want log lines.
    pub(crate) fn log_format(&self, layers: &mut Layers<'_>) -> LogFormat {
        LogFormat::from_layers(layers, self.log_format.as_deref())
    }
}

/// Serves a service that needs nothing but the common flags, until a signal.
pub(crate) fn serve<S: Service>(service: S, args: &ServerArgs, environment: &dyn Environment) -> Result<(), Failure> {
    let mut layers = Layers::new(environment, args.config.as_deref())?;
    let settings = args.settings(&mut layers);
    let log_format = args.log_format(&mut layers);
    layers.finish()?;
    logging::set_up(log_format, environment);
    run_server_with(async move || Ok::<_, ServeError>(Server::new(service).settings(settings)))?;
    Ok(())
}
