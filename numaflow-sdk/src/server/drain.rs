//! The way down: what is told to stop, who is still at work, and who can be made to stop.

use std::future::Future;

use hyper::rt::Executor;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

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
    streams: TaskTracker,
    connections: TaskTracker,
    calls: Calls,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self {
            started: CancellationToken::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            streams: TaskTracker::new(),
            connections: TaskTracker::new(),
            calls: Calls(TaskTracker::new()),
        }
    }

    /// The handle for user code.
    pub(crate) fn draining(&self) -> Draining {
        Draining { started: self.started.clone() }
    }

    pub(crate) fn start(&self) {
        self.started.cancel();
        for tracker in [&self.streams, &self.connections, &self.calls.0] {
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

    /// Waits until every connection is over, and the tasks of its calls. Only after [`Drain::start`].
    pub(crate) async fn connections_closed(&self) {
        self.connections.wait().await;
        self.calls.0.wait().await;
    }

    /// What hyper spawns the tasks of calls on.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

/// The tasks that hyper makes, one a call: spawned here, so that a drain can wait for them. They end with their
/// connection, and the handlers of a stream with its call.
#[derive(Debug, Clone)]
pub(crate) struct Calls(TaskTracker);

impl<F> Executor<F> for Calls
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, call: F) {
        drop(self.0.spawn(call));
    }
}
