//! How far the client library has come with some partitions.
//!
//! The library's safe interface tells it of all assigned partitions, and asks the library's own thread which these are. The
//! call for partitions that are named reads shared memory, and is only there in C.

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::context::Context;
use crate::kafka::lane::Lane;

/// By partition id, the offset after the last record that the library has handed out since it began to read the partition
/// or sought in it. Partitions of which it has handed out none are left out.
pub(in crate::kafka) fn positions<'a>(
    consumer: &BaseConsumer<Context>,
    lanes: impl Iterator<Item = &'a Lane>,
) -> Vec<(u16, i64)> {
    let mut list = TopicPartitionList::new();
    let ids: Vec<u16> = lanes
        .map(|lane| {
            list.add_partition(&lane.topic, lane.partition);
            lane.id
        })
        .collect();
    // SAFETY: the client is alive as long as `consumer` is, and the list is ours. The call sets the offset of each element,
    // and keeps nothing of the list.
    #[expect(unsafe_code, reason = "the library's safe interface asks its own thread first")]
    let _always_succeeds = unsafe { native::rd_kafka_position(consumer.client().native_ptr(), list.ptr()) };
    let position = |(id, offset)| if let Offset::Offset(offset) = offset { Some((id, offset)) } else { None };
    let offsets = list.elements().into_iter().map(|element| element.offset());
    ids.into_iter().zip(offsets).filter_map(position).collect()
}
