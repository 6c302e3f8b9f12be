//! What all parts of a run share.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use numaflow_sdk::testing::ClientError;
use tokio::time::{Instant, sleep_until};

use super::breach::Breach;
use super::journal::{Journal, Notice};
use super::wire::Killed;
use super::{DriveError, Pauses, Platform, ServerAt, Settings};
use crate::error::chain;

/// How long a server may keep the platform waiting before that is worth a word.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Since when a server fails without anything that went well in between.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<Instant>);

impl Trouble {
    /// Something went well.
    pub(super) fn over(&mut self) {
        self.0 = None;
    }
}

/// What all parts of a run share. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) pauses: Pauses,
    /// How long a server may keep the driver waiting.
    wait: Option<Duration>,
    pub(super) platform: Platform,
    pub(super) journal: Journal,
    pub(super) killed: Killed,
}

impl Context {
    pub(super) fn new(settings: &Settings, journal: Journal) -> Self {
        let Settings { pauses, platform, wait, .. } = *settings;
        Self { pauses, wait, platform, journal, killed: Killed::new() }
    }

    /// Says that something failed and is tried again, unless that is not for this platform, the server broke the protocol,
    /// or it has gone on for too long: all of these end the run.
    pub(super) fn lost(
        &self,
        server: &ServerAt,
        what: &'static str,
        error: ClientError,
        trouble: &mut Trouble,
    ) -> Result<(), DriveError> {
        if error.is_protocol_violation() {
            return Err(DriveError::Server { socket: server.socket.clone(), error });
        }
        self.exits(what, || chain(&error))?;
        self.goes_on(trouble, server, what, || chain(&error))?;
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

    /// Notes another failure, and ends the run where nothing has gone well for as long as a server may take.
    pub(super) fn goes_on(
        &self,
        trouble: &mut Trouble,
        server: &ServerAt,
        what: &str,
        problem: impl FnOnce() -> String,
    ) -> Result<(), DriveError> {
        let since = *trouble.0.get_or_insert_with(Instant::now);
        let waited = since.elapsed();
        if self.wait.is_none_or(|wait| waited < wait) {
            return Ok(());
        }
        Err(DriveError::GaveUp {
            what: format!("{what} to {} to work again", server.socket.display()),
            waited,
            last: Some(problem()),
            advice: "it fails again and again: look at the server's log",
        })
    }

    /// How long to wait from now until the driver gives up, where it has waited so long already; `None` for ever.
    pub(super) fn left(&self, waited: Duration) -> Option<Duration> {
        self.wait.map(|wait| wait.saturating_sub(waited))
    }

    /// Waits for something that the platform waits for without a limit, and says so from time to time. Gives up in the end.
    pub(super) async fn patiently<T>(
        &self,
        what: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<T, DriveError> {
        self.patiently_after(Duration::ZERO, what, future).await
    }

    /// The same for something that may well take so long.
    pub(super) async fn patiently_after<T>(
        &self,
        usual: Duration,
        what: &'static str,
        future: impl Future<Output = T>,
    ) -> Result<T, DriveError> {
        let mut future = pin!(future);
        let begun = Instant::now();
        let mut next = usual.saturating_add(PATIENCE);
        loop {
            let end = self.wait.map(|wait| usual.saturating_add(wait));
            tokio::select! {
                biased;
                result = &mut future => return Ok(result),
                () = sleep_until(begun + end.map_or(next, |end| end.min(next))) => {
                    let waited = begun.elapsed();
                    if end.is_some_and(|end| waited >= end) {
                        return Err(DriveError::GaveUp {
                            what: what.to_owned(),
                            waited,
                            last: None,
                            advice: "the server is there and does not answer: look at its log",
                        });
                    }
                    next += PATIENCE;
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
