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
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::Context;
use super::lane::Lane;
use super::thread::Worker;

/// How long the client library has to take note of the offsets to begin with. It only hands them to its own thread.
pub(super) const SEEK: Duration = Duration::from_millis(500);

/// Reads a partition on from this offset. With a timeout it waits until the library has taken note.
pub(super) fn seek(consumer: &BaseConsumer<Context>, lane: &Lane, offset: i64, timeout: Duration) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    lane.add_position(offset, &mut list);
    let list = consumer.seek_partitions(list, timeout)?;
    list.elements().first().map_or(Ok(()), |element| match element.error() {
        Err(error) if error.rdkafka_error_code() != Some(Code::InProgress) => Err(error),
        _ => Ok(()),
    })
}

impl Worker {
    /// Has the commits validated that partitions begin with. A partition with which the library has not begun yet is tried
    /// again in the next turn.
    pub(super) fn validate(&mut self) {
        let to_validate = |lane: &Lane| lane.unvalidated.filter(|_| lane.waits.is_none());
        if !self.lanes.iter().any(|lane| to_validate(lane).is_some()) {
            return;
        }
        let mut list = TopicPartitionList::new();
        for lane in &self.lanes {
            if let Some(offset) = to_validate(lane) {
                lane.add_position(offset, &mut list);
            }
        }
        let sought = match self.consumer.seek_partitions(list, SEEK) {
            Ok(sought) => sought,
            Err(error) => {
                tracing::debug!(%error, "the commits of partitions are not validated yet");
                return;
            }
        };
        let mut resumed = TopicPartitionList::new();
        for element in sought.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let Some(lane) = self.lanes.iter_mut().find(|lane| lane.is(topic, partition)) else { continue };
            match element.error() {
                Ok(()) => {
                    lane.unvalidated = None;
                    if !lane.paused {
                        resumed.add_partition(topic, partition);
                    }
                }
                Err(error) => tracing::debug!(%error, topic, partition, "the commit is not validated yet"),
            }
        }
        if resumed.count() > 0
            && let Err(error) = self.consumer.resume(&resumed)
        {
            tracing::error!(%error, "partitions whose commits are validated cannot be read");
        }
    }
}
