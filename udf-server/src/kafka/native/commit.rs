//! Asking for a commit whose answer is told.
//!
//! The client library's safe interface has two ways to commit what is stored: one that waits for the answer, which may
//! take a minute while the group rebalances, and one of which the answer never comes, because it goes to a callback of
//! another kind than the safe interface sets. The call that says where the answer is to go is only there in C.

use std::ptr::{self, NonNull};

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::kafka::context::Context;

/// Commits these offsets, or what is stored of all assigned partitions, without waiting. The answer comes to the context by
/// a later poll.
pub(in crate::kafka) fn commit(
    consumer: &BaseConsumer<Context>,
    offsets: Option<&TopicPartitionList>,
) -> Result<(), RDKafkaErrorCode> {
    let offsets = offsets.map_or(ptr::null(), |offsets| offsets.ptr().cast_const());
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive as long as `consumer` is.
    #[expect(unsafe_code, reason = "the queue that the consumer polls")]
    let queue = unsafe { native::rd_kafka_queue_get_consumer(client) };
    let Some(queue) = NonNull::new(queue) else { return Err(RDKafkaErrorCode::UnknownGroup) };
    // SAFETY: the client is alive, the handle of its queue is ours until it is destroyed right after the call, which takes
    // a reference of its own to the queue, and a copy of the offsets. None of them mean what is stored of all partitions that
    // are assigned; without a callback there is no opaque.
    #[expect(unsafe_code, reason = "the library's commit with a queue for the answer")]
    let code = unsafe {
        let code = native::rd_kafka_commit_queue(client, offsets, queue.as_ptr(), None, ptr::null_mut());
        native::rd_kafka_queue_destroy(queue.as_ptr());
        code
    };
    if code.is_error() { Err(code.into()) } else { Ok(()) }
}
