//! How far the client library has come with some partitions, and how far it could.
//!
//! The library's safe interface tells it of all assigned partitions, and asks the library's own thread which these are. The
//! call for partitions that are named reads shared memory, and is only there in C.

use std::ffi::CString;

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

/// The offset after the last record of a partition, as the last answer to a fetch told it; `None` before the first one.
pub(in crate::kafka) fn end(consumer: &BaseConsumer<Context>, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (0, 0);
    // SAFETY: the client is alive as long as `consumer` is. The topic is a C string that outlives the call, and there is a place
    // for each of both offsets.
    #[expect(unsafe_code, reason = "the library's safe interface asks the broker")]
    unsafe {
        native::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        );
    }
    // Before the first answer, and on an error, it is negative or was not set.
    (high > 0).then_some(high)
}
