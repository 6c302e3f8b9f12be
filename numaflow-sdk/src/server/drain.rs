//! The way down: what is told to stop, who is still at work, and who can be made to stop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Context as TaskContext;

use tokio::time::Instant;
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
    /// The server is to drain although nobody outside asked for it.
    asked: CancellationToken,
    /// When the server was first known to have to drain.
    begun: Arc<OnceLock<Instant>>,
    herald: Herald,
    streams: TaskTracker,
    connections: TaskTracker,
    /// What streams had read and gave up because of the drain.
    given_up: Arc<Mutex<Vec<Listed>>>,
}

/// Told that the server is to drain, once and by the thread that finds it out.
#[derive(Clone, Default)]
struct Herald(Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>);

impl fmt::Debug for Herald {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Herald").finish_non_exhaustive()
    }
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self {
            started: CancellationToken::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            panicked: CancellationToken::new(),
            asked: CancellationToken::new(),
            begun: Arc::default(),
            herald: Herald::default(),
            streams: TaskTracker::new(),
            connections: TaskTracker::new(),
            given_up: Arc::default(),
        }
    }

    /// Calls `herald` once the server is to drain, before the drain does anything. The thread that finds out calls it: the
    /// workers of the runtime may all be blocked. It must not block.
    pub(crate) fn tell(&self, herald: impl Fn() + Send + Sync + 'static) {
        // A server has one.
        drop(self.herald.0.set(Box::new(herald)));
    }

    /// The server is to drain. Returns when that was first known.
    pub(crate) fn begin(&self) -> Instant {
        let mut first = false;
        let begun = *self.begun.get_or_init(|| {
            first = true;
            Instant::now()
        });
        if first && let Some(herald) = self.herald.0.get() {
            herald();
        }
        begun
    }

    /// Asks the server to drain.
    pub(crate) fn ask(&self) {
        self.begin();
        self.asked.cancel();
    }

    /// Waits until the server is asked to drain by something inside of it.
    pub(crate) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// The server is to end with an error, because a handler has panicked, or something that runs when the drain starts.
    pub(crate) fn end_after_panic(&self) {
        self.panicked.cancel();
        self.ask();
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.is_cancelled()
    }

    /// A stream ends without these messages, which it had read.
    pub(crate) fn give_up(&self, messages: impl Iterator<Item = Listed>) {
        self.given_up().extend(messages);
    }

    /// What streams have given up so far.
    pub(crate) fn gave_up(&self) -> Vec<Listed> {
        self.given_up().clone()
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
    pub(crate) fn closed(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }

    /// Tells one stream when it is to end.
    pub(crate) fn closing(&self) -> Closing {
        Closing { waiting: Some(Box::pin(self.closed())) }
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

/// What a stream asks whether it is to end.
#[derive(Debug)]
pub(crate) struct Closing {
    /// `None` once it is to.
    waiting: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Closing {
    /// Whether the stream is to end; otherwise the task is woken when it is.
    pub(crate) fn poll(&mut self, cx: &mut TaskContext<'_>) -> bool {
        if let Some(waiting) = &mut self.waiting
            && waiting.as_mut().poll(cx).is_ready()
        {
            self.waiting = None;
        }
        self.has_begun()
    }

    /// Whether the last poll said that the stream is to end.
    pub(crate) fn has_begun(&self) -> bool {
        self.waiting.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Whoever keeps the deadline must learn of a drain from the thread that finds it out, and not from the runtime, whose
    /// workers may be blocked a moment later.
    #[test]
    fn the_thread_that_asks_for_a_drain_tells_of_it() {
        let asks: [fn(&Drain); 3] = [Drain::ask, Drain::end_after_panic, |drain| _ = drain.begin()];
        for ask in asks {
            let (drain, told) = (Drain::new(), Arc::new(AtomicUsize::new(0)));
            let counted = told.clone();
            drain.tell(move || _ = counted.fetch_add(1, Ordering::SeqCst));
            assert_eq!(told.load(Ordering::SeqCst), 0);
            ask(&drain);
            assert_eq!(told.load(Ordering::SeqCst), 1);
            let begun = drain.begin();
            ask(&drain);
            assert_eq!((drain.begin(), told.load(Ordering::SeqCst)), (begun, 1), "once");
        }
    }
}
