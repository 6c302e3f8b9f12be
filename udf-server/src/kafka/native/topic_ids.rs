//! The ids of topics (KIP-516), which tell a topic from another one that had its name.
//!
//! The library's safe interface tells names only.

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{IsError, RDKafkaErrorCode};

use native::rd_kafka_admin_op_t as Call;

use super::admin::{Question, ask};
use crate::kafka::identity::TopicId;

/// Asks the brokers for the ids of topics: one request for all of them. It needs the right to see the topics, as all that
/// reads them does. Topics that the brokers don't tell an id of are left out: those that are missing, or that we may not
/// see, and all topics where the brokers are older than ids (Kafka 2.8).
///
/// # Errors
///
/// What the client library says: that no broker answers.
pub(in crate::kafka) fn topic_ids<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    names: impl Iterator<Item = impl AsRef<str>>,
    timeout: Duration,
) -> Result<Vec<(String, TopicId)>, RDKafkaErrorCode> {
    let names: Result<Vec<_>, _> = names.map(|name| CString::new(name.as_ref())).collect();
    let names = names.map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let put = |Question { client, options, queue }| {
        // SAFETY: the parts of the question are alive, and the topics are ours until they are given back; the library copies
        // names and options in its calls.
        #[expect(unsafe_code, reason = "the library's safe interface does not tell ids")]
        unsafe {
            let topics = native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            native::rd_kafka_DescribeTopics(client, topics, options, queue);
            native::rd_kafka_TopicCollection_destroy(topics);
        }
    };
    // SAFETY: the call is the one that is named, and what is read is copied.
    #[expect(unsafe_code, reason = "the library's safe interface does not tell ids")]
    unsafe {
        ask(consumer, Call::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout, put, |event| Ok(read(event)))
    }
}

/// Reads the answer out of an event.
///
/// # Safety
///
/// The event is alive, and the answer to the call.
#[expect(unsafe_code, reason = "the library's safe interface does not tell ids")]
unsafe fn read(event: *mut native::rd_kafka_event_t) -> Vec<(String, TopicId)> {
    // SAFETY: the event is alive and holds what is read here; pointers to nothing are looked for.
    unsafe {
        let (result, mut count) = (native::rd_kafka_event_DescribeTopics_result(event), 0);
        if result.is_null() {
            return Vec::new();
        }
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() {
            return Vec::new();
        }
        let topics = std::slice::from_raw_parts(topics, count);
        topics.iter().filter_map(|topic| described(*topic)).collect()
    }
}

/// The name and the id of a topic, if the brokers tell of it.
///
/// # Safety
///
/// The description is null, or alive.
#[expect(unsafe_code, reason = "the library's safe interface does not tell ids")]
unsafe fn described(topic: *const native::rd_kafka_TopicDescription_t) -> Option<(String, TopicId)> {
    if topic.is_null() {
        return None;
    }
    // SAFETY: the description is alive, and owns its error, its name and its id; pointers to nothing are looked for.
    unsafe {
        let error = native::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() && native::rd_kafka_error_code(error).is_error() {
            return None;
        }
        let (name, id) =
            (native::rd_kafka_TopicDescription_name(topic), native::rd_kafka_TopicDescription_topic_id(topic));
        if name.is_null() || id.is_null() {
            return None;
        }
        let bits = (native::rd_kafka_Uuid_most_significant_bits(id), native::rd_kafka_Uuid_least_significant_bits(id));
        Some((CStr::from_ptr(name).to_str().ok()?.to_owned(), TopicId::new(bits)?))
    }
}
