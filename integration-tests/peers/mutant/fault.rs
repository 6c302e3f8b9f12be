//! What a fault is.

use std::fmt;
use std::path::{Path, PathBuf};

use numaflow_conformance::Kind;
use numaflow_sdk::Settings;
use serde::Serialize;
use serde_json::Value;

use crate::edits::{Call, Edits};

/// One thing that a server does wrong, and nothing else.
#[derive(Serialize)]
pub(crate) struct Fault {
    /// What it is called on the command line and in results.
    pub(crate) name: &'static str,
    /// What the server does, in one sentence.
    pub(crate) sentence: &'static str,
    /// The kinds of server that can have it.
    #[serde(serialize_with = "in_words")]
    pub(crate) kinds: &'static [Kind],
    /// The cases that have to catch it, each in all of these kinds that it is for.
    pub(crate) cases: &'static [&'static str],
    /// Told as the place where the fault is made.
    #[serde(rename = "place")]
    pub(crate) how: How,
}

fn in_words<S: serde::Serializer>(kinds: &&'static [Kind], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(kinds.iter().map(ToString::to_string))
}

/// How a server is made to have a fault.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// Not at all: the server as it is.
    Unmutated,
    /// What goes over the socket is changed on its way.
    Relay(fn(&Call) -> Edits),
    /// The same in front of a map that answers messages one by one, whatever the mode.
    RelayToUnary(fn(&Call) -> Edits),
    /// Its settings are wrong.
    Settings(fn(&mut Settings)),
    /// A map's handler, or batch, begins when the one before it is over.
    OneAtATime,
    /// Something is done before it starts, or keeps it from that.
    BeforeStart(fn(&Paths) -> Result<(), String>),
    /// The server-info file has another content.
    ServerInfo(fn(Value) -> String),
    /// One of its files is not where it should be.
    Elsewhere(Which),
    /// SIGTERM is met by something else than a drain.
    Sigterm(Sigterm),
}

/// A file that a server makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Socket,
    ServerInfo,
}

/// What a server does at SIGTERM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sigterm {
    /// What it should.
    Drain,
    Ignore,
    EndAtOnce,
    /// It drains, and both files are there when it is over.
    LeaveFiles,
}

/// The paths that the suite has told.
pub(crate) struct Paths {
    pub(crate) socket: PathBuf,
    pub(crate) server_info: PathBuf,
}

impl Paths {
    /// None where the server is to be at the platform's own.
    pub(crate) fn told(settings: &Settings) -> Option<Self> {
        Some(Self { socket: settings.socket_path.clone()?, server_info: settings.server_info_path.clone()? })
    }

    /// A file beside the socket, for what nobody but the mutant looks at.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.socket.parent().unwrap_or(Path::new("/")).join(name)
    }
}

impl Serialize for How {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmutated => "nowhere",
            Self::Relay(_) | Self::RelayToUnary(_) => "relay",
            Self::Settings(_) | Self::OneAtATime => "server",
            Self::BeforeStart(_) => "start",
            Self::ServerInfo(_) | Self::Elsewhere(_) => "files",
            Self::Sigterm(_) => "end",
        })
    }
}
