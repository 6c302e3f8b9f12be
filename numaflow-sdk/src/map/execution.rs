//! Where a handler runs: in place, on a task, or on a thread that it may block.

use std::future::{Future, pending};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use std::{fmt, thread};

use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

use super::attempt::Done;
use super::policy::Failure;
use crate::metrics::{Metrics, add};
use crate::panic::{Panic, catching};
use crate::text::Text;
use crate::throttle::Throttle;

/// How handlers are run.
///
/// As text, for flags and the environment: `automatic`, `tasks`, `blocking`, `blocking:N`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// A handler is polled once where its message was read: if it is ready, as most are, its answer leaves without a task
    /// or a wake-up. If it waits, it goes on as a task of its own. Handlers that are found to hold their thread for tens
    /// of microseconds start as tasks, so that they spread over the cores; so do all for a while after one was found to
    /// block its thread, and the first ones of a server. The default.
    ///
    /// A handler that blocks its thread in place, where none did before, holds up its connection for that time, `IsReady`
    /// included. One that is known to block should be declared so.
    #[default]
    Automatic,
    /// Every handler is a task from its start. For handlers that are sometimes ready at once and sometimes compute for
    /// long, which no average describes.
    Tasks,
    /// Handlers may block their thread: they run on at most this many threads of their own, apart from those that serve
    /// connections. One that waits keeps its thread.
    Blocking {
        /// The most threads, at most 500: tokio has 512 for everything that blocks, unless a runtime was built otherwise.
        threads: NonZeroUsize,
    },
}

/// The most threads that handlers may block. Above what tokio's pool has (512 by default) calls would wait for one in a
/// place that counts them as running; some are left for files and backtraces.
const MOST_THREADS: usize = 500;

impl Execution {
    /// Handlers that block, on four threads for each core, and 500 at most: those that block mostly wait for something
    /// else.
    #[must_use]
    pub fn blocking() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = cores.saturating_mul(4).min(MOST_THREADS);
        Self::Blocking { threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN) }
    }

    /// What is wrong with it, if anything is.
    pub(super) fn check(self) -> Result<(), String> {
        match self {
            Self::Blocking { threads } if threads.get() > MOST_THREADS => Err(format!(
                "has {threads} threads to block, and tokio's pool bounds them: give {MOST_THREADS} at most"
            )),
            Self::Automatic | Self::Tasks | Self::Blocking { .. } => Ok(()),
        }
    }
}

impl FromStr for Execution {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong with the text, and the choices there are.
    fn from_str(text: &str) -> Result<Self, String> {
        let choices = || format!("is {text:?}; give automatic, tasks, blocking or blocking:THREADS");
        let execution = match text.split_once(':') {
            None if text == "automatic" => Self::Automatic,
            None if text == "tasks" => Self::Tasks,
            None if text == "blocking" => Self::blocking(),
            Some(("blocking", threads)) => Self::Blocking { threads: threads.parse().map_err(|_| choices())? },
            _ => return Err(choices()),
        };
        execution.check()?;
        Ok(execution)
    }
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => f.write_str("automatic"),
            Self::Tasks => f.write_str("tasks"),
            Self::Blocking { threads } => write!(f, "blocking:{threads}"),
        }
    }
}

/// The time on its thread, in nanoseconds and on average, above which a handler is worth a task.
///
/// About twenty times what the task costs, so that being wrong is cheap either way.
const HEAVY: u64 = 40_000;
/// Below this it is polled in place again. Far enough from [`HEAVY`] not to go back and forth.
const LIGHT: u64 = 15_000;

/// A handler that holds its thread for longer than this, in nanoseconds, blocks it, and its connection with it where it was
/// polled in place: half of the time in which `IsReady` is to be answered.
const BLOCKS: u64 = 50_000_000;
/// A handler that holds its thread for longer than this, in nanoseconds, is told in the log: as long as `IsReady` may take.
const TOLD: u64 = 100_000_000;
/// After one that blocks, so many handlers start on tasks: it may be one in a thousand that blocks.
const DISTRUST: u64 = 10_000;

/// For how long handlers hold their thread in a poll, as a moving average over all streams of a server.
#[derive(Debug)]
pub(super) struct Pace {
    /// In nanoseconds; what one update loses to another is made up by the next.
    average: AtomicU64,
    /// How many handlers are yet to start on tasks because one has blocked.
    distrust: AtomicU64,
    told: Throttle,
    /// Those of the server, once a stream is open.
    metrics: OnceLock<Arc<Metrics>>,
}

impl Default for Pace {
    /// Heavy until a dozen or two handlers have shown otherwise: one that blocks its thread the first time it is called
    /// should not do so in the middle of its connection.
    fn default() -> Self {
        Self {
            average: AtomicU64::new(2 * HEAVY),
            distrust: AtomicU64::new(0),
            told: Throttle::default(),
            metrics: OnceLock::new(),
        }
    }
}

impl Pace {
    /// Counts handlers that block there.
    pub(super) fn count_in(&self, metrics: &Arc<Metrics>) {
        self.metrics.get_or_init(|| metrics.clone());
    }

