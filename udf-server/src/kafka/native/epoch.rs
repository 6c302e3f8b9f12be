//! Whether a group of the new protocol has taken this member in.

use std::ptr::NonNull;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::kafka::context::Context;

/// Whether the group has given this member an epoch. A member of the classic protocol is told of every assignment; with
/// `group.protocol=consumer` the library says nothing of one that has no partitions.
///
/// It asks the client's own thread, not the brokers.
pub(in crate::kafka) fn is_member(consumer: &BaseConsumer<Context>) -> bool {
    // SAFETY: the client is alive as long as `consumer` is.
    #[expect(unsafe_code, reason = "the library's safe interface does not tell the epoch")]
    let metadata = NonNull::new(unsafe { native::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) });
    let Some(metadata) = metadata else { return false };
    // SAFETY: what the library gave is valid until it is given back, and nobody else has it.
    #[expect(unsafe_code, reason = "what the library gave has to be given back")]
    let epoch = unsafe {
        let epoch = native::rd_kafka_consumer_group_metadata_generation_id(metadata.as_ptr());
        native::rd_kafka_consumer_group_metadata_destroy(metadata.as_ptr());
        epoch
    };
    epoch > 0
}
