//! Taking records off a partition's queue: the one place that knows how the client library hands them over.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::context::Context;
use super::record::Record;

/// Hands up to `max` records that are there already to `each`, without waiting, until it says `false`.
pub(super) fn fetch(
    queue: &PartitionQueue<Context>,
    max: usize,
    mut each: impl FnMut(Record<'_>) -> bool,
) -> Result<(), KafkaError> {
    for _ in 0..max {
        let Some(message) = queue.poll(std::time::Duration::ZERO) else { break };
        if !with_record(&message?, &mut each) {
            break;
        }
    }
    Ok(())
}

/// Hands a message of the client library to `each`.
pub(super) fn with_record<R>(message: &BorrowedMessage<'_>, each: impl FnOnce(Record<'_>) -> R) -> R {
    let headers = match message.headers() {
        None => Vec::new(),
        // The library panics on a header whose name is not UTF-8. The record goes on without its headers then: an
        // unreadable name must not stop the partition.
        Some(headers) => catch_unwind(AssertUnwindSafe(|| headers.iter().map(|h| (h.key, h.value)).collect()))
            .unwrap_or_else(|_| {
                tracing::warn!(
                    topic = message.topic(),
                    partition = message.partition(),
                    offset = message.offset(),
                    "a header's name is not UTF-8: the record goes on without its headers"
                );
                Vec::new()
            }),
    };
    each(Record {
        offset: message.offset(),
        key: message.key(),
        value: message.payload(),
        timestamp: message.timestamp().to_millis(),
        headers: &headers,
    })
}
