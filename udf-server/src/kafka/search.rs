//! Which partition has a batch that is too large to be taken from a broker.
//!
//! A broker sends the first batch of an answer whatever its size. The client library takes no answer that is larger than
//! `receive.message.max.bytes`: it breaks the connection, connects again and fetches the same, and says neither topic nor
//! partition. So the partitions are read one at a time by a client of its own, from where they stand, until one breaks the
//! connection. That one stops there; the others go on.

use std::cmp::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::allowance::allowance;
use super::config::KafkaConfig;
use super::lane::Unfetchable;
use super::shared::Shared;
use super::thread::Worker;
use super::threads;

/// How long a partition has to give its next record, its end, or the fault.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far a partition is read: as far as the library itself may have read ahead.
const RECORDS: usize = 20_000;
const BYTES: usize = 8 << 20;
/// How long after a search the next one begins.
const PAUSE: Duration = Duration::from_secs(5);

/// The size that the library says of an answer which it does not take.
pub(super) fn refused_size(reason: &str) -> Option<u64> {
    let (_, after) = reason.split_once("Invalid response size ")?;
    after.split(' ').next()?.parse().ok()
}

/// The search, if there is one.
#[derive(Debug, Default)]
pub(super) struct Search {
    running: Option<Receiver<Vec<Found>>>,
    ended: Option<Instant>,
    wanted: bool,
}

/// Where to look.
#[derive(Debug)]
struct Place {
    topic: String,
    partition: i32,
    /// The offset after the last record that was read.
    position: Option<i64>,
}

/// What was found.
#[derive(Debug)]
struct Found {
    topic: String,
    partition: i32,
    batch: Unfetchable,
}

impl Worker {
    /// Looks for batches that the library does not take once it says that there are such, and stops their partitions.
    pub(super) fn search(&mut self, now: Instant) {
        self.search.wanted |= self.consumer.context().take_oversize();
        match self.search.running.as_ref().map(Receiver::try_recv) {
            Some(Ok(found)) => self.note_found(found, now),
            Some(Err(TryRecvError::Disconnected)) => self.note_found(Vec::new(), now),
            Some(Err(TryRecvError::Empty)) => {}
            None => {
                let is_due = self.search.ended.is_none_or(|ended| now.duration_since(ended) >= PAUSE);
                if std::mem::take(&mut self.search.wanted) && is_due {
                    self.begin_search();
                }
            }
        }
        self.stop_before_unfetchable();
    }

    fn begin_search(&mut self) {
        let assignment = self.shared.lock();
        let candidates = self.lanes.iter().filter(|lane| lane.unfetchable.is_none()).filter_map(|lane| {
            let tracker = assignment.tracker(lane.id).filter(|tracker| tracker.halted().is_none())?;
            Some(Place { topic: lane.topic.clone(), partition: lane.partition, position: tracker.position() })
        });
        let places: Vec<_> = candidates.collect();
        drop(assignment);
        tracing::warn!(
            partitions = places.len(),
            largest = self.config.largest_batch(),
            "a broker's answer is larger than this source takes; looking for the partition with a batch of that size"
        );
        let (config, shared) = (self.config.clone().without_instance(), self.shared.clone());
        let (sender, receiver) = sync_channel(1);
        let work = move |(): &mut ()| {
            // Nobody waits for it once the source has stopped.
            _ = sender.send(look_at(&config, &shared, places));
            shared.wake_worker();
        };
        match threads::spawn("kafka-search", self.shared.clone(), || (), work) {
            Ok(()) => self.search.running = Some(receiver),
            Err(error) => tracing::error!(%error, "a thread for the search cannot be started"),
        }
    }

    fn note_found(&mut self, found: Vec<Found>, now: Instant) {
        self.search.running = None;
        self.search.ended = Some(now);
        for Found { topic, partition, batch } in found {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.is(&topic, partition)) {
                lane.unfetchable = Some(batch);
            }
        }
    }

    /// Stops partitions that have come to a batch of which the library takes nothing. A partition that stands still is paused
    /// (`relief`): otherwise the library would break the connection again and again, which all partitions of the broker share.
    fn stop_before_unfetchable(&mut self) {
        for lane in &mut self.lanes {
            let Some(Unfetchable { offset, bytes }) = lane.unfetchable else { continue };
            let mut assignment = self.shared.lock();
            let Some(tracker) = assignment.tracker_mut(lane.id) else { continue };
            if tracker.halted().is_some() {
                continue;
            }
            match tracker.position().map_or(Ordering::Equal, |position| position.cmp(&offset)) {
                Ordering::Less => continue,
                Ordering::Equal => tracker.halt(offset),
                // Records from behind it have come: the log was cut, and the batch is gone.
                Ordering::Greater => {
                    lane.unfetchable = None;
                    continue;
                }
            }
            drop(assignment);
            self.shared.counters.oversize_batches.add(1);
            tracing::error!(
                topic = lane.topic,
                partition = lane.partition,
                offset,
                bytes,
                largest = self.config.largest_batch(),
                "a batch of records is larger than this source takes from a broker; the partition stops before it, \
                 whatever --on-oversize says: raise --max-in-flight-bytes, half of which a batch may take, and start the \
                 source again"
            );
        }
    }
}

