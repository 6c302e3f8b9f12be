//! A record read back from its wire form, to write it to another topic.

use std::time::SystemTime;

use bytes::Bytes;
use numaflow_sdk::source::EncodedMessage;

use super::headers::{self, KAFKA_HEADERS, KAFKA_NULL_HEADERS};
use super::{Form, KAFKA, KEY, TIMESTAMP, TOMBSTONE, time_of};

/// What was in Kafka before a record was encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Original {
    pub(in super::super) key: Option<Bytes>,
    pub(in super::super) value: Option<Bytes>,
    /// In their order. A name that was not UTF-8 is there with replacement characters.
    pub(in super::super) headers: Vec<(String, Option<Bytes>)>,
    /// The record's timestamp, or when it was read if it had none.
    pub(in super::super) time: SystemTime,
}

/// Reads a record back from a message of this form.
pub(in super::super) fn original(record: &EncodedMessage, form: Form) -> Original {
    let message = record.to_message();
    let metadata = message.user_metadata();
    let key = metadata.get(KAFKA, KEY).cloned();
    let key = key.or_else(|| message.keys().first().map(|key| Bytes::copy_from_slice(key.as_bytes())));
    let is_tombstone = metadata.get(KAFKA, TOMBSTONE).is_some();
    let placed = metadata.entries(KAFKA_HEADERS).map(|(key, value)| (key, Some(value)));
    let null = metadata.entries(KAFKA_NULL_HEADERS).map(|(key, _)| (key, None));
    let of_record = message.headers().filter(|(name, _)| !form.adds(name));
    let timestamp = || str::from_utf8(metadata.get(KAFKA, TIMESTAMP)?).ok()?.parse().ok();
    Original {
        key,
        value: (!is_tombstone).then(|| message.value().clone()),
        headers: headers::in_order(of_record, placed.chain(null)),
        time: timestamp().and_then(time_of).unwrap_or_else(|| message.event_time()),
    }
}
