//! How the platform gets to a server: dial, `IsReady`, server-info.

use std::path::PathBuf;

use numaflow_sdk::testing::{ClientError, Connection, ServerInfo};
use tokio::time::sleep;

use super::DriveError;
use super::context::Context;
use super::journal::Notice;
use super::wire::Wire;

/// A server under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAt {
    /// Its socket.
    pub socket: PathBuf,
    /// Its server-info file; `None` leaves it unread, which the platform never does.
    pub info: Option<PathBuf>,
}

impl ServerAt {
    /// Dials until the socket accepts and then asks `IsReady` until there is an answer, whatever it says. Never gives up;
    /// safe to cancel.
    pub(super) async fn dial(&self, service: &str, context: &Context) -> Connection {
        let mut told = false;
        loop {
            let result = async {
                let wire = Wire::connect(&self.socket, context.killed.clone()).await;
                let wire = wire.map_err(|source| ClientError::Connect { path: self.socket.clone(), source })?;
                let connection = Connection::over(wire).await?;
                connection.is_ready(service).await?;
                Ok(connection)
            };
            match context.patiently("an answer to IsReady", result).await {
                Ok(connection) => return connection,
                Err(error) => {
                    if !told {
                        context.journal.note(Notice::Waiting { socket: self.socket.clone(), error });
                        told = true;
                    }
                    sleep(context.pauses.dial).await;
                }
            }
        }
    }

    /// Reads the server-info file, waiting for it where it isn't there.
    pub(super) async fn info(&self, context: &Context) -> Result<Option<ServerInfo>, DriveError> {
        let Some(path) = &self.info else {
            return Ok(None);
        };
        match ServerInfo::read(path) {
            Ok(info) => Ok(Some(info)),
            Err(error) => {
                context.journal.note(Notice::WaitingForInfo { error });
                ServerInfo::wait(path).await.map(Some).map_err(DriveError::Info)
            }
        }
    }
}

/// Whether the platform calls `NackFn` of a server with this info.
pub(super) fn can_nack(info: &ServerInfo) -> bool {
    let since = match info.language.as_str() {
        "rust" => (0, 4),
        "go" | "java" | "python" => (0, 11),
        _ => return false,
    };
    let version = info.version.trim_start_matches('v');
    let mut parts = version.split(['.', '-', '+']).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= since,
        _ => false,
    }
}