/// Reads each partition until it shows whether it has such a batch next.
fn look_at(config: &KafkaConfig, shared: &Shared, places: Vec<Place>) -> Vec<Found> {
    let mut found = Vec::new();
    let mut consumer = None;
    for place in places {
        if shared.stopped() {
            break;
        }
        let client = match consumer.take() {
            Some(client) => client,
            None => match reader(config) {
                Ok(client) => client,
                Err(error) => {
                    tracing::error!(%error, "the search for a large batch has no client");
                    break;
                }
            },
        };
        match look(&client, &place, shared) {
            Ok(None) => consumer = Some(client),
            // The library tells of the same fault once in a while only, so that the next one gets another client.
            Ok(Some(batch)) => found.push(Found { topic: place.topic, partition: place.partition, batch }),
            Err(error) => {
                tracing::debug!(%error, place.topic, place.partition, "whether it has a large batch is not known");
            }
        }
    }
    found
}

fn reader(config: &KafkaConfig) -> KafkaResult<BaseConsumer<Refusals>> {
    let mut client = config.consumer();
    client
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "1024");
    client.create_with_context(Refusals::default())
}

fn look(consumer: &BaseConsumer<Refusals>, place: &Place, shared: &Shared) -> KafkaResult<Option<Unfetchable>> {
    let mut assigned = TopicPartitionList::new();
    let from = place.position.map_or(Offset::Stored, Offset::Offset);
    assigned.add_partition_offset(&place.topic, place.partition, from)?;
    consumer.assign(&assigned)?;
    let mut deadline = Instant::now() + PATIENCE;
    let (mut next, mut records, mut bytes) = (place.position, 0, 0);
    while records < RECORDS && bytes < BYTES && Instant::now() < deadline && !shared.stopped() {
        let polled = consumer.poll(Duration::from_millis(50));
        // The reason of an error comes by callback, before the error itself.
        if let Some(bytes) = consumer.context().take() {
            let first = || consumer.fetch_watermarks(&place.topic, place.partition, PATIENCE).map(|(low, _)| low);
            let stored = || consumer.committed(PATIENCE).ok().and_then(|list| offset(&list));
            let offset = match next.or_else(stored) {
                Some(next) => next,
                None => first()?,
            };
            return Ok(Some(Unfetchable { offset, bytes }));
        }
        match polled {
            Some(Ok(record)) => {
                next = Some(record.offset() + 1);
                records += 1;
                bytes += record.payload_len() + record.key_len();
                deadline = Instant::now() + PATIENCE;
            }
            // What is damaged is not large. If this was a verdict in disguise, no partition of the source is to take it for its own.
            Some(Err(KafkaError::MessageConsumption(Code::BadCompression))) => {
                allowance().undisguise();
                break;
            }
            Some(Err(
                KafkaError::PartitionEOF(_) | KafkaError::MessageConsumption(Code::BadMessage | Code::NotImplemented),
            )) => break,
            Some(Err(_)) | None => {}
        }
    }
    Ok(None)
}

fn offset(list: &TopicPartitionList) -> Option<i64> {
    match list.elements().first()?.offset() {
        Offset::Offset(offset) => Some(offset),
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
    }
}

/// The size of the last answer that was refused.
#[derive(Debug, Default)]
struct Refusals(Mutex<Option<u64>>);

impl Refusals {
    fn take(&self) -> Option<u64> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Refusals {
    fn log(&self, _level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::trace!(fac, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "while looking for a large batch");
        if let Some(size) = refused_size(reason) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(size);
        }
    }
}

impl ConsumerContext for Refusals {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_in_the_librarys_words() {
        let reason = "127.0.0.1:9092/1: Receive failed: Invalid response size 120000103 (0..100000000): increase \
                      receive.message.max.bytes";
        assert_eq!(refused_size(reason), Some(120_000_103));
        assert_eq!(refused_size("127.0.0.1:9092/1: Disconnected"), None);
    }
}
