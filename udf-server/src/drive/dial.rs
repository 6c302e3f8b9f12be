//! How the platform gets to a server: dial, `IsReady`, server-info.

use std::path::PathBuf;
use std::time::Duration;

use numaflow_sdk::testing::{ClientError, Connection, MapClient, ServerInfo};
use tokio::time::{Instant, sleep, timeout};

use super::DriveError;
use super::context::Context;
use super::journal::Notice;
use super::wire::Wire;
use crate::error::chain;

/// The gRPC code of a call that the server doesn't offer.
const UNIMPLEMENTED: i32 = 12;
/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// A server under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAt {
    /// Its socket.
    pub socket: PathBuf,
    /// Its server-info file; `None` leaves it unread, which the platform never does.
    pub info: Option<PathBuf>,
}

impl ServerAt {
    /// Dials until the socket accepts and then asks `IsReady` until there is an answer, whatever it says. Gives up when
    /// that takes too long; safe to cancel.
    pub(super) async fn dial(&self, service: &str, context: &Context) -> Result<Connection, DriveError> {
        let mut told = false;
        let begun = Instant::now();
        loop {
            let result = async {
                let wire = Wire::connect(&self.socket, context.killed.clone()).await;
                let wire = wire.map_err(|source| ClientError::Connect { path: self.socket.clone(), source })?;
                let connection = Connection::over(wire).await?;
                connection.is_ready(service).await?;
                Ok(connection)
            };
            match context.patiently("an answer to IsReady", result).await? {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let waited = begun.elapsed();
                    let left = context.left(waited);
                    if left == Some(Duration::ZERO) {
                        return Err(self.not_reached(service, waited, &error));
                    }
                    if !told {
                        context.journal.note(Notice::Waiting { socket: self.socket.clone(), error });
                        told = true;
                    }
                    sleep(left.map_or(context.pauses.dial, |left| left.min(context.pauses.dial))).await;
                }
            }
        }
    }

    /// What to do about a server that was not reached in time.
    fn not_reached(&self, service: &str, waited: Duration, error: &ClientError) -> DriveError {
        let unimplemented = error.status().is_some_and(|status| status.code == UNIMPLEMENTED);
        let advice = match service {
            _ if !unimplemented && !self.socket.exists() => {
                "there is no such socket: start the server, or correct its path"
            }
            _ if !unimplemented => "look at the server's log",
            MapClient::SERVICE => "another kind of server is there: give a source by --source, and a map by --map",
            _ => "another kind of server is there: give a map by --map, and a source by --source",
        };
        let what = format!("the server on {}, asked for {service}", self.socket.display());
        DriveError::GaveUp { what, waited, last: Some(chain(error)), advice }
    }

    /// Reads the server-info file, waiting for it where it isn't there.
    pub(super) async fn info(&self, context: &Context) -> Result<Option<ServerInfo>, DriveError> {
        let Some(path) = &self.info else {
            return Ok(None);
        };
        match ServerInfo::read(path) {
            Ok(info) => Ok(Some(info)),
            Err(error) => {
                let last = chain(&error);
                context.journal.note(Notice::WaitingForInfo { error });
                let waited = context.left(Duration::ZERO);
                match timeout(waited.unwrap_or(FOR_EVER), ServerInfo::wait(path)).await {
                    Ok(info) => info.map(Some).map_err(DriveError::Info),
                    Err(_) => Err(DriveError::GaveUp {
                        what: format!("the server-info file {}", path.display()),
                        waited: waited.unwrap_or_default(),
                        last: Some(last),
                        advice: "the server writes it when it starts: start it, or correct the path",
                    }),
                }
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
