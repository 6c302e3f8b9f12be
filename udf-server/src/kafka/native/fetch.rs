//! Taking records off a partition's queue, many in one call.
//!
//! The client library's safe interface hands over one record a call, with an event and a reference count for each. The
//! call that fills an array costs less than half of that, and is only there in C.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::Thread;

use rdkafka::bindings as native;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

use crate::kafka::context::Context;
use crate::kafka::record::{Header, Record, Timestamp};

/// The most records taken in one call.
pub(in crate::kafka) const BATCH: usize = 512;

/// The timestamp of a record that has none.
const NO_TIMESTAMP: i64 = -1;

/// What a partition's queue holds where there is no record: an error, at the place where it came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka) struct Trouble {
    pub(in crate::kafka) code: RDKafkaErrorCode,
    /// Of records that cannot be read, the first one's.
    pub(in crate::kafka) offset: i64,
}

/// The queue of one partition.
pub(in crate::kafka) struct Queue {
    /// A handle of the same queue as that of `_split`; valid until it is destroyed, which `drop` does.
    handle: NonNull<native::rd_kafka_queue_t>,
    /// What the library fills in; only its first places are used in any call.
    batch: Box<[*mut native::rd_kafka_message_t; BATCH]>,
    /// Keeps the queue apart from the client's own one, wakes the thread, and keeps the client alive.
    _split: PartitionQueue<Context>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Splits the partition's queue from that of the client; `None` where there is no such partition. `worker` is woken
    /// when it is no longer empty.
    pub(in crate::kafka) fn split(
        consumer: &Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: i32,
        worker: Thread,
    ) -> Option<Self> {
        let mut split = consumer.split_partition_queue(topic, partition)?;
        split.set_nonempty_callback(move || worker.unpark());
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client is alive, since `consumer` is, and stays so as long as `split`, which holds a reference to it.
        // The topic is a C string that outlives the call.
        #[expect(unsafe_code, reason = "the library's batch call wants the queue's own handle")]
        let handle = unsafe { native::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        Some(Self { handle: NonNull::new(handle)?, batch: Box::new([ptr::null_mut(); BATCH]), _split: split })
    }

    /// How many records and errors are there already.
    pub(in crate::kafka) fn len(&self) -> usize {
        // SAFETY: the handle is valid until `drop`.
        #[expect(unsafe_code, reason = "the queue's length is only there in C")]
        unsafe {
            native::rd_kafka_queue_length(self.handle.as_ptr())
        }
    }

    /// Hands up to `max` records that are there already to `each`, in order and without waiting. What the queue holds
    /// beside records are errors of the partition, each at the place where it came up. `true` if there was anything.
    pub(in crate::kafka) fn fetch(&mut self, max: usize, mut each: impl FnMut(Result<Record<'_>, Trouble>)) -> bool {
        let places = max.min(BATCH);
        if places == 0 {
            return false;
        }
        // SAFETY: the handle is valid until `drop`, and there are as many places to fill in as the call is told. The
        // library fills the first of them with messages that are ours to destroy, and says how many.
        #[expect(unsafe_code, reason = "the library's batch call")]
        let count =
            unsafe { native::rd_kafka_consume_batch_queue(self.handle.as_ptr(), 0, self.batch.as_mut_ptr(), places) };
        // It is -1 on an error, which there is none of for a queue that exists.
        let count = usize::try_from(count).unwrap_or(0).min(places);
        for place in &mut self.batch[..count] {
            let Some(message) = NonNull::new(std::mem::replace(place, ptr::null_mut())) else { continue };
            let message = Owned(message);
            match message.trouble() {
                Some(trouble) => each(Err(trouble)),
                None => {
                    // SAFETY: the message is one of the library's, and lives until its owner goes at the end of the round.
                    #[expect(unsafe_code, reason = "a record is read where it lies")]
                    each(Ok(unsafe { record(message.0.as_ref()) }));
                }
            }
        }
        count > 0
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, used nowhere else, and not used again. The client is still there: `_split`, which
        // is dropped after this, holds it.
        #[expect(unsafe_code, reason = "what the library gave has to be given back")]
        unsafe {
            native::rd_kafka_queue_destroy(self.handle.as_ptr());
        }
    }
}

/// A message of the library that is ours, and goes when this does.
struct Owned(NonNull<native::rd_kafka_message_t>);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the message came from the library, is ours, and is not used again.
        #[expect(unsafe_code, reason = "what the library gave has to be given back")]
        unsafe {
            native::rd_kafka_message_destroy(self.0.as_ptr());
        }
    }
}

