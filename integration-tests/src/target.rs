//! The server under test.

use std::path::PathBuf;

use tokio::net::UnixStream;

use crate::Kind;
use crate::server::Launcher;
use crate::wire::Transcript;

/// Where a server that runs is to be found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// What it serves.
    pub kind: Kind,
    /// The Unix socket it listens on.
    pub socket: PathBuf,
    /// The server-info file it has written.
    pub server_info: PathBuf,
    /// What goes over the socket in one case.
    pub(crate) transcript: Transcript,
}

impl Target {
    /// Creates a target.
    #[must_use]
    pub fn new(kind: Kind, socket: impl Into<PathBuf>, server_info: impl Into<PathBuf>) -> Self {
        Self { kind, socket: socket.into(), server_info: server_info.into(), transcript: Transcript::default() }
    }

    /// The same at other paths; what goes over the socket is of the same case.
    pub(crate) fn at(&self, socket: impl Into<PathBuf>, server_info: impl Into<PathBuf>) -> Self {
        Self { transcript: self.transcript.clone(), ..Self::new(self.kind, socket, server_info) }
    }
}

/// What the suite is given to grade.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Subject {
    /// A server that somebody has started. Cases that start and stop servers are not run.
    Running(Target),
    /// The command of a server: a simple command for `sh`, which expands it and then becomes it. Each case gets a process
    /// of its own.
    Command {
        /// What the command is to serve.
        kind: Kind,
        /// The command.
        command: String,
    },
}

impl Subject {
    /// Whether there is a server at all, so that a mistake in the command line is not taken for one of the server's.
    ///
    /// # Errors
    ///
    /// A sentence that says what there was instead of a server that takes connections, and what to look at.
    pub async fn probe(&self) -> Result<(), String> {
        match self {
            Self::Running(target) => match UnixStream::connect(&target.socket).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!(
                    "nobody listens on {} ({error}): start the server first, give its path by --socket, or its command by \
                     --exec",
                    target.socket.display()
                )),
            },
            Self::Command { kind, command } => {
                let launcher =
                    Launcher::new(*kind, command).map_err(|error| format!("no folder for its files: {error}"))?;
                let Err(unproven) = launcher.start().await else { return Ok(()) };
                let log = launcher.log();
                Err(format!(
                    "the command {command:?} does not serve {kind}: {unproven}. It is told CONFORMANCE_KIND, \
                     CONFORMANCE_SOCKET and CONFORMANCE_SERVER_INFO. What it printed:\n{log}"
                ))
            }
        }
    }

    /// What is served.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Running(target) => target.kind,
            Self::Command { kind, .. } => *kind,
        }
    }
}
