//! What cannot be read: batches of records whose checksum is wrong, or that are in a form which nobody knows.
//!
//! The client library tells where such a batch begins, not where it ends, and what it reads after it is not to be relied
//! on. So such a batch is passed over one offset at a time, each time from there, until something else comes. Of a batch in
//! an unknown form it tells only once, however often it comes across it, and of one that the broker itself cannot read
//! nothing is known at all: these can't be passed over. Nor can a batch that becomes larger than the source may hold, or one
//! whose offset is damaged, which no checksum covers: where it is beyond the log's end, nothing in it can be believed.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::Offset;

use super::native::fetch::Trouble;
use super::native::position;
use super::policy::{Damaged, name};
use super::thread::Worker;

/// Offsets that are being passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passing {
    /// The first of them.
    pub(super) from: i64,
    /// Where the partition is read on.
    pub(super) next: i64,
}

impl Passing {
    /// Takes one more offset: the first that is damaged at or after `position`, as far as the last step has come.
    fn step(last: Option<Self>, damaged: i64, position: i64) -> Self {
        let at = damaged.max(last.map_or(position, |last| last.next));
        Self { from: last.map_or(at, |last| last.from), next: at + 1 }
    }
}

/// Whether it is the records that are to blame, and not the way to them: they are damaged, or more than may be held.
pub(super) fn is_damage(trouble: Trouble) -> bool {
    matches!(
        trouble.code,
        Code::BadMessage
            | Code::BadCompression
            | Code::NotImplemented
            | Code::InvalidMessage
            | Code::MessageBatchTooLarge
    )
}

/// Whether it shows, for each offset after the first, that what is there is still the same.
fn shows_its_end(trouble: Trouble) -> bool {
    matches!(trouble.code, Code::BadMessage | Code::BadCompression)
}

impl Worker {
    /// Stops before what cannot be read, or reads on behind it.
    pub(super) fn meet_damage(&mut self) {
        for lane in &mut self.lanes {
            let (topic, partition) = (&*lane.topic, lane.partition);
            if let Some(Passing { from, next }) = lane.passed.take() {
                tracing::error!(topic, partition, from, next, "damaged records were passed over");
            }
            let Some(trouble @ Trouble { code: error, offset }) = lane.broken else { continue };
            let mut assignment = self.shared.lock();
            let Some(tracker) = assignment.tracker_mut(lane.id).filter(|tracker| tracker.halted().is_none()) else {
                continue;
            };
            let position = tracker.position().unwrap_or(0);
            let is_in_log = position::end(&self.consumer, topic, partition).is_none_or(|end| offset < end);
            let passing = Passing::step(lane.passing, if is_in_log { offset } else { position }, position);
            if self.config.on_damaged == Damaged::Halt || !shows_its_end(trouble) || !is_in_log {
                let offset = passing.next - 1;
                tracker.halt(offset);
                drop(assignment);
                if error == Code::MessageBatchTooLarge {
                    self.shared.counters.oversize_batches.add(1);
                    tracing::error!(
                        topic,
                        partition,
                        offset,
                        largest = self.config.largest_batch(),
                        "a batch of records becomes larger than this source may hold when it is decompressed; the \
                         partition stops before it: raise --max-in-flight-bytes, half of which a batch may take, and \
                         start the source again"
                    );
                } else {
                    tracing::error!(
                        %error,
                        topic,
                        partition,
                        offset,
                        on_damaged = name(&self.config.on_damaged),
                        "a record is damaged; the partition stops before it"
                    );
                }
                continue;
            }
            drop(assignment);
            if lane.passing.is_none() {
                let offset = passing.from;
                tracing::error!(%error, topic, partition, offset, "a record is damaged; it is passed over");
            }
            // What the library has read by now is of no use: with this it forgets it.
            match self.consumer.seek(topic, partition, Offset::Offset(passing.next), Duration::ZERO) {
                Ok(()) => {
                    lane.broken = None;
                    lane.passing = Some(passing);
                    self.shared.counters.damaged.add(1);
                }
                Err(error) => tracing::debug!(%error, topic, partition, "it cannot be passed over yet"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_passed_over_one_by_one() {
        let first = Passing::step(None, 5, 5);
        assert_eq!(first, Passing { from: 5, next: 6 });
        let second = Passing::step(Some(first), 5, 5);
        assert_eq!(second, Passing { from: 5, next: 7 }, "the batch goes on");
        assert_eq!(Passing::step(Some(second), 9, 5), Passing { from: 5, next: 10 }, "another one follows");
        assert_eq!(Passing::step(None, 5, 8), Passing { from: 8, next: 9 }, "what was read before is not damaged");
    }
}