impl Owned {
    fn trouble(&self) -> Option<Trouble> {
        let message = self.0.as_ptr();
        // SAFETY: the message is valid as long as `self`. The error is read as the number that it is: brokers have codes of
        // which the enumeration does not know, and a value that it does not have would be undefined behaviour.
        #[expect(unsafe_code, reason = "fields of the library's message")]
        let (number, offset) = unsafe { ((&raw const (*message).err).cast::<i32>().read(), (*message).offset) };
        (number != 0).then(|| Trouble { code: code(number), offset })
    }
}

/// The error of this number.
fn code(number: i32) -> RDKafkaErrorCode {
    RDKafkaRespErr::try_from(number).map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from)
}

/// Hands a message of the client's own queue to `each`.
pub(in crate::kafka) fn with_record(message: &BorrowedMessage<'_>, each: impl FnOnce(Record<'_>)) {
    // SAFETY: the pointer is that of the message, which outlives the call.
    #[expect(unsafe_code, reason = "one way to read a record, whichever queue it came by")]
    let record = unsafe { record(&*message.ptr()) };
    each(record);
}

/// What a message holds, borrowed from it.
///
/// # Safety
///
/// The message must be one of the library's without an error. All that is read belongs to it, and is not changed.
#[expect(unsafe_code, reason = "the fields of the library's message")]
unsafe fn record(message: &native::rd_kafka_message_t) -> Record<'_> {
    use native::rd_kafka_timestamp_type_t as Kind;

    let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is the library's, and the lengths are too.
    let (millis, epoch, key, value, headers) = unsafe {
        (
            native::rd_kafka_message_timestamp(message, &raw mut kind),
            native::rd_kafka_message_leader_epoch(message),
            slice(message.key, message.key_len),
            slice(message.payload, message.len),
            headers(message),
        )
    };
    let timestamp = match kind {
        // A producer that gives none writes this, and it is not the last millisecond of 1969.
        _ if millis == NO_TIMESTAMP => Timestamp::None,
        Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::None,
        Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::Created(millis),
        Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::Appended(millis),
    };
    // It is -1 where the brokers are too old to tell it.
    let leader_epoch = (epoch >= 0).then_some(epoch);
    Record { offset: message.offset, key, value, timestamp, leader_epoch, headers }
}

/// The headers of a message, in their order, repeated ones and those without a value too.
///
/// # Safety
///
/// The message must be one of the library's.
#[expect(unsafe_code, reason = "headers are only there by call")]
unsafe fn headers(message: &native::rd_kafka_message_t) -> Vec<Header<'_>> {
    let mut headers = Vec::new();
    let mut list = ptr::null_mut();
    // SAFETY: the message is the library's; it keeps what it points `list` to.
    let found = unsafe { native::rd_kafka_message_headers(message, &raw mut list) };
    if found.is_error() {
        return headers;
    }
    for index in 0.. {
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list is that of the message; an index after its end is answered by an error.
        let found =
            unsafe { native::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut len) };
        if found.is_error() {
            break;
        }
        // SAFETY: the library ends names with a zero and knows the length of values; both live as long as the message.
        let (name, value) = unsafe { (CStr::from_ptr(name), slice(value, len)) };
        // Kafka wants names in UTF-8 and does not check it.
        headers.push(Header { name: name.to_string_lossy(), value });
    }
    headers
}

/// Bytes of the library; `None` where it says so.
///
/// # Safety
///
/// There must be `len` bytes at `start`, unless it is null, which live and stay as they are for `'a`.
#[expect(unsafe_code, reason = "bytes of the library")]
unsafe fn slice<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    let start = NonNull::new(start.cast_mut())?;
    // SAFETY: as above.
    Some(unsafe { std::slice::from_raw_parts(start.as_ptr().cast_const().cast(), len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_that_nobody_knows_are_errors_too() {
        assert_eq!(
            code(RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as i32),
            RDKafkaErrorCode::OffsetOutOfRange
        );
        for number in [131, 9999, i32::MIN] {
            assert_eq!(code(number), RDKafkaErrorCode::Unknown, "{number}");
        }
    }
}
