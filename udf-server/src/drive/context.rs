//! What all parts of a run share.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use numaflow_sdk::testing::ClientError;
use tokio::time::sleep;

use super::breach::Breach;
use super::journal::{Journal, Notice};
use super::wire::Killed;
use super::{DriveError, Pauses, Platform, ServerAt, Settings};
use crate::error::chain;

/// How long a server may keep the platform waiting before that is worth a word.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What all parts of a run share. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) pauses: Pauses,
    pub(super) platform: Platform,
    pub(super) journal: Journal,
    pub(super) killed: Killed,
}

impl Context {
    pub(super) fn new(settings: &Settings, journal: Journal) -> Self {
        let Settings { pauses, platform, .. } = *settings;
        Self { pauses, platform, journal, killed: Killed::new() }
    }

    /// Says that something failed and is tried again, unless that is not for this platform, or the server broke the
    /// protocol: both end the run.
    pub(super) fn lost(&self, server: &ServerAt, what: &'static str, error: ClientError) -> Result<(), DriveError> {
        if error.is_protocol_violation() {
            return Err(DriveError::Server { socket: server.socket.clone(), error });
        }
        self.exits(what, || chain(&error))?;
        self.journal.note(Notice::Lost { what, error });
        Ok(())
    }

    /// Ends the run where the platform is one that exits when something fails.
    pub(super) fn exits(&self, what: &'static str, problem: impl FnOnce() -> String) -> Result<(), DriveError> {
        match self.platform {
            Platform::V1_8 => Err(DriveError::Exits { what, problem: problem() }),
            Platform::Main => Ok(()),
        }
    }

    /// Waits for something that the platform waits for without a limit, and says so from time to time.
    pub(super) async fn patiently<T>(&self, what: &'static str, future: impl Future<Output = T>) -> T {
        self.patiently_after(Duration::ZERO, what, future).await
    }

    /// The same for something that may well take so long.
    pub(super) async fn patiently_after<T>(
        &self,
        usual: Duration,
        what: &'static str,
        future: impl Future<Output = T>,
    ) -> T {
        let mut future = pin!(future);
        let (mut waited, mut pause) = (Duration::ZERO, usual.saturating_add(PATIENCE));
        loop {
            tokio::select! {
                biased;
                result = &mut future => return result,
                () = sleep(pause) => {
                    waited += pause;
                    pause = PATIENCE;
                    self.journal.note(Notice::Silent { what: what.to_owned(), time: waited });
                }
            }
        }
    }

    /// Counts what a server did against the protocol, and tells of the first of each kind.
    pub(super) fn breach(&self, breach: Breach, what: impl FnOnce() -> String) {
        self.journal.breach(breach, self.platform, what);
    }
}
