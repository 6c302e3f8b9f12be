//! The way down: what is told to stop, who is still at work, and who can be made to stop.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::in_flight::Listed;

/// Tells user code that the server was asked to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Draining {
    started: CancellationToken,
}

impl Draining {
    /// Waits until the drain starts; ready at once when it already has.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// Whether the drain has started.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started.is_cancelled()
    }
}

/// What a server and its streams share about stopping.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    /// The server was asked to stop; it still answers what its peers have open and send.
    started: CancellationToken,
    /// Streams stop reading, answer what is in flight and end; connections take no new ones.
    closing: CancellationToken,
    /// Connections break off, and everything that hangs off them with them.
    cut: CancellationToken,
    /// A handler has panicked that the server is to end for, or something that runs when the drain starts.
    panicked: CancellationToken,
    streams: TaskTracker,
    connections: TaskTracker,
    /// What streams had read and gave up because of the drain.
    given_up: Arc<Mutex<Vec<Listed>>>,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self {
            started: CancellationToken::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            panicked: CancellationToken::new(),
            streams: TaskTracker::new(),
            connections: TaskTracker::new(),
            given_up: Arc::default(),
        }
    }

    /// The server is to end, because a handler has panicked.
    pub(crate) fn end_after_panic(&self) {
        self.panicked.cancel();
    }

    /// Waits until the server is to end because a handler has panicked.
    pub(crate) async fn panicked(&self) {
        self.panicked.cancelled().await;
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.is_cancelled()
    }

    /// A stream ends without these messages, which it had read.
    pub(crate) fn give_up(&self, messages: impl Iterator<Item = Listed>) {
        self.given_up().extend(messages);
    }

    /// What streams have given up so far.
    pub(crate) fn take_given_up(&self) -> Vec<Listed> {
        std::mem::take(&mut *self.given_up())
    }

    fn given_up(&self) -> MutexGuard<'_, Vec<Listed>> {
        // Nothing panics while it holds the lock.
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle for user code.
    pub(crate) fn draining(&self) -> Draining {
        Draining { started: self.started.clone() }
    }

    pub(crate) fn start(&self) {
        self.started.cancel();
        for tracker in [&self.streams, &self.connections] {
            tracker.close();
        }
    }

    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// Ready when streams are to end.
    pub(crate) fn closing(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }

    /// Ready when connections are to break off.
    pub(crate) fn cutting(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Counts a stream as open until the token is dropped.
    pub(crate) fn open_stream(&self) -> TaskTrackerToken {
        self.streams.token()
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn spawn_connection(&self, connection: impl Future<Output = ()> + Send + 'static) {
        drop(self.connections.spawn(connection));
    }

    /// Waits until no stream is open. Only after [`Drain::start`].
    pub(crate) async fn streams_closed(&self) {
        self.streams.wait().await;
    }

    /// Waits until every connection is over, and its calls with it. Only after [`Drain::start`].
    pub(crate) async fn connections_closed(&self) {
        self.connections.wait().await;
    }
}
