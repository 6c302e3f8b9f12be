//! One assigned partition, as the thread that reads sees it.

use std::sync::Arc;
use std::thread::Thread;

use numaflow_sdk::source::EncodedMessage;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::allowance::{Verdict, allowance};
use super::backoff::Backoff;
use super::context::Context;
use super::course::{Course, Step};
use super::damage::{Passing, is_damage};
use super::lookup::Unanswered;
use super::native::epoch;
use super::native::fetch::{Queue, Trouble};
use super::positions::{Committed, Place, commit_metadata};
use super::record::{Encoder, Form, Record};
use super::token::Topics;
use super::tracker::Cut;

/// The size of a record of which nothing is known: rather too large, so that the first records leave room for others.
const USUAL: usize = 64 << 10;

/// Why a partition beyond the last id is not read.
const NO_ID: &str = "there is no partition id left for it, because its topic has grown beyond 1024 partitions with several \
                     topics, or beyond 65536 in all: read the topic with a source of its own, or give --partition-ids replica";

/// The way of one partition's records from the client library to the tracker.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) id: u16,
    queue: Queue,
    encoder: Encoder,
    /// How many records the next fetch may take.
    pub(super) room: usize,
    /// Nothing was taken from the queue yet: the library itself knows where the partition begins.
    pub(super) is_untouched: bool,
    /// Encoded, and not yet with the tracker.
    pub(super) fetched: Vec<(i64, EncodedMessage)>,
    /// Records that cannot be read: what comes after them must not pass them.
    pub(super) broken: Option<Trouble>,
    /// How many answers had no record of the partition since the last look: compaction leaves batches behind that are empty.
    /// The client library says of such an answer, once there were ten, that a record may be too large to be fetched, and
    /// goes on behind it.
    pub(super) empty_answers: usize,
    /// What else went wrong with the partition since it was last told.
    pub(super) trouble: Option<Code>,
    /// Such records that are being passed over, and those that have been.
    pub(super) passing: Option<Passing>,
    pub(super) passed: Option<Passing>,
    /// An offset below the position has come.
    pub(super) cut: Option<(i64, Cut)>,
    /// Records from here on are gone, up to the next one that comes.
    pub(super) reset_from: Option<i64>,
    /// It is not known where to begin with the partition, and why not. It is paused meanwhile: see `waiting`.
    pub(super) waits: Option<Unanswered>,
    /// The group's commit, which the partition begins with, until it is validated: see `validation`. It is paused meanwhile.
    pub(super) unvalidated: Option<i64>,
    /// As long as no record has come: the group's commit, which the partition begins with.
    pub(super) committed: Option<i64>,
    course: Course,
    /// It is to be read again from here on, to find whether its log was cut, and where. What comes before that is dropped.
    pub(super) back: Option<i64>,
    /// What goes with its commits.
    pub(super) metadata: Option<String>,
    /// The offset that was stored last, unless that was taken back.
    stored: Option<i64>,
    /// The offset that the brokers have confirmed last.
    confirmed: Option<i64>,
    /// Nothing was committed since the partition came or its offsets went back. What the library takes for committed may be
    /// of a topic that is gone.
    pub(super) uncertain: bool,
    /// What the library says of its position while it is this: it is of the time before the offsets went back, or the library
    /// has counted an error as a record that was handed out.
    pub(super) outdated: Option<i64>,
    /// The verdict about a batch that could not be decompressed when it came last.
    suspected: Option<Trouble>,
    /// Batches that found no room to be decompressed since the last look. The library fetches them again.
    pub(super) postponed: usize,
    /// Fetching is paused, because the library holds too much: see `relief`.
    pub(super) paused: bool,
    /// How long it stays paused at the least: the answers that should have its records cannot be read.
    pub(super) backoff: Backoff,
    /// From here on records are too large to be taken from the broker: see `search`.
    pub(super) unfetchable: Option<Unfetchable>,
    /// The mean size of the records that came last.
    pub(super) mean: usize,
}

/// A batch that is larger than what the client library takes from a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfetchable {
    /// Of its first record.
    pub(super) offset: i64,
    /// The size of the broker's answer.
    pub(super) bytes: u64,
}

