//! A connection and the calls on it, polled together in one task.
//!
//! A call is woken by its connection, for what was received, and wakes it in turn, for what is to be sent. As tasks of their
//! own they would pass a thread back and forth: tokio lets a thread keep a task that it woke itself three times in a row,
//! then wakes another thread for it. A quarter of the CPU that a message costs went into that.
//!
//! What they may not do is hold the thread: see the turns of a `MapFn` stream, and handlers that are heavy.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::stream::{FuturesUnordered, Stream};
use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use tokio::task::yield_now;

use crate::panic::catching;

/// A call, whose panics end nothing but itself: those of handlers are caught before they get here, but user code runs in
/// other places too, such as the drop of what a handler left.
struct Call {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { return Poll::Ready(()) };
        match catching(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(panic) => crate::logging::error!(%panic, "a call ends, because it panicked outside of its handler"),
        }
        self.end();
        Poll::Ready(())
    }
}

impl Call {
    /// Drops what is left of it.
    fn end(&mut self) {
        let future = self.future.take();
        if let Err(panic) = catching(|| drop(future)) {
            crate::logging::error!(%panic, "what a call left panicked when it was dropped");
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end();
    }
}

/// After so many rounds the task lets others have the thread.
const ROUNDS: usize = 32;

/// The calls that hyper starts during a poll of their connection.
#[derive(Clone, Default)]
pub(super) struct Calls {
    started: Arc<Mutex<Vec<Call>>>,
    turn: Turn,
}

impl Calls {
    /// For the calls.
    pub(super) fn turn(&self) -> Turn {
        self.turn.clone()
    }
}

/// With this a call ends the turn of its connection, in an extension of its request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn {
    ended: Arc<AtomicBool>,
    /// Whether the runtime is to look for input and output before the next turn.
    after_input: Arc<AtomicBool>,
}

impl Turn {
    /// Lets other tasks of this thread go first; the call is polled again after them. To be followed by `Pending`.
    pub(crate) fn end(&self, cx: &Context<'_>) {
        self.ended.store(true, Ordering::Relaxed);
        cx.waker().wake_by_ref();
    }

    /// Lets other tasks of this thread go first, and those as well for which input has come meanwhile: the runtime looks for
    /// it only now and then while tasks are ready.
    pub(super) fn end_for_input(&self) {
        self.after_input.store(true, Ordering::Relaxed);
        self.ended.store(true, Ordering::Relaxed);
    }

    fn take_after_input(&self) -> bool {
        self.after_input.swap(false, Ordering::Relaxed)
    }

    fn take_end(&self) -> bool {
        self.ended.swap(false, Ordering::Relaxed)
    }
}

impl<F> Executor<F> for Calls
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, call: F) {
        let call = Call { future: Some(Box::pin(async move { drop(call.await) })) };
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// Polls a connection and its calls until the connection is over; the calls that are left are dropped then.
pub(super) struct Together<C> {
    connection: Pin<Box<C>>,
    started: Calls,
    calls: FuturesUnordered<Call>,
    has_had_calls: bool,
    bell: Arc<Bell>,
}

/// Wakes the task from outside; from inside it asks for one more round, which costs nothing.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    inside: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order here, and in the other one where the task falls asleep: one of the two sees the other.
        self.rung.store(true, Ordering::SeqCst);
        if !self.inside.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl<C: Future> Together<C> {
    pub(super) fn new(connection: C, started: Calls) -> Self {
        let calls = FuturesUnordered::new();
        Self { connection: Box::pin(connection), started, calls, has_had_calls: false, bell: Arc::default() }
    }

    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }

    /// Whether there is no call.
    pub(super) fn is_idle(&self) -> bool {
        let started = self.started.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.is_empty() && self.calls.is_empty()
    }

    /// Whether there ever was a call.
    pub(super) fn has_had_calls(&self) -> bool {
        self.has_had_calls
    }

    fn poll_round(&mut self, cx: &mut Context<'_>) -> Poll<C::Output> {
        if let Poll::Ready(output) = self.connection.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        let started = std::mem::take(&mut *self.started.started.lock().unwrap_or_else(PoisonError::into_inner));
        self.has_had_calls |= !started.is_empty();
        self.calls.extend(started);
        while let Poll::Ready(Some(())) = Pin::new(&mut self.calls).poll_next(cx) {}
        Poll::Pending
    }
}

impl<C: Future> Future for Together<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let bell = self.bell.clone();
        bell.task.register(cx.waker());
        bell.inside.store(true, Ordering::SeqCst);
        let waker = Waker::from(bell.clone());
        let mut inside = Context::from_waker(&waker);
        for _ in 0..ROUNDS {
            bell.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(output) = self.poll_round(&mut inside) {
                return Poll::Ready(output);
            }
            if !bell.rung.load(Ordering::SeqCst) || self.started.turn.take_end() {
                break;
            }
        }
        bell.inside.store(false, Ordering::SeqCst);
        if self.started.turn.take_after_input() {
            self.started.turn.take_end();
            // Wakes the task once the runtime has looked for input.
            _ = pin!(yield_now()).poll(cx);
            return Poll::Pending;
        }
        if bell.rung.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
