//! The source as the SDK's server calls it.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use numaflow_sdk::HandlerError;
use numaflow_sdk::source::{Batch, EncodedMessage, NackOffset, Offset, Partitions, ReadRequest, Sourcer};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::assignment::Reader;
use super::client::{self, StartError};
use super::config::KafkaConfig;
use super::group::Group;
use super::pending::Pending;
use super::shared::Shared;
use super::thread::Worker;

/// How long an empty read waits while records are in flight. The platform makes one call at a time, so acks wait for the
/// read to end; and it asks again at once, so the read may not end at once.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest delay of a redelivery. A partition's offset stays where it is meanwhile.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A consumer group's member as a source.
///
/// What is acked is committed up to the first record of its partition that is not; what is nacked is delivered again
/// from memory. Brokers that are away are not an error: reads are empty meanwhile and acks are taken.
///
/// Clones are handles of the same source. The last one that goes stops it without waiting; see [`KafkaSource::close`].
#[derive(Clone)]
pub struct KafkaSource {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pending: Arc<Pending>,
    linger: Duration,
    /// Ends when the thread has left the group.
    ended: watch::Receiver<()>,
    asker: thread::Thread,
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("topics", &self.inner.shared.topics).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn stop(&self) {
        self.shared.stop();
        self.asker.unpark();
    }
}

impl KafkaSource {
    /// Connects to the brokers, which takes up to the connect timeout and blocks the thread meanwhile, and joins the
    /// group in the background.
    ///
    /// # Errors
    ///
    /// The brokers do not answer, refuse us or do not have the topics.
    pub fn start(config: KafkaConfig) -> Result<Self, StartError> {
        let consumer = client::consumer(&config)?;
        let group = Group::connect(&config)?;
        let shared = Arc::new(Shared::new(config.topics.clone()));
        let pending = Arc::new(Pending::default());
        let linger = config.linger;
        let (alive, ended) = watch::channel(());

        let asker = spawn("kafka-pending", {
            let (pending, shared) = (pending.clone(), shared.clone());
            move || pending.keep(group, &shared)
        })?;
        spawn("kafka", {
            let worker = Worker::new(config, shared.clone(), consumer);
            move || {
                worker.run();
                drop(alive);
            }
        })?;
        Ok(Self { inner: Arc::new(Inner { shared, pending, linger, ended, asker: asker.thread().clone() }) })
    }

    /// Reads no more of Kafka and hands out nothing more: reads come back empty. Acks and nacks are still taken.
    pub fn drain(&self) {
        self.inner.shared.lock().drain();
    }

    /// How many records are with the platform, neither acked nor nacked.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.shared.lock().in_flight()
    }

    /// How many acks and nacks had no effect, because their records were not in flight here.
    #[must_use]
    pub fn unknown_acks(&self) -> u64 {
        self.inner.shared.unknown()
    }

    /// Commits what may be committed, leaves the group and ends the threads. `false` when that took longer than
    /// `timeout`; the process may exit all the same, and the group finds out by its session timeout.
    pub async fn close(&self, timeout: Duration) -> bool {
        self.inner.stop();
        let mut ended = self.inner.ended.clone();
        // Nothing is ever sent: the wait ends when the thread drops its end.
        tokio::time::timeout(timeout, async { while ended.changed().await.is_ok() {} }).await.is_ok()
    }

    /// Takes what there is; where there is nothing, says until when to wait for it.
    fn take(&self, reader: Reader, max: usize, records: &mut Vec<EncodedMessage>) -> Result<Outlook, HandlerError> {
        let mut assignment = self.inner.shared.lock();
        let now = Instant::now();
        assignment
            .take(reader, max, now, records)
            .map_err(|_| HandlerError::new("another read stream has taken over"))?;
        if !records.is_empty() {
            return Ok(Outlook::default());
        }
        Ok(Outlook { in_flight: assignment.in_flight() > 0, next_due: assignment.next_due() })
    }
}

/// What a read that found nothing may hope for.
#[derive(Debug, Default)]
struct Outlook {
    in_flight: bool,
    /// When the next delayed record is ready.
    next_due: Option<Instant>,
}

impl Sourcer for KafkaSource {
    async fn read(&self, _request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        let reader = self.inner.shared.lock().reader();
        let began = Instant::now();
        let deadline = began + batch.time_left();
        let mut records = Vec::new();
        // Once something has come: when to be content with it.
        let mut content = None;
        loop {
            let outlook = self.take(reader, batch.remaining(), &mut records)?;
            if !records.is_empty() {
                for record in records.drain(..) {
                    batch.push(record).await?;
                }
                content.get_or_insert_with(|| deadline.min(Instant::now() + self.inner.linger));
                if batch.is_full() {
                    return Ok(());
                }
                continue;
            }
            let until = match content {
                Some(content) => content,
                None if outlook.in_flight => deadline.min(began + PATIENCE),
                None => deadline,
            };
            if Instant::now() >= until {
                if outlook.in_flight {
                    batch.end_early();
                }
                return Ok(());
            }
            let until = outlook.next_due.map_or(until, |due| until.min(due));
            // Whether records or the time came is seen in the next round.
            _ = timeout_at(until, self.inner.shared.arrived.notified()).await;
        }
    }

    async fn ack(&self, offsets: Vec<Offset>) -> Result<(), HandlerError> {
        let shared = &self.inner.shared;
        let mut unknown = 0;
        let mut assignment = shared.lock();
        for offset in &offsets {
            let done = shared
                .place(offset.as_bytes())
                .is_some_and(|(id, offset)| assignment.tracker_mut(id).is_some_and(|tracker| tracker.ack(offset)));
            unknown += u64::from(!done);
        }
        drop(assignment);
        shared.count_unknown(unknown, "acks");
        shared.wake_worker();
        Ok(())
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        let shared = &self.inner.shared;
        let now = Instant::now();
        let (mut unknown, mut exhausted) = (0, 0);
        let mut assignment = shared.lock();
        for NackOffset { offset, options, .. } in &offsets {
            let due = now + options.delay.unwrap_or_default().min(LONGEST_DELAY);
            let deliveries =
                shared.place(offset.as_bytes()).and_then(|(id, offset)| assignment.tracker_mut(id)?.nack(offset, due));
            match deliveries {
                None => unknown += 1,
                Some(deliveries) => exhausted += u64::from(options.max_deliveries.is_some_and(|max| deliveries >= max)),
            }
        }
        drop(assignment);
        shared.count_unknown(unknown, "nacks");
        if exhausted > 0 {
            tracing::warn!(records = exhausted, "delivered as often as they may be, and delivered again all the same");
        }
        shared.arrived.notify_one();
        Ok(())
    }

    fn reader_connected(&self) {
        self.inner.shared.lock().connect_reader();
        self.inner.shared.arrived.notify_one();
    }

    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        Ok(self.inner.pending.count(&self.inner.shared))
    }

    async fn partitions(&self) -> Result<Option<Partitions>, HandlerError> {
        let partitions = Partitions::new(self.inner.shared.lock().ids());
        Ok(Some(match self.inner.pending.total() {
            Some(total) => partitions.with_total(total),
            None => partitions,
        }))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|source| StartError::Thread { source })
}
