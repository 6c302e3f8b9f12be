//! What the thread that reads from Kafka and the calls of the platform share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use numaflow_sdk::source::EncodedMessage;
use tokio::sync::Notify;

use super::assignment::Assignment;
use super::token::{Token, Topics};

/// The records between Kafka and the platform, and the wake-ups of both sides.
///
/// There is one lock, and it is taken once for a batch and never for a record or across an await: the thread takes it to
/// put in what it has encoded, a read to take out its batch, an ack to mark one.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) topics: Topics,
    assignment: Mutex<Assignment<EncodedMessage>>,
    /// Records have come, or have become ready again.
    pub(super) arrived: Notify,
    worker: OnceLock<Thread>,
    stop: AtomicBool,
    /// Acks and nacks for records that are not ours (any more), or not in flight: they succeed without effect.
    unknown: AtomicU64,
}

impl Shared {
    pub(super) fn new(topics: Topics) -> Self {
        Self {
            topics,
            assignment: Mutex::new(Assignment::new()),
            arrived: Notify::new(),
            worker: OnceLock::new(),
            stop: AtomicBool::new(false),
            unknown: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Assignment<EncodedMessage>> {
        // Nothing panics while it holds the lock.
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition and offset that a token of the platform means; `None` for one that this source does not make.
    pub(super) fn place(&self, token: &[u8]) -> Option<(u16, i64)> {
        let token = Token::parse(token)?;
        Some((self.topics.partition_id(token.topic, token.partition)?, token.offset))
    }

    pub(super) fn count_unknown(&self, count: u64, what: &'static str) {
        if count > 0 {
            self.unknown.fetch_add(count, Ordering::Relaxed);
            tracing::debug!(count, what, "not in flight here: no effect");
        }
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Says which thread is to be woken.
    pub(super) fn set_worker(&self, thread: Thread) {
        // It is set once, by the thread itself.
        _ = self.worker.set(thread);
    }

    /// Lets the thread look at once what there is to do.
    pub(super) fn wake_worker(&self) {
        if let Some(thread) = self.worker.get() {
            thread.unpark();
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake_worker();
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
