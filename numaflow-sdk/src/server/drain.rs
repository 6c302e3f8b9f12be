//! The way down: what is told to stop, who is still at work, and who can be made to stop.

use std::future::Future;
use std::sync::{Arc, Mutex};

use hyper::rt::Executor;
use tokio::task::AbortHandle;
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
    streams: TaskTracker,
    tasks: Tasks,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self {
            started: CancellationToken::new(),
            closing: CancellationToken::new(),
            streams: TaskTracker::new(),
            tasks: Tasks::default(),
        }
    }

    /// The handle for user code.
    pub(crate) fn draining(&self) -> Draining {
        Draining { started: self.started.clone() }
    }

    pub(crate) fn start(&self) {
        self.started.cancel();
        self.streams.close();
        self.tasks.tracker.close();
    }

    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Ready when streams are to end.
    pub(crate) fn closing(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }

    /// Counts a stream as open until the token is dropped.
    pub(crate) fn open_stream(&self) -> TaskTrackerToken {
        self.streams.token()
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Waits until no stream is open. Only after [`Drain::start`].
    pub(crate) async fn streams_closed(&self) {
        self.streams.wait().await;
    }

    /// Waits until every connection is over. Only after [`Drain::start`].
    pub(crate) async fn tasks_finished(&self) {
        self.tasks.tracker.wait().await;
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}

/// The tasks of connections and, through hyper, of their streams: spawned here so that a drain can wait for all of them
/// and abort what is left. A stream's own handlers hang off it and go with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    running: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Tasks {
    pub(crate) fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = self.tracker.spawn(future).abort_handle();
        let Ok(mut running) = self.running.lock() else { return };
        if running.len() == running.capacity() {
            running.retain(|task| !task.is_finished());
        }
        running.push(handle);
    }

    pub(crate) fn abort_all(&self) {
        let Ok(mut running) = self.running.lock() else { return };
        for task in running.drain(..) {
            task.abort();
        }
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.spawn(async move {
            drop(future.await);
        });
    }
}
