//! The way from a program into the suite's futures.

use std::io;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a future to its end, on a runtime of its own.
///
/// Asked to end before, by SIGINT or SIGTERM, it drops the future, which takes the servers that it has started with it.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let interrupted = || io::Error::new(io::ErrorKind::Interrupted, "broken off: the process was asked to end");
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            output = future => Ok(output),
            _ = interrupt.recv() => Err(interrupted()),
            _ = terminate.recv() => Err(interrupted()),
        }
    })
}