impl Lane {
    /// Opens the way of a partition. It must be open before the partition is read, or its first records go another way.
    pub(super) fn open(
        consumer: &Arc<BaseConsumer<Context>>,
        topics: &Topics,
        (topic, partition): (&str, i32),
        form: Form,
        worker: Thread,
    ) -> Result<Self, &'static str> {
        let id = topics.meet(topic, partition).ok_or(NO_ID)?;
        let queue = Queue::split(consumer, topic, partition, worker).ok_or("it has no queue")?;
        Ok(Self {
            topic: topic.to_owned(),
            partition,
            id,
            queue,
            encoder: Encoder::new(topic, partition, topics.replica().unwrap_or(id), form),
            room: 0,
            is_untouched: true,
            fetched: Vec::new(),
            broken: None,
            empty_answers: 0,
            trouble: None,
            passing: None,
            passed: None,
            cut: None,
            reset_from: None,
            waits: None,
            unvalidated: None,
            committed: None,
            course: Course::default(),
            back: None,
            metadata: None,
            stored: None,
            confirmed: None,
            uncertain: true,
            outdated: None,
            suspected: None,
            postponed: 0,
            paused: false,
            backoff: Backoff::default(),
            unfetchable: None,
            mean: USUAL,
        })
    }

    pub(super) fn is(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && self.topic == topic
    }

    /// Takes what there is and fits.
    pub(super) fn fetch(&mut self) {
        self.fetch_up_to(self.room.saturating_sub(self.fetched.len()));
    }

    /// Frees the records that the library has ready. After a pause they are outdated: the library drops them as it is asked for
    /// records, and would keep them until there is room again.
    pub(super) fn purge_outdated(&mut self) {
        self.fetch_up_to(1);
    }

    fn fetch_up_to(&mut self, most: usize) {
        let Self { queue, encoder, course, back, fetched, broken, trouble: other, .. } = self;
        let Self { passing, passed, outdated, .. } = self;
        let (postponed, empty_answers, suspected) = (&mut self.postponed, &mut self.empty_answers, &mut self.suspected);
        let has_taken = queue.fetch(most, |record| match record {
            _ if broken.is_some() || back.is_some() => {}
            Ok(record) => {
                *suspected = None;
                *passed = passing.take().or(*passed);
                accept(&record, course, back, encoder, fetched);
            }
            Err(trouble) => {
                let may_be_of_another = trouble.code == Code::BadCompression;
                let trouble @ Trouble { code, offset } = plain(trouble);
                if is_damage(trouble) {
                    if !may_be_of_another || suspected.replace(trouble) == Some(trouble) {
                        *broken = Some(trouble);
                        return;
                    }
                    // The library fetches the batch again, and it is believed what is said of it twice.
                } else if code == Code::CriticalSystemResource {
                    *postponed += 1;
                } else if code == Code::MessageSizeTooLarge {
                    *empty_answers += 1;
                } else {
                    *other = Some(code);
                }
                *outdated = (*outdated).max(Some(offset.saturating_add(1)));
            }
        });
        self.is_untouched &= !has_taken;
    }

    /// Takes note of how large the records are that have come.
    pub(super) fn note_mean(&mut self) {
        let len: usize = self.fetched.iter().map(|(_, record)| record.len()).sum();
        self.mean = len.checked_div(self.fetched.len()).unwrap_or(self.mean);
    }

    /// How many records the library has ready, errors included.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Takes a record that came another way.
    pub(super) fn take(&mut self, record: &Record<'_>) {
        self.is_untouched = false;
        if self.back.is_some() {
            return;
        }
        accept(record, &mut self.course, &mut self.back, &mut self.encoder, &mut self.fetched);
    }

    /// Adds the partition to `moved` if the group may commit another offset than was stored last; `true` if so.
    pub(super) fn store(&mut self, point: Option<i64>, moved: &mut TopicPartitionList) -> bool {
        if point.is_none() || point == self.stored {
            return false;
        }
        self.uncertain |= point < self.stored;
        self.stored = point;
        if let Some(point) = point {
            self.course.epochs.forget_before(point);
        }
        self.add_stored(moved);
        true
    }

    /// Takes note that what was stored is taken back: the partition waits to be given back.
    pub(super) fn unstore(&mut self) {
        self.stored = None;
    }

    /// Takes note that the brokers have this offset now. `false`, and no effect, for one from before the offsets went back:
    /// it says nothing of those after.
    pub(super) fn note_committed(&mut self, offset: i64) -> bool {
        let is_former = self.stored.is_some_and(|stored| offset > stored);
        self.uncertain &= is_former;
        if !is_former {
            self.confirmed = Some(offset);
        }
        !is_former
    }

    /// Whether something is stored that the brokers have not confirmed.
    pub(super) fn has_unconfirmed(&self) -> bool {
        self.stored.is_some() && self.stored != self.confirmed
    }

    /// Adds the offset that was stored last.
    pub(super) fn add_stored(&self, list: &mut TopicPartitionList) {
        let Some(offset) = self.stored else { return };
        let metadata = self.metadata.as_deref().map(|metadata| commit_metadata(metadata, &self.course.epochs, offset));
        self.add(offset, metadata, list);
    }

    /// Adds an offset to read on from.
    pub(super) fn add_position(&self, offset: i64, list: &mut TopicPartitionList) {
        self.add(offset, None, list);
    }

    /// Adds an offset, with the epoch of the record before it.
    fn add(&self, offset: i64, metadata: Option<String>, list: &mut TopicPartitionList) {
        let mut element = list.add_partition(&self.topic, self.partition);
        // The library refuses only what stands for something else than an offset.
        if let Err(error) = element.set_offset(Offset::Offset(offset)) {
            tracing::error!(%error, topic = self.topic, partition = self.partition, offset, "there is no such offset");
        }
        if let Some(metadata) = metadata {
            element.set_metadata(metadata);
        }
        if let Some(epoch) = self.course.epochs.before(offset) {
            epoch::set_of_last(list, epoch);
        }
    }

    /// Begins at this place. Where it is the group's commit, and its epoch is known, the commit is to be validated.
    pub(super) fn begin_at(&mut self, place: &Place) {
        let Place::Committed(Committed { offset, epochs }) = place else { return };
        self.committed = Some(*offset);
        self.unvalidated = epochs.before(*offset).map(|_| *offset);
        self.course = Course::new(*offset, epochs.clone());
    }

    /// Takes note that the partition is read again from where it was to be.
    pub(super) fn has_gone_back(&mut self) {
        if let Some(offset) = self.back.take() {
            self.course.compare_from(offset);
        }
    }

    /// Takes note that the partition is read on from the tracker's position.
    pub(super) fn goes_on(&mut self) {
        self.back = None;
        self.course.go_on();
    }

    /// Forgets the records of a topic that is gone: the first one of another topic of the same name comes next. What the group
    /// had committed of it when the partition came is returned, if nothing has come since.
    pub(super) fn begin_anew(&mut self) -> Option<i64> {
        self.fetched.clear();
        (self.course, self.back) = (Course::default(), None);
        (self.broken, self.passing, self.passed) = (None, None, None);
        (self.unfetchable, self.reset_from) = (None, None);
        self.committed.take()
    }

    /// The offset after the last record that was read, while records of before are read again: see [`Course`].
    pub(super) fn next_while_compared(&self) -> Option<i64> {
        self.course.next_while_compared()
    }

    /// Whether it is known where the partition begins, and that its log has not been cut before that.
    pub(super) fn has_begun(&self) -> bool {
        self.waits.is_none() && self.unvalidated.is_none()
    }
}

/// Adds a record to those that were fetched, unless it was read before.
fn accept(
    record: &Record<'_>,
    course: &mut Course,
    back: &mut Option<i64>,
    encoder: &mut Encoder,
    fetched: &mut Vec<(i64, EncodedMessage)>,
) {
    match course.meet(record.offset, record.leader_epoch) {
        Step::Take => fetched.push((record.offset, encoder.encode(record))),
        Step::PassOver => {}
        Step::GoBack(offset) => *back = Some(offset),
    }
}

/// A trouble without its disguise: some verdicts about batches come as damage. The verdict may be that of another partition's
/// batch, of one that is read no more, or of one that the search has come across.
fn plain(trouble: Trouble) -> Trouble {
    let verdict = if trouble.code == Code::BadCompression { allowance().undisguise() } else { None };
    let code = match verdict {
        None | Some(Verdict::Granted) => trouble.code,
        Some(Verdict::Postponed) => Code::CriticalSystemResource,
        Some(Verdict::TooLarge) => Code::MessageBatchTooLarge,
    };
    Trouble { code, ..trouble }
}
