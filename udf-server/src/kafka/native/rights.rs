//! What the brokers allow us to do with a topic or a group, without doing it.
//!
//! Only the describing calls of the C interface tell it: Kafka's own name for it is "authorized operations" (KIP-430).

use std::ffi::CString;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use native::rd_kafka_AclOperation_t as Operation;
use native::rd_kafka_admin_op_t as Call;

use super::admin::{Question, ask, check};

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
}

/// What we may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka) struct Rights {
    pub(in crate::kafka) read: bool,
    pub(in crate::kafka) write: bool,
}

/// Asks the brokers what we may do; `None` where they don't tell.
///
/// # Errors
///
/// What the brokers say: that there is no such topic or group, or that we may not even see it.
pub(in crate::kafka) fn rights<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    resource: Resource<'_>,
    timeout: Duration,
) -> Result<Option<Rights>, RDKafkaErrorCode> {
    let (name, call) = match resource {
        Resource::Topic(name) => (name, Call::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
        Resource::Group(name) => (name, Call::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS),
    };
    let name = CString::new(name).map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
    let put = |Question { client, options, queue }| {
        let mut names = [name.as_ptr()];
        // SAFETY: the parts of the question are alive, and the topics are ours until they are given back; the library copies
        // names and options in its calls.
        #[expect(unsafe_code, reason = "the library's safe interface does not tell rights")]
        unsafe {
            let refused = native::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if let Some(refused) = NonNull::new(refused) {
                native::rd_kafka_error_destroy(refused.as_ptr());
            }
            match resource {
                Resource::Topic(_) => {
                    let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
                    native::rd_kafka_DescribeTopics(client, topics, options, queue);
                    native::rd_kafka_TopicCollection_destroy(topics);
                }
                Resource::Group(_) => {
                    native::rd_kafka_DescribeConsumerGroups(client, names.as_mut_ptr(), 1, options, queue);
                }
            }
        }
    };
    // SAFETY: the call is the one for the resource, and what is read is copied.
    #[expect(unsafe_code, reason = "the library's safe interface does not tell rights")]
    unsafe {
        ask(consumer, call, timeout, put, |event| read(event, resource))
    }
}

/// Reads the answer out of an event.
///
/// # Safety
///
/// The event is alive, and the answer to the call for this kind of resource.
#[expect(unsafe_code, reason = "the library's safe interface does not tell rights")]
unsafe fn read(
    event: *mut native::rd_kafka_event_t,
    resource: Resource<'_>,
) -> Result<Option<Rights>, RDKafkaErrorCode> {
    // SAFETY: the event is alive and holds what is read here; pointers to nothing are looked for.
    unsafe {
        let mut count = 0;
        let (error, operations) = match resource {
            Resource::Topic(_) => {
                let result = native::rd_kafka_event_DescribeTopics_result(event);
                if result.is_null() {
                    return Ok(None);
                }
                let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                if topics.is_null() || count == 0 {
                    return Ok(None);
                }
                let error = native::rd_kafka_TopicDescription_error(*topics);
                (error, native::rd_kafka_TopicDescription_authorized_operations(*topics, &raw mut count))
            }
            Resource::Group(_) => {
                let result = native::rd_kafka_event_DescribeConsumerGroups_result(event);
                if result.is_null() {
                    return Ok(None);
                }
                let groups = native::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
                if groups.is_null() || count == 0 {
                    return Ok(None);
                }
                let error = native::rd_kafka_ConsumerGroupDescription_error(*groups);
                (error, native::rd_kafka_ConsumerGroupDescription_authorized_operations(*groups, &raw mut count))
            }
        };
        if !error.is_null() {
            check(native::rd_kafka_error_code(error))?;
        }
        if operations.is_null() {
            return Ok(None);
        }
        let operations = std::slice::from_raw_parts(operations, count);
        let may =
            |operation| operations.contains(&operation) || operations.contains(&Operation::RD_KAFKA_ACL_OPERATION_ALL);
        Ok(Some(Rights {
            read: may(Operation::RD_KAFKA_ACL_OPERATION_READ),
            write: may(Operation::RD_KAFKA_ACL_OPERATION_WRITE),
        }))
    }
}
