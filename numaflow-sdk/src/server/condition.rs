//! The condition that ends a server ([`Server::stop_when`](crate::Server::stop_when)).
//!
//! A thread of its own polls it: handlers that block every worker of the runtime would keep the runtime from polling it,
//! so the drain would never begin.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::drain::Drain;
use super::observer::Thread;
use crate::panic::{Panic, catch};

/// Ready when the server is to end.
pub(super) type Condition = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A condition and the thread that polls it, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    panic: oneshot::Receiver<Panic>,
    _thread: Thread<oneshot::Sender<Infallible>>,
}

impl Watched {
    /// Asks for the drain as soon as the condition is ready or has panicked. Must be called inside the runtime whose
    /// timers, sockets and channels the condition may wait for.
    pub(super) fn start(condition: Condition, drain: Drain) -> io::Result<Self> {
        let (tell, panic) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let runtime = Handle::current();
        let watch = async move {
            tokio::select! {
                result = catch(condition) => match result {
                    Ok(()) => drain.ask(),
                    Err(panic) => {
                        // In this order: whoever learns of the drain finds the panic.
                        drop(tell.send(panic));
                        drain.end_after_panic();
                    }
                },
                _ = stopped => {}
            }
        };
        let thread = Thread::start("stop-when", stop, move || runtime.block_on(watch))?;
        Ok(Self { panic, _thread: thread })
    }

    /// The panic of the condition, if it has panicked.
    pub(super) fn panic(&mut self) -> Option<Panic> {
        self.panic.try_recv().ok()
    }
}
