//! The kinds of server, and what the platform expects of each (protocol: service catalogue).

use std::fmt;
use std::str::FromStr;

/// How a map is served (`MAP_MODE` in the server-info file). A way of serving, not of writing: any map can be served in
/// any mode, and the platform dials a socket of its own for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MapMode {
    /// One answer for each message, as soon as it is there. The default: no message waits for another.
    #[default]
    Unary,
    /// Messages in batches that end with an EOT. Costs the platform and the map less a message (a third less, and half,
    /// as measured in a MonoVertex), but a batch waits for its slowest message, and the platform collects it for up to its
    /// read timeout of a second, so that a trickle of messages waits too. For throughput.
    Batch,
    /// Many answers for each message, each sent as it is made, the last followed by an EOT. For messages that become many.
    Stream,
}

impl fmt::Display for MapMode {
    /// The name in the server-info file: `unary-map`, `batch-map`, `stream-map`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unary => "unary-map",
            Self::Batch => "batch-map",
            Self::Stream => "stream-map",
        })
    }
}

impl FromStr for MapMode {
    type Err = String;

    /// Takes `unary`, `batch` and `stream`, and the names in the server-info file.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, and the choices there are.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unary" | "unary-map" => Ok(Self::Unary),
            "batch" | "batch-map" => Ok(Self::Batch),
            "stream" | "stream-map" => Ok(Self::Stream),
            _ => Err(format!("is {text:?}; give unary, batch or stream")),
        }
    }
}

/// What a server does for the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `map.v1.Map`, in one of its modes.
    Map(MapMode),
    /// `source.v1.Source`.
    Source,
}

impl Kind {
    /// The name of the socket that the platform dials, below `/var/run/numaflow`.
    #[must_use]
    pub const fn socket_name(self) -> &'static str {
        match self {
            Self::Map(MapMode::Unary) => "map.sock",
            Self::Map(MapMode::Batch) => "batchmap.sock",
            Self::Map(MapMode::Stream) => "mapstream.sock",
            Self::Source => "source.sock",
        }
    }

    /// The name of the server-info file that the platform reads, below `/var/run/numaflow`.
    #[must_use]
    pub const fn server_info_name(self) -> &'static str {
        match self {
            Self::Map(_) => "mapper-server-info",
            Self::Source => "sourcer-server-info",
        }
    }

    /// The container that the platform runs this kind in, where `NUMAFLOW_UD_CONTAINER_TYPE` does not say.
    #[must_use]
    pub const fn container_type(self) -> &'static str {
        match self {
            Self::Map(_) => "udf",
            Self::Source => "udsource",
        }
    }

    /// The map mode; `None` for what is not a map.
    #[must_use]
    pub const fn map_mode(self) -> Option<MapMode> {
        match self {
            Self::Map(mode) => Some(mode),
            Self::Source => None,
        }
    }

    /// The lowest platform version that speaks this kind's protocol; `-z` lets pre-releases of later versions pass.
    pub(crate) const fn minimum_numaflow_version(self) -> &'static str {
        match self {
            Self::Map(_) | Self::Source => "1.4.0-z",
        }
    }
}
