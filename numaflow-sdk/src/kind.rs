//! The kinds of server, and what the platform expects of each (protocol: service catalogue).

/// What a server does for the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `map.v1.Map` in unary mode: one answer a message.
    UnaryMap,
    /// `source.v1.Source`.
    Source,
}

impl Kind {
    /// The name of the socket that the platform dials, below `/var/run/numaflow`.
    #[must_use]
    pub const fn socket_name(self) -> &'static str {
        match self {
            Self::UnaryMap => "map.sock",
            Self::Source => "source.sock",
        }
    }

    /// The name of the server-info file that the platform reads, below `/var/run/numaflow`.
    #[must_use]
    pub const fn server_info_name(self) -> &'static str {
        match self {
            Self::UnaryMap => "mapper-server-info",
            Self::Source => "sourcer-server-info",
        }
    }

    /// The container that the platform runs this kind in, where `NUMAFLOW_UD_CONTAINER_TYPE` does not say.
    #[must_use]
    pub const fn container_type(self) -> &'static str {
        match self {
            Self::UnaryMap => "udf",
            Self::Source => "udsource",
        }
    }

    /// The map mode as the server-info file names it; `None` for what is not a map.
    #[must_use]
    pub const fn map_mode(self) -> Option<&'static str> {
        match self {
            Self::UnaryMap => Some("unary-map"),
            Self::Source => None,
        }
    }

    /// The lowest platform version that speaks this kind's protocol; `-z` lets pre-releases of later versions pass.
    pub(crate) const fn minimum_numaflow_version(self) -> &'static str {
        match self {
            Self::UnaryMap | Self::Source => "1.4.0-z",
        }
    }
}
