//! Where partitions are read on from, and whether their logs still are as they were (KIP-320).
//!
//! A position goes with the epoch of the record before it, and the client library asks the partition's leader where the log
//! leaves that epoch. Where that is before the position, the log was cut, and the library goes back to there: the records
//! behind it are others. The library asks so when it sees that the leader is another one, and when it is told to seek. It does
//! not ask where it begins with the group's commit. So a partition with a commit is taken paused, sought at the commit, and
//! then read.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::context::Context;
use super::lane::Lane;
use super::thread::Worker;

/// How long the client library has to take note of the offsets to begin with. It only hands them to its own thread.
pub(super) const SEEK: Duration = Duration::from_millis(500);

/// Reads a partition on from this offset. With a timeout it waits until the library has taken note.
pub(super) fn seek(consumer: &BaseConsumer<Context>, lane: &Lane, offset: i64, timeout: Duration) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    lane.add_position(offset, &mut list);
    seek_in(consumer, list, timeout)
}

/// As [`seek`], with the partition's oldest record, whichever that is.
pub(super) fn seek_oldest(consumer: &BaseConsumer<Context>, lane: &Lane, timeout: Duration) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&lane.topic, lane.partition, Offset::Beginning)?;
    seek_in(consumer, list, timeout)
}

fn seek_in(consumer: &BaseConsumer<Context>, list: TopicPartitionList, timeout: Duration) -> KafkaResult<()> {
    let list = consumer.seek_partitions(list, timeout)?;
    list.elements().first().map_or(Ok(()), |element| match element.error() {
        Err(error) if error.rdkafka_error_code() != Some(Code::InProgress) => Err(error),
        _ => Ok(()),
    })
}

/// Reads partitions on from these offsets, and waits until the client library has taken note. Returns the ids of those of which
/// it has; the others are to be tried again.
pub(super) fn seek_all<'a>(
    consumer: &BaseConsumer<Context>,
    positions: impl Iterator<Item = (&'a Lane, i64)>,
) -> Vec<u16> {
    let (mut list, mut ids) = (None, Vec::new());
    for (lane, offset) in positions {
        lane.add_position(offset, list.get_or_insert_with(TopicPartitionList::new));
        ids.push(lane.id);
    }
    let Some(list) = list else { return ids };
    let sought = match consumer.seek_partitions(list, SEEK) {
        Ok(sought) => sought,
        Err(error) => {
            tracing::debug!(%error, "partitions are not sought yet");
            return Vec::new();
        }
    };
    let elements = sought.elements();
    let has_sought = |(_, element): &(u16, &TopicPartitionListElem<'_>)| match element.error() {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, topic = element.topic(), partition = element.partition(), "it is not sought yet");
            false
        }
    };
    ids.into_iter().zip(&elements).filter(has_sought).map(|(id, _)| id).collect()
}

impl Worker {
    /// Has the commits validated that partitions begin with. A partition with which the library has not begun yet is tried
    /// again in the next turn.
    pub(super) fn validate(&mut self) {
        let lanes = self.lanes.iter().filter(|lane| lane.waits.is_none());
        let sought = seek_all(&self.consumer, lanes.filter_map(|lane| Some((lane, lane.unvalidated?))));
        if sought.is_empty() {
            return;
        }
        let mut resumed = TopicPartitionList::new();
        for lane in self.lanes.iter_mut().filter(|lane| sought.contains(&lane.id)) {
            lane.unvalidated = None;
            if !lane.paused {
                resumed.add_partition(&lane.topic, lane.partition);
            }
        }
        if resumed.count() > 0
            && let Err(error) = self.consumer.resume(&resumed)
        {
            tracing::error!(%error, "partitions whose commits are validated cannot be read");
        }
    }
}
