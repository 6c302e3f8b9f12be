//! What a server says of itself when it starts.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::additions::PATHS;
use crate::kind::Kind;
use crate::limit::MaxInFlight;

/// What a server is and what it was set to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Description {
    /// What the server does for the platform.
    pub kind: Kind,
    /// Where it listens.
    pub socket_path: PathBuf,
    /// Where its info file is.
    pub server_info_path: PathBuf,
    /// The most messages in flight.
    pub max_in_flight: MaxInFlight,
    /// The most bytes of messages in flight.
    pub max_in_flight_bytes: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Where the admin endpoint listens.
    pub admin: Option<SocketAddr>,
    /// The paths of the pages that the program has added to it.
    pub(super) admin_pages: Vec<String>,
    /// Whether the program was compiled with `panic = "abort"`.
    pub(super) aborts: bool,
    /// Where the three limits come from, in the order of their fields.
    pub(super) origins: [Cow<'static, str>; 3],
    /// What the service has to say of itself.
    pub(super) service: Vec<(&'static str, String)>,
}

impl Description {
    /// The version that the server-info file claims, which is not this crate's own: the platform compares it with the
    /// versions of the official Rust SDK.
    #[must_use]
    pub const fn claimed_sdk_version(&self) -> &'static str {
        super::info::SDK_VERSION
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Map(mode) => write!(f, "map ({mode})")?,
            Kind::Source => f.write_str("source")?,
        }
        writeln!(f, " on {}", self.socket_path.display())?;
        writeln!(
            f,
            "  server info  {} (numaflow-sdk {}, known to the platform as rust {})",
            self.server_info_path.display(),
            env!("CARGO_PKG_VERSION"),
            self.claimed_sdk_version()
        )?;
        let [messages, bytes, drain] = &self.origins;
        let adapts = match self.max_in_flight {
            MaxInFlight::Fixed(_) => "",
            MaxInFlight::Adaptive { .. } => ", adapts to the handlers' latency",
        };
        writeln!(
            f,
            "  in flight    at most {} messages ({messages}{adapts}), {} KiB ({bytes})",
            self.max_in_flight,
            self.max_in_flight_bytes >> 10
        )?;
        write!(f, "  drain        at most {:?} ({drain})", self.drain_timeout)?;
        self.service.iter().try_for_each(|(name, text)| write!(f, "\n  {name:<13}{text}"))?;
        if self.aborts {
            f.write_str(
                "\n  panics       each ends the process, which was built with panic = \"abort\": build it with \"unwind\" to lose \
                 one message's work instead",
            )?;
        }
        let Some(address) = self.admin else { return Ok(()) };
        write!(f, "\n  admin        http://{address}")?;
        let added = self.admin_pages.iter().map(String::as_str);
        PATHS.into_iter().chain(added).try_for_each(|path| write!(f, " {path}"))
    }
}