    /// A poll of the handler of this message, or of a batch that begins with it, took this long.
    pub(super) fn observe(&self, held: Duration, id: Option<&Text>) {
        let average = self.average.load(Relaxed);
        let held = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
        if held > BLOCKS {
            self.distrust.store(DISTRUST, Relaxed);
            self.tell(held, id);
        }
        // A single long poll, such as one that the system interrupted, does not make handlers heavy on average.
        let held = held.min(10 * HEAVY);
        let moved = average - average / 16 + held / 16;
        if moved != average {
            self.average.store(moved, Relaxed);
        }
    }

    #[cold]
    fn tell(&self, held: u64, id: Option<&Text>) {
        if held < TOLD {
            return;
        }
        if let Some(metrics) = self.metrics.get() {
            add(&metrics.blocking_polls, 1);
        }
        if let Some(more) = self.told.pass(Instant::now()) {
            let (id, millis) = (id.map(Text::as_str).unwrap_or_default(), held / 1_000_000);
            crate::logging::warn!(
                id,
                more,
                "a handler has blocked its thread for {millis} ms: whatever else runs on that thread waited, answers and \
                 IsReady of its connection included. Handlers that block belong on threads of their own: --execution \
                 blocking, or Execution::blocking() in code (told once in 10 s; `more` others since the last time)"
            );
        }
    }

    /// Whether handlers go on tasks, given whether they did so before.
    pub(super) fn is_heavy(&self, before: bool) -> bool {
        let distrust = self.distrust.load(Relaxed);
        if distrust > 0 {
            self.distrust.store(distrust - 1, Relaxed);
            return true;
        }
        self.average.load(Relaxed) > if before { LIGHT } else { HEAVY }
    }
}

/// A handler's call, in a box whose memory serves one call after another.
pub(super) type Call = ReusableBoxFuture<'static, Done>;

/// Polls a call once; its panic becomes a failure.
fn poll_call(call: &mut Call, cx: &mut TaskContext<'_>) -> Poll<Done> {
    catching(|| call.poll(cx)).unwrap_or_else(|panic| Poll::Ready(panicked(call, panic)))
}

/// What a call comes to that has panicked. What is left of it goes, and its box: if that panics too, there is nothing more
/// to be said.
#[cold]
pub(super) fn panicked(call: &mut Call, panic: Panic) -> Done {
    drop(catching(|| *call = Call::new(pending())));
    Err(Failure::Panic(panic).into())
}

/// A call on a task: its panics are caught, and the time that its polls take is observed, unless it has a thread that it
/// may block.
pub(super) struct OnTask {
    call: Call,
    pace: Option<Arc<Pace>>,
}

impl OnTask {
    pub(super) fn new(call: Call, pace: Option<Arc<Pace>>) -> Self {
        Self { call, pace }
    }

    /// The box, to be used again.
    pub(super) fn into_call(self) -> Call {
        self.call
    }
}

impl Future for OnTask {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Done> {
        let this = &mut *self;
        let begun = this.pace.as_ref().map(|_| Instant::now());
        let polled = poll_call(&mut this.call, cx);
        if let (Some(pace), Some(begun)) = (&this.pace, begun) {
            pace.observe(begun.elapsed(), None);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_light_once_they_are_known_to_be() {
        let pace = Pace::default();
        assert!(pace.is_heavy(true));
        let first_light = (1..).find(|_| {
            pace.observe(Duration::from_nanos(200), None);
            !pace.is_heavy(true)
        });
        assert!((10..100).contains(&first_light.unwrap()), "{first_light:?}");
        // A few that take longer change nothing, many do, and the way back is longer than the way there.
        pace.observe(Duration::from_millis(1), None);
        assert!(!pace.is_heavy(false));
        (0..100).for_each(|_| pace.observe(Duration::from_micros(100), None));
        assert!(pace.is_heavy(false));
        (0..200).for_each(|_| pace.observe(Duration::from_micros(25), None));
        assert!(pace.is_heavy(true) && !pace.is_heavy(false));
    }

    #[test]
    fn one_that_blocks_is_remembered() {
        let pace = Pace::default();
        (0..200).for_each(|_| pace.observe(Duration::ZERO, None));
        assert!(!pace.is_heavy(false));
        pace.observe(Duration::from_millis(60), None);
        for _ in 0..DISTRUST {
            assert!(pace.is_heavy(true));
            pace.observe(Duration::ZERO, None);
        }
        assert!(!pace.is_heavy(true));
    }

    #[test]
    fn texts_make_executions() {
        for text in ["automatic", "tasks", "blocking:8"] {
            assert_eq!(text.parse::<Execution>().unwrap().to_string(), text);
        }
        assert!(matches!("blocking".parse(), Ok(Execution::Blocking { .. })));
        for text in ["", "blocking:0", "blocking:x", "Tasks"] {
            assert!(text.parse::<Execution>().unwrap_err().contains("blocking:THREADS"), "{text}");
        }
    }
}
