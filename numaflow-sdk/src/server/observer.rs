//! Those who look at a server from outside its runtime: threads of their own, because handlers that block every worker of
//! the runtime stop everything else that could tell.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::ServeError;
#[cfg(feature = "admin")]
use crate::admin::Admin;
use crate::in_flight::watchdog::Watchdog;
use crate::kind::Kind;
use crate::metrics::add;
use crate::service::Context;

/// How often the runtime is nudged while a handler may block a thread of it: a quarter of the 100 ms within which `IsReady` is
/// to be answered.
const NUDGE: Duration = Duration::from_millis(25);

/// The watchdog and the admin endpoint of one server; both end when it is dropped.
#[derive(Debug)]
pub(super) struct Observer {
    _watchdog: Thread<SyncSender<Infallible>>,
    #[cfg(feature = "admin")]
    admin: Option<Admin>,
}

impl Observer {
    /// Must be called inside the runtime that will serve.
    #[cfg_attr(not(feature = "admin"), expect(unused_variables, reason = "for the endpoint, which is refused earlier"))]
    pub(super) fn start(
        kind: Kind,
        context: &Arc<Context>,
        slow_after: Duration,
        admin: Option<SocketAddr>,
    ) -> Result<Self, ServeError> {
        Ok(Self {
            #[cfg(feature = "admin")]
            admin: admin.map(|address| Admin::start(kind, context, address)).transpose()?,
            _watchdog: start_watchdog(context.clone(), slow_after).map_err(|source| ServeError::Runtime { source })?,
        })
    }

    /// The server accepts connections from now on.
    pub(super) fn serving(&self) {
        #[cfg(feature = "admin")]
        if let Some(admin) = &self.admin {
            admin.serving();
        }
    }

    /// Where the admin endpoint listens.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        #[cfg(feature = "admin")]
        return self.admin.as_ref().map(Admin::address);
        #[cfg(not(feature = "admin"))]
        None
    }
}

fn start_watchdog(context: Arc<Context>, threshold: Duration) -> io::Result<Thread<SyncSender<Infallible>>> {
    let (stop, stopped) = sync_channel(1);
    let runtime = Handle::current();
    Thread::start("watchdog", stop, move || watch(&context, &runtime, threshold, &stopped))
}

/// Names messages that are in flight for long, until there is nobody left who could say stop.
fn watch(context: &Context, runtime: &Handle, threshold: Duration, stopped: &Receiver<Infallible>) {
    let mut watchdog = Watchdog::new(threshold);
    // A message is named at most an eighth late.
    let pause = (threshold / 8).clamp(Duration::from_millis(10), Duration::from_secs(5));
    let mut looks_at = Instant::now() + pause;
    let nudges = Nudges::default();
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause.min(NUDGE)) {
        context.limits.pass_time();
        // Reads, and what is told of a new reader, take no room of the limits.
        if context.limits.usage().messages > 0 || context.in_flight.any_polled() {
            nudges.send(runtime);
        }
        let now = Instant::now();
        if now < looks_at {
            continue;
        }
        looks_at = now + pause;
        let any_slow = context.in_flight.summary(now).oldest_age >= threshold;
        let listed = if any_slow { context.in_flight.list(now) } else { Vec::new() };
        let named = watchdog.scan(&listed);
        add(&context.metrics.slow_messages, named.len());
        for message in named {
            crate::logging::warn!(
                id = message.id,
                age = ?message.age,
                stage = message.stage.name(),
                bytes = message.bytes,
                sequence = message.sequence,
                "a message has been in flight for long; it waits for {}",
                message.waits_for()
            );
        }
    }
}

/// Makes the runtime look for something to do. The thread of it that waited for input and output may have found a handler
/// that blocks it, while all others sleep until they are woken: nobody would see what comes in then. One that is woken
/// waits for input and output next.
#[derive(Debug, Default)]
struct Nudges {
    /// Shared with those that have not been run.
    pending: Arc<()>,
}

impl Nudges {
    /// So many may wait to be run. One may be stuck behind a handler that blocks, while another thread would be woken by the
    /// next; where as many are stuck, all threads are blocked, and more would only pile up.
    const MOST: usize = 16;

    fn send(&self, runtime: &Handle) {
        if self.pending() < Self::MOST {
            let pending = self.pending.clone();
            drop(runtime.spawn(async move { drop(pending) }));
        }
    }

    fn pending(&self) -> usize {
        Arc::strong_count(&self.pending) - 1
    }
}

/// A thread that ends with this handle. It waits for `stop` to be dropped, which is the first thing that happens then; the
/// second is that its end is waited for, so that nothing of it is left.
#[derive(Debug)]
pub(crate) struct Thread<S> {
    stop: Option<S>,
    handle: Option<JoinHandle<()>>,
}

impl<S> Thread<S> {
    pub(crate) fn start(name: &str, stop: S, run: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), handle: Some(handle) })
    }
}

impl<S> Drop for Thread<S> {
    fn drop(&mut self) {
        drop(self.stop.take());
        // What it panicked with, if it did, the panic hook has told.
        drop(self.handle.take().map(JoinHandle::join));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nudges_do_not_pile_up_while_all_threads_are_blocked() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let ((blocked, is_blocked), (go, gone)) = (sync_channel(0), sync_channel::<()>(0));
        drop(runtime.handle().spawn(async move {
            blocked.send(()).unwrap();
            gone.recv().unwrap();
        }));
        is_blocked.recv().unwrap();
        let nudges = Nudges::default();
        (0..10 * Nudges::MOST).for_each(|_| nudges.send(runtime.handle()));
        assert_eq!(nudges.pending(), Nudges::MOST);
        go.send(()).unwrap();
        while nudges.pending() > 0 {
            std::thread::yield_now();
        }
    }
}
