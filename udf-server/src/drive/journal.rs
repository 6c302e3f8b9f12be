//! What happens during a run, for whoever watches: numbers and notices.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use numaflow_sdk::testing::{ClientError, InfoError};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::Platform;
use super::breach::{Breach, Breached, Breaches};
use crate::error::chain;

/// Notices that wait for a watcher; when nobody takes them, later ones are dropped, since they are for people.
const NOTICES: usize = 64;

/// The numbers of a run.
///
/// Every message read is counted in one of `mapped`, `dropped`, `dead_letters`, `nacked` and `redelivered`, once it is
/// resolved; a message that the source delivers again after a nack is read again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Messages read, without the in-flight duplicates.
    pub read: u64,
    /// Messages with at least one output.
    pub mapped: u64,
    /// Messages without output.
    pub dropped: u64,
    /// Messages whose outputs were all tagged `dead-letter`.
    pub dead_letters: u64,
    /// Messages that the map nacked.
    pub nacked: u64,
    /// Messages that came again after they were resolved: acked again, not mapped and not written again.
    pub redelivered: u64,
    /// Messages acked, those that came again included.
    pub acked: u64,
    /// Outputs written, dead letters not included.
    pub outputs: u64,
    /// Messages that came again while they were in flight, and were dropped.
    pub in_flight_duplicates: u64,
    /// Requests that were sent to the map again because its stream broke.
    pub redriven: u64,
    /// Requests that were sent to the map again because it asked for that with the FAIL tag.
    pub retried: u64,
    /// Second answers to messages that were sent twice on purpose.
    pub duplicate_answers: u64,
    /// How often the source's read stream was opened again.
    pub read_reconnects: u64,
    /// How often the source's ack stream was opened again.
    pub ack_reconnects: u64,
    /// How often the map's stream was opened again.
    pub map_reconnects: u64,
    /// How many messages wait at the source, as far as it last said.
    pub pending: Option<u64>,
}

impl Counts {
    /// Distinct messages that are done with: written, dropped or dead letters.
    #[must_use]
    pub const fn resolved(&self) -> u64 {
        self.mapped + self.dropped + self.dead_letters
    }
}

/// Something that a person who watches a run wants to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A server can't be reached; the driver keeps trying.
    Waiting {
        /// Its socket.
        socket: PathBuf,
        /// What came of the last attempt.
        error: ClientError,
    },
    /// A server-info file can't be used yet; the driver keeps looking.
    WaitingForInfo {
        /// What is wrong with it.
        error: InfoError,
    },
    /// A stream or call failed; the driver tries again.
    Lost {
        /// What failed.
        what: &'static str,
        /// How.
        error: ClientError,
    },
    /// A server broke the protocol for the first time in this way, and the platform goes on.
    Breached(Breached),
    /// A server does not do what the platform waits for, without a limit.
    Silent {
        /// What the platform waits for.
        what: String,
        /// How long it has waited, or waited again.
        time: Duration,
    },
    /// The source says in its server-info that it has no `NackFn` that the platform would call.
    CannotNack,
    /// Nacks were given up after the platform's number of attempts.
    NackGivenUp,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { socket, error } => {
                write!(f, "waiting for the server on {}: {}", socket.display(), chain(error))
            }
            Self::WaitingForInfo { error } => write!(f, "waiting: {}", chain(error)),
            Self::Lost { what, error } => write!(f, "{what} failed and is tried again: {}", chain(error)),
            Self::Breached(breached) => breached.fmt(f),
            Self::Silent { what, time } => {
                write!(f, "waiting for {what}, for {} s now: the platform waits for ever", time.as_secs())
            }
            Self::CannotNack => f.write_str(
                "the map nacked messages and the source's SDK is too old for NackFn: they come again only if the source \
                 sees to it",
            ),
            Self::NackGivenUp => f.write_str("the source refused a nack for two minutes: it is given up"),
        }
    }
}

/// The watching side.
#[derive(Debug)]
pub struct Watcher {
    /// The numbers, as they are now.
    pub counts: watch::Receiver<Counts>,
    /// What happens; [`None`] when the run is over.
    pub notices: mpsc::Receiver<Notice>,
}

/// The writing side.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    counts: watch::Sender<Counts>,
    notices: mpsc::Sender<Notice>,
    breaches: Arc<Mutex<Breaches>>,
}

impl Journal {
    pub(super) fn new() -> (Self, Watcher) {
        let (counts, counts_seen) = watch::channel(Counts::default());
        let (notices, notices_seen) = mpsc::channel(NOTICES);
        (Self { counts, notices, breaches: Arc::default() }, Watcher { counts: counts_seen, notices: notices_seen })
    }

    /// Changes the numbers: once for a batch, not for each message.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    pub(super) fn note(&self, notice: Notice) {
        // Nobody may be watching, or not fast enough.
        drop(self.notices.try_send(notice));
    }

    /// Counts what a server did against the protocol, and tells of the first of each kind.
    pub(super) fn breach(&self, breach: Breach, platform: Platform, what: impl FnOnce() -> String) {
        let first = self.breaches().add(breach, platform, what).cloned();
        if let Some(first) = first {
            self.note(Notice::Breached(first));
        }
    }

    /// All ways in which servers broke the protocol so far.
    pub(super) fn breached(&self) -> Vec<Breached> {
        self.breaches().all()
    }

    fn breaches(&self) -> MutexGuard<'_, Breaches> {
        // Counting can't be left half done.
        self.breaches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
