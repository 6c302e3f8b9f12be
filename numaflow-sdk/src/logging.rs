//! Log lines that hold nothing up.
//!
//! The crate logs with [`tracing`](https://docs.rs/tracing). A program sets up its log before it calls [`run`](crate::run)
//! or in the set-up of [`run_with`](crate::run_with): a subscriber of `tracing`, or a logger of the crate `log`. A program
//! that has neither gets a minimal log from `run`: events at WARN and ERROR, a line each, on standard error.
//!
//! A log must not be able to stop a server. Whoever reads a container's standard error may stop reading, and a write to the
//! full pipe then waits for ever; or the pipe is closed, and the write fails. [`stderr`] is a writer that does neither. It
//! puts lines into a queue of 1 MiB, and a thread of its own writes them. What does not fit is dropped and counted
//! ([`dropped_lines`], the metric `numaflow_udf_log_lines_dropped_total`); a line at WARN tells the number when lines are
//! taken again. The log that `run` installs uses it, and a subscriber of the program can:
//!
//! ```no_run
//! tracing_subscriber::fmt().with_writer(numaflow_sdk::logging::stderr).init();
//! ```
//!
//! `docs/logging.md` in the repository has what is logged, at which level and how often.

use std::io;
use std::sync::Once;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use queue::Queue;

use crate::panic::catching;

mod fallback;
mod panics;
mod queue;

pub(crate) use fallback::{Listener, install_fallback, listener};
pub(crate) use panics::replace_default_hook;

/// How long the end of a process waits for its last lines to be written. Lines that somebody reads need milliseconds; and
/// after the 25 s of a drain there is time for it within the 30 s that Kubernetes gives a pod.
pub(crate) const LAST_LINES: Duration = Duration::from_secs(1);

static QUEUE: Queue = Queue::new();

/// The queue, with the thread that writes what is in it.
fn queue() -> &'static Queue {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let write = || QUEUE.write_to(io::stderr(), tell_dropped);
        if thread::Builder::new().name("stderr".to_owned()).spawn(write).is_err() {
            QUEUE.close();
        }
    });
    &QUEUE
}

fn tell_dropped(lines: u64) {
    crate::logging::warn!(lines, "log lines were dropped, because standard error was not read or could not be written");
}

/// Standard error as a writer that neither waits nor fails: what is written is queued, up to 1 MiB, and dropped beyond that.
///
/// Each write is taken or dropped as a whole, so write a line, with its line break, in one. It is a `MakeWriter` of
/// `tracing_subscriber`. A process that ends calls [`flush`] first, as [`run`](crate::run), [`run_with`](crate::run_with) and
/// [`run_server_with`](crate::run_server_with) do.
///
/// ```
/// use std::io::Write;
///
/// writeln!(numaflow_sdk::logging::stderr(), "the cache holds {} tables", 3).ok();
/// ```
#[must_use]
pub fn stderr() -> Stderr {
    Stderr(())
}

/// Made by [`stderr`].
#[derive(Debug, Clone, Copy)]
pub struct Stderr(());

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        queue().push(line);
        Ok(line.len())
    }

    /// Formatted in one piece, so that the line stays whole.
    fn write_fmt(&mut self, line: std::fmt::Arguments<'_>) -> io::Result<()> {
        queue().push(line.to_string().as_bytes());
        Ok(())
    }

    /// Does not wait: see [`flush`](fn@flush).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until all that [`stderr`] has taken is written, for so long at the most. Returns whether it is.
#[expect(clippy::must_use_candidate, reason = "a program that ends can do nothing about lines that were not written")]
pub fn flush(patience: Duration) -> bool {
    queue().flush(patience)
}

/// How many lines [`stderr`] has dropped since the process started, because its queue was full or because standard error
/// could not be written.
#[must_use]
pub fn dropped_lines() -> u64 {
    QUEUE.dropped()
}

/// Runs a call of the log. The subscriber is the program's, and its panic is not to be the failure of whoever logs:
/// `tracing_subscriber` panics where neither its writer nor standard error can be written.
pub(crate) fn guard(log: impl FnOnce()) {
    // The panic hook has told of it.
    drop(catching(log));
}

/// Runs a call of the log on a thread of its own and waits for it for so long at the most: the subscriber is the program's,
/// and may wait for whoever reads what it writes.
pub(crate) fn aside(patience: Duration, log: impl FnOnce() + Send + 'static) {
    let (done, is_done) = sync_channel::<()>(1);
    let run = move || {
        guard(log);
        drop(done);
    };
    if thread::Builder::new().name("log".to_owned()).spawn(run).is_ok() {
        // Whether it is done makes no difference here.
        _ = is_done.recv_timeout(patience);
    }
}

/// The macros of `tracing`, guarded: this crate logs with nothing else.
macro_rules! error_ {
    ($($event:tt)*) => { $crate::logging::guard(|| ::tracing::error! { $($event)* }) };
}
macro_rules! warn_ {
    ($($event:tt)*) => { $crate::logging::guard(|| ::tracing::warn! { $($event)* }) };
}
macro_rules! info_ {
    ($($event:tt)*) => { $crate::logging::guard(|| ::tracing::info! { $($event)* }) };
}
macro_rules! debug_ {
    ($($event:tt)*) => { $crate::logging::guard(|| ::tracing::debug! { $($event)* }) };
}
// `warn` is an attribute too, which a macro of that name would be confused with.
pub(crate) use {debug_ as debug, error_ as error, info_ as info, warn_ as warn};

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::{Duration, Instant};

    use super::*;

    struct Unwilling;

    impl tracing::Subscriber for Unwilling {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
            tracing::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            panic!("as planned");
        }
        fn enter(&self, _: &tracing::Id) {}
        fn exit(&self, _: &tracing::Id) {}
    }

    #[test]
    fn a_subscriber_that_panics_does_no_harm() {
        tracing::subscriber::with_default(Unwilling, || {
            error!(id = 1, "an error");
            warn!("a warning");
            info!("news");
            debug!("a detail");
        });
    }

    #[test]
    fn a_call_of_the_log_that_blocks_is_left_behind() {
        let (block, blocked) = sync_channel::<()>(0);
        let begun = Instant::now();
        aside(Duration::from_millis(10), move || _ = blocked.recv());
        assert!(begun.elapsed() < Duration::from_secs(20));
        drop(block);
    }
}
