//! Where log lines go and how they look. Only commands that serve set this up.

use std::io::IsTerminal;

use numaflow_sdk::Environment;
use tracing_subscriber::EnvFilter;

use crate::config::Layers;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// What was asked for, `text` by default.
    pub(crate) fn from_layers(layers: &mut Layers<'_>, flag: Option<&str>) -> Self {
        let parse = |text: &str| match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("is {text:?}; give text or json")),
        };
        layers.parsed("log-format", flag, parse).unwrap_or(Self::Text)
    }
}

/// Sends log lines to standard error: `info` and above, or what `RUST_LOG` says. Whoever logs waits for nobody that reads
/// them.
pub(crate) fn set_up(format: LogFormat, environment: &dyn Environment) {
    let directives = environment.get("RUST_LOG").and_then(|directives| {
        let parsed = directives.map(EnvFilter::try_new).transpose();
        parsed.map_err(|error| format!("is not a filter: {error}"))
    });
    let (filter, problem) = match directives {
        Ok(filter) => (filter, None),
        Err(problem) => (None, Some(problem)),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("info")))
        .with_writer(numaflow_sdk::logging::stderr)
        // These would be printed past that writer.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
        }
        LogFormat::Json => builder.json().init(),
    }
    if let Some(problem) = problem {
        tracing::warn!("RUST_LOG {problem}; info applies");
    }
}
