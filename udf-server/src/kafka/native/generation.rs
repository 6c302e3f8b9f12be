//! The generation of the group that this member is in.

use std::ptr::NonNull;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::kafka::context::Context;

/// The group's generation, or the member's epoch in a group of the new protocol; 0 or less for a member that the group
/// does not know.
///
/// It asks the client's own thread, not the brokers.
pub(in crate::kafka) fn generation(consumer: &BaseConsumer<Context>) -> i32 {
    // SAFETY: the client is alive as long as `consumer` is.
    #[expect(unsafe_code, reason = "the library's safe interface does not tell the generation")]
    let metadata = NonNull::new(unsafe { native::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) });
    let Some(metadata) = metadata else { return 0 };
    // SAFETY: what the library gave is valid until it is given back, and nobody else has it.
    #[expect(unsafe_code, reason = "what the library gave has to be given back")]
    unsafe {
        let generation = native::rd_kafka_consumer_group_metadata_generation_id(metadata.as_ptr());
        native::rd_kafka_consumer_group_metadata_destroy(metadata.as_ptr());
        generation
    }
}
