//! A question of the admin interface, and its answer: the part that all of them share.

use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use native::rd_kafka_admin_op_t as Call;

/// What a question is put with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) client: *mut native::rd_kafka_t,
    pub(super) options: *mut native::rd_kafka_AdminOptions_t,
    /// Where the answer comes.
    pub(super) queue: *mut native::rd_kafka_queue_t,
}

/// Puts a question to the brokers by `put`, waits for the answer, and has `read` copy what it says.
///
/// # Errors
///
/// What the client library says of the question, and what `read` says.
///
/// # Safety
///
/// `put` makes the call that `call` names, with the question's parts and once, and keeps none of them. `read` keeps nothing of
/// the event.
#[expect(unsafe_code, reason = "the admin calls are only there in C")]
pub(super) unsafe fn ask<C: ConsumerContext, T>(
    consumer: &BaseConsumer<C>,
    call: Call,
    timeout: Duration,
    put: impl FnOnce(Question),
    read: impl FnOnce(*mut native::rd_kafka_event_t) -> Result<T, RDKafkaErrorCode>,
) -> Result<T, RDKafkaErrorCode> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive as long as `consumer` is. Queue and options are ours, and are given back below, after the last
    // use of the event.
    unsafe {
        let queue = native::rd_kafka_queue_new(client);
        let options = native::rd_kafka_AdminOptions_new(client, call);
        native::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        put(Question { client, options, queue });
        // The call has a timeout of its own, after which it answers.
        let event = native::rd_kafka_queue_poll(queue, millis.saturating_add(1000));
        let answer = match NonNull::new(event) {
            Some(event) => {
                let answer = check(native::rd_kafka_event_error(event.as_ptr())).and_then(|()| read(event.as_ptr()));
                native::rd_kafka_event_destroy(event.as_ptr());
                answer
            }
            None => Err(RDKafkaErrorCode::OperationTimedOut),
        };
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// The error that a code stands for, if it is one.
pub(super) fn check(code: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    if code.is_error() { Err(code.into()) } else { Ok(()) }
}
