//! The source as the SDK's server calls it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use numaflow_sdk::source::{
    self, Batch, EncodedMessage, NackOffset, Offset, Partitions, ReadRequest, SourceService, Sourcer,
};
use numaflow_sdk::{AdminPage, HandlerError, Server};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::allowance::allowance;
use super::asker::Asker;
use super::assignment::Reader;
use super::budget::Budget;
use super::client::{self, StartError};
use super::config::KafkaConfig;
use super::dead_letter::{DeadLetters, Letter};
use super::group::Group;
use super::pending::Pending;
use super::policy::{Durability, Exhausted};
use super::record;
use super::secrets;
use super::shared::Shared;
use super::status::Status;
use super::thread::Worker;
use super::threads;
use super::token::Token;
use super::tracker::{Acked, Delivery, Nacked};

/// How long an empty read waits while records are in flight. The platform makes one call at a time, so acks wait for the
/// read to end; and it asks again at once, so the read may not end at once.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long an ack may wait for its commit, where it is to: the platform does nothing else meanwhile.
const DURABLE: Duration = Duration::from_secs(10);
/// How many partitions are expected where topics may come later: fetches are as small as these need, since the library takes
/// their size only when a client is made.
const PARTITIONS_TO_COME: usize = 64;
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
    group: String,
    shared: Arc<Shared>,
    pending: Arc<Pending>,
    linger: Duration,
    max_deliveries: Option<u32>,
    exhausted: Exhausted,
    durability: Durability,
    /// Ends when the thread has left the group.
    ended: watch::Receiver<()>,
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("topics", &*self.inner.shared.subscription.borrow()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl KafkaSource {
    /// Connects to the brokers, which takes up to the connect timeout and blocks the thread meanwhile, and joins the
    /// group in the background.
    ///
    /// # Errors
    ///
    /// The brokers do not answer or refuse us, or a topic has more partitions than there are ids for. A topic that does not
    /// exist is no error here: the source waits for it, see [`KafkaConfig::with_missing_topic_timeout`].
    pub fn start(config: KafkaConfig) -> Result<Self, StartError> {
        let group = Group::connect(&config)?;
        let partitions = usize::try_from(group.total()).unwrap_or(usize::MAX);
        let budget = Budget::new(config.budget).with_most_of_one(config.most_of_one);
        if let Some(needed) = budget.lacks(partitions) {
            tracing::warn!(
                partitions,
                budget = config.budget,
                needed,
                "the memory for records is little for so many partitions if this member gets them all: partitions are paused \
                 in turn where it is used up; raise --max-in-flight-bytes"
            );
        }
        // Where patterns are, or topics that do not exist yet, more partitions may come than there are now.
        let expected = if group.may_grow() { partitions.max(PARTITIONS_TO_COME) } else { partitions };
        let config = config.with_fetch_bytes(budget.fetch_bytes(expected));
        allowance().set_limit(config.largest_batch());
        let consumer = client::consumer(&config)?;
        let letters =
            config.dead_letter_topic.as_deref().map(|topic| DeadLetters::new(&config.brokers, topic, config.form()));
        let letters = letters.transpose().map_err(|error| StartError::client(&error))?;
        let shared = Arc::new(Shared::new(group.topics(), config.ids(), budget));
        let pending = Arc::new(Pending::default());
        let (alive, ended) = watch::channel(());
        let inner = Inner {
            group: config.group.clone(),
            shared: shared.clone(),
            pending: pending.clone(),
            linger: config.linger,
            max_deliveries: config.max_deliveries,
            exhausted: config.exhausted,
            durability: config.ack_durability,
            ended,
        };
        secrets::watch(config.clone(), shared.clone())?;
        let asker = Asker::start(group, config.start, config.missing_topic_timeout, pending.clone(), shared.clone())?;
        let of_worker = shared.clone();
        // The second goes after the first, which has left the group by then.
        let make = move || (Worker::new(config, of_worker, consumer, asker, pending, letters), alive);
        let spawned = threads::spawn("kafka", shared, make, |(worker, _)| worker.run());
        spawned.map_err(|source| StartError::Thread { source })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A server of this source. It drains the source when it is asked to stop, and stops when the source has failed. Its
    /// admin endpoint, if it gets one, has the page `/kafka` and the metrics of the source, and is ready while the source
    /// is assigned partitions and polls.
    #[must_use]
    pub fn server(&self) -> Server<SourceService<Self>> {
        let [draining, watched, page, metrics, ready] = std::array::from_fn(|_| self.clone());
        Server::new(source::service(self.clone()))
            .on_shutdown(move || draining.drain())
            .stop_when(async move { drop(watched.failed().await) })
            .admin_page("/kafka", move || page.page())
            .metrics_from(move |text| metrics.status().write(text))
            .ready_when(move || ready.status().ready())
    }

    fn status(&self) -> Status {
        Status::of(&self.inner.group, &self.inner.shared, &self.inner.pending, Instant::now())
    }

    fn page(&self) -> AdminPage {
        match serde_json::to_string_pretty(&self.status()) {
            Ok(page) => AdminPage::json(page + "\n"),
            Err(error) => AdminPage::text(format!("{error}\n")),
        }
    }

    /// Reads no more of Kafka and hands out nothing more: reads come back empty. Acks and nacks are still taken.
    pub fn drain(&self) {
        self.inner.shared.lock().drain();
    }

    /// Waits until the source cannot go on, and says why: another process has taken this static member's place, the brokers
    /// have refused us for minutes, a topic has not come to exist in time, or one of the source's threads has panicked. Brokers that are away are no such thing.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn failed(&self) -> String {
        let mut failure = self.inner.shared.failure.subscribe();
        let reason = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The sender is in what `self` holds, and is never dropped before.
            None => std::future::pending().await,
        }
    }

    /// Why the source cannot go on, if it cannot.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.inner.shared.failure.borrow().clone()
    }

    /// How many records are with the platform, neither acked nor nacked.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.shared.lock().in_flight()
    }

    /// How many acks and nacks had no effect, because their records were not in flight here.
    #[must_use]
    pub fn unknown_acks(&self) -> u64 {
        self.inner.shared.counters.unknown_acks.get()
    }

    /// How many times a partition was read on with its oldest record, because the one that came next was gone: removed by
    /// retention before it was read, and lost to this group. The log names the partition and both offsets.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.inner.shared.counters.resets.get()
    }

    /// How many offsets that makes, from the record that would have come next to the one that did.
    #[must_use]
    pub fn gone_offsets(&self) -> u64 {
        self.inner.shared.counters.gone.get()
    }

    /// How many offsets were passed over because what is there cannot be read, which
    /// [`Damaged::Skip`](super::Damaged::Skip) allows. The log names them.
    #[must_use]
    pub fn damaged_offsets(&self) -> u64 {
        self.inner.shared.counters.damaged.get()
    }

    /// Commits what may be committed, leaves the group and ends the threads. `false` when that took longer than
    /// `timeout`; the process may exit all the same, and the group finds out by its session timeout.
    pub async fn close(&self, timeout: Duration) -> bool {
        self.inner.shared.stop();
        let mut ended = self.inner.ended.clone();
        // Nothing is ever sent: the wait ends when the thread drops its end.
        tokio::time::timeout(timeout, async { while ended.changed().await.is_ok() {} }).await.is_ok()
    }

    /// Does with records that were delivered as often as they may be what was configured.
    fn give_up(&self, spent: Vec<Letter>) {
        if self.inner.exhausted == Exhausted::DeadLetter {
            self.inner.shared.post(spent);
            return;
        }
        for Letter { topic, partition, offset, deliveries, reason, .. } in spent {
            tracing::error!(
                topic,
                partition,
                offset,
                deliveries,
                reason,
                "nacked as often as it may be delivered: the partition stops here until this program starts again \
                 (--on-exhausted halt)"
            );
        }
    }

    fn note_unknown(&self, count: usize, what: &'static str) {
        self.inner.shared.counters.unknown_acks.add(count);
        if count > 0 {
            tracing::debug!(count, what, "not in flight here: no effect");
        }
    }

    /// Waits until the brokers have committed at least this much, or the partitions are not ours any more.
    async fn committed(&self, points: &[(u16, i64)]) -> Result<(), HandlerError> {
        let shared = &self.inner.shared;
        let mut committed = shared.committed.subscribe();
        let reached = committed.wait_for(|committed| {
            let assignment = shared.lock();
            points.iter().all(|(id, point)| {
                committed.get(id).is_some_and(|committed| committed >= point) || assignment.tracker(*id).is_none()
            })
        });
        match timeout(DURABLE, reached).await {
            Ok(_) => Ok(()),
            Err(_) => Err(HandlerError::new(format!(
                "the brokers have not confirmed the commit within {} s; the acks are noted and may be sent again",
                DURABLE.as_secs()
            ))),
        }
    }

    /// Takes what there is; where there is nothing, says until when to wait for it.
    fn take(
        &self,
        reader: Reader,
        max: usize,
        records: &mut Vec<Delivery<EncodedMessage>>,
    ) -> Result<Outlook, HandlerError> {
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
                self.inner.shared.counters.delivered.add(records.len());
                for Delivery { record, times } in records.drain(..) {
                    if times == 1 {
                        batch.push(record).await?;
                    } else {
                        self.inner.shared.counters.redelivered.add(1);
                        batch.push(record::with_deliveries(&record, times)).await?;
                    }
                }
                content.get_or_insert_with(|| {
                    let now = Instant::now();
                    // Where records come that slowly, none is to be expected while the read lingers.
                    let slow = now - began >= self.inner.linger;
                    if slow { now } else { deadline.min(now + self.inner.linger) }
                });
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
        let (mut acked, mut former) = (0, false);
        let mut partitions = BTreeSet::new();
        let points = {
            let mut assignment = shared.lock();
            let first = offsets.first().and_then(|offset| shared.place(offset.as_bytes()));
            // One value for an ack, however many records it has: records of one ack were delivered at about the same time.
            if let Some(sent) = first.and_then(|(id, offset)| assignment.tracker(id)?.sent(offset)) {
                shared.latency.add(sent.elapsed());
            }
            for offset in &offsets {
                let Some((id, offset)) = shared.place(offset.as_bytes()) else { continue };
                match assignment.tracker_mut(id).map(|tracker| tracker.ack(offset)) {
                    Some(Acked::Done) => acked += 1,
                    Some(Acked::Former) => former = true,
                    Some(Acked::Unknown) | None => {}
                }
                if self.inner.durability == Durability::Committed {
                    partitions.insert(id);
                }
            }
            // Up to the first record that is not done, and no further: the platform makes one call at a time, so whatever is
            // still to be said of that record is said after this answer. Before the first record of a partition is done there
            // is nothing to commit that could be waited for.
            let moved = |id: u16| assignment.tracker(id).filter(|tracker| tracker.has_moved());
            let point = |id: u16| Some((id, moved(id)?.commit_point()?));
            partitions.into_iter().filter_map(point).collect::<Vec<_>>()
        };
        shared.counters.acked.add(acked);
        self.note_unknown(offsets.len() - acked, "acks");
        if former {
            shared.arrived.notify_one();
        }
        shared.wake_worker();
        if points.is_empty() { Ok(()) } else { self.committed(&points).await }
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        let shared = &self.inner.shared;
        let now = Instant::now();
        let mut unknown = 0;
        let mut spent = Vec::new();
        let mut assignment = shared.lock();
        for NackOffset { offset, options, .. } in &offsets {
            let due = now + options.delay.unwrap_or_default().min(LONGEST_DELAY);
            let max = options.max_deliveries.or(self.inner.max_deliveries);
            let max = max.filter(|_| self.inner.exhausted != Exhausted::Redeliver);
            let Some(token) = Token::parse(offset.as_bytes()) else {
                unknown += 1;
                continue;
            };
            let id = shared.topics.partition_id(token.topic, token.partition);
            let Some((id, tracker)) = id.and_then(|id| Some((id, assignment.tracker_mut(id)?))) else {
                unknown += 1;
                continue;
            };
            match tracker.nack(token.offset, due, max) {
                Nacked::Unknown => unknown += 1,
                Nacked::Again => {}
                Nacked::Spent { record, deliveries, cuts } => {
                    if self.inner.exhausted == Exhausted::Halt {
                        tracker.halt(token.offset);
                    }
                    let reason = Letter::reason_of(options.reason.as_deref());
                    spent.push(Letter {
                        id,
                        offset: token.offset,
                        topic: token.topic.to_owned(),
                        partition: token.partition,
                        record,
                        deliveries,
                        cuts,
                        reason,
                    });
                }
            }
        }
        drop(assignment);
        shared.counters.nacked.add(offsets.len() - unknown);
        self.note_unknown(unknown, "nacks");
        self.give_up(spent);
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
        if let Some(replica) = self.inner.shared.topics.replica() {
            return Ok(Some(Partitions::new([replica])));
        }
        let partitions = Partitions::new(self.inner.shared.lock().ids());
        Ok(Some(match self.inner.pending.total() {
            Some(total) => partitions.with_total(total),
            None => partitions,
        }))
    }
}
