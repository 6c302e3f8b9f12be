//! What the thread that reads from Kafka and the calls of the platform share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use numaflow_sdk::source::EncodedMessage;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::assignment::Assignment;
use super::brokers::Brokers;
use super::budget::Budget;
use super::counters::Counters;
use super::dead_letter::Letter;
use super::dead_letter::backlog::Backlog;
use super::identity::Told;
use super::latency::Latency;
use super::progress::Progress;
use super::token::{Token, Topics};

/// The records between Kafka and the platform, and the wake-ups of both sides.
///
/// There is one lock around them, and it is taken once for a batch and never for a record or across an await: the thread
/// takes it to put in what it has encoded, a read to take out its batch, an ack to mark one.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) topics: Topics,
    pub(super) counters: Counters,
    pub(super) progress: Progress,
    /// From the delivery of the first record of each ack to the ack.
    pub(super) latency: Latency,
    pub(super) budget: Budget,
    /// The topics to read, of which patterns may find more.
    pub(super) subscription: watch::Sender<Vec<String>>,
    assignment: Mutex<Assignment<EncodedMessage>>,
    /// Records have come, or have become ready again.
    pub(super) arrived: Notify,
    /// What is to go to the dead-letter topic. Each is also in its tracker, which bounds how many there are.
    letters: Mutex<Vec<Letter>>,
    /// What of that is not written yet.
    pub(super) backlog: watch::Sender<Backlog>,
    /// What the brokers have confirmed as committed, by partition id.
    pub(super) committed: watch::Sender<BTreeMap<u16, i64>>,
    /// Why the source cannot go on, once it cannot.
    pub(super) failure: watch::Sender<Option<String>>,
    /// The ids of the topics, as the brokers have told them last.
    pub(super) topic_ids: watch::Sender<BTreeMap<String, Told>>,
    /// The brokers with renewed secrets, once there are such.
    pub(super) renewed: watch::Sender<Option<Brokers>>,
    worker: OnceLock<Thread>,
    stop: AtomicBool,
}

impl Shared {
    /// For a source that reads these topics, whose partitions have these ids.
    pub(super) fn new(subscription: Vec<String>, topics: Topics, budget: Budget) -> Self {
        Self {
            topics,
            budget,
            subscription: watch::Sender::new(subscription),
            counters: Counters::default(),
            progress: Progress::new(Instant::now()),
            latency: Latency::default(),
            assignment: Mutex::new(Assignment::new(budget)),
            arrived: Notify::new(),
            letters: Mutex::default(),
            backlog: watch::Sender::default(),
            committed: watch::Sender::default(),
            failure: watch::Sender::default(),
            topic_ids: watch::Sender::default(),
            renewed: watch::Sender::default(),
            worker: OnceLock::new(),
            stop: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Assignment<EncodedMessage>> {
        // Nothing panics while it holds the lock.
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which topics are to be read from here on.
    pub(super) fn read(&self, topics: Vec<String>) {
        self.subscription.send_if_modified(|known| {
            let is_other = *known != topics;
            if is_other {
                *known = topics;
            }
            is_other
        });
    }

    /// The partition and offset that a token of the platform means; `None` for one that this source does not make.
    pub(super) fn place(&self, token: &[u8]) -> Option<(u16, i64)> {
        let token = Token::parse(token)?;
        Some((self.topics.partition_id(token.topic, token.partition)?, token.offset))
    }

    /// Gives records to the thread for the dead-letter topic.
    pub(super) fn post(&self, letters: Vec<Letter>) {
        if !letters.is_empty() {
            self.letters().extend(letters);
            self.wake_worker();
        }
    }

    /// What was posted since the last call.
    pub(super) fn posted(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.letters())
    }

    fn letters(&self) -> MutexGuard<'_, Vec<Letter>> {
        // Nothing panics while it holds the lock.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the source cannot go on; whoever runs it ends it. The first reason counts.
    pub(super) fn fail(&self, reason: String) {
        self.failure.send_if_modified(|failure| {
            let is_new = failure.is_none();
            if is_new {
                tracing::error!(reason, "the source cannot go on");
                *failure = Some(reason);
            }
            is_new
        });
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
