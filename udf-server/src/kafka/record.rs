//! One Kafka record as the platform sees it.

use std::borrow::Cow;
use std::io::Write as _;
use std::str::Utf8Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use numaflow_sdk::source::{EncodedMessage, MessageRef};

use super::token::Token;

/// The user metadata group that holds a key that is not text, as it is.
const KAFKA: &str = "kafka";
/// The user metadata group that holds headers that are not text, as they are.
const KAFKA_HEADERS: &str = "kafka-headers";

/// The user metadata group of a record that is delivered again.
const KAFKA_DELIVERY: &str = "kafka-delivery";

/// A record, borrowed from the client library's buffers.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) offset: i64,
    pub(super) key: Option<&'a [u8]>,
    /// `None` for a tombstone.
    pub(super) value: Option<&'a [u8]>,
    pub(super) timestamp: Timestamp,
    /// In their order; a name may be there several times.
    pub(super) headers: Vec<Header<'a>>,
}

/// One header of a record.
#[derive(Debug, Clone)]
pub(super) struct Header<'a> {
    pub(super) name: Cow<'a, str>,
    /// `None` where the producer gave none, which is not the same as an empty one.
    pub(super) value: Option<&'a [u8]>,
}

/// The time of a record, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestamp {
    /// The broker does not say.
    None,
    /// The producer's.
    Created(i64),
    /// The broker's, as it took the record.
    Appended(i64),
}

/// Turns the records of one partition into their wire form. They share buffers, so a record costs one copy and rarely
/// an allocation.
#[derive(Debug)]
pub(super) struct Encoder {
    partition_id: u16,
    /// `topic:partition:`, after which each record's offset is written.
    token: Vec<u8>,
    prefix: usize,
    buffer: BytesMut,
}

/// How much is allocated at once. A record that is never acked keeps one buffer, so more is not better.
const BUFFER: usize = 64 << 10;

impl Encoder {
    pub(super) fn new(topic: &str, partition: i32, partition_id: u16) -> Self {
        let mut token = Token { topic, partition, offset: 0 }.to_string().into_bytes();
        token.pop();
        let prefix = token.len();
        Self { partition_id, token, prefix, buffer: BytesMut::with_capacity(BUFFER) }
    }

    /// Encodes a record.
    ///
    /// A key that is text becomes the message's key, any other one its Base64, with the bytes themselves under `key` in
    /// the user metadata group `kafka`. Headers that are text become headers, others (and those
    /// without a value) go to the group `kafka-headers`.
    pub(super) fn encode(&mut self, record: &Record<'_>) -> EncodedMessage {
        self.token.truncate(self.prefix);
        // Writing to a vector does not fail.
        _ = write!(self.token, "{}", record.offset);
        let message = MessageRef::new(
            record.value.unwrap_or_default(),
            &self.token,
            self.partition_id,
            event_time(record.timestamp),
        );
        match record.key.map(str::from_utf8) {
            // Most records are like this, and take nothing but the buffer.
            None if record.headers.is_empty() => message.encode(&mut self.buffer),
            Some(Ok(key)) if record.headers.is_empty() => message.with_keys(&[key]).encode(&mut self.buffer),
            key => encode_in_full(message, key, record, &mut self.buffer),
        }
    }
}

fn encode_in_full(
    message: MessageRef<'_>,
    key: Option<Result<&str, Utf8Error>>,
    record: &Record<'_>,
    buffer: &mut BytesMut,
) -> EncodedMessage {
    let base64;
    let raw_key = [("key", record.key.unwrap_or_default())];
    let mut metadata: Vec<(&str, Entries<'_>)> = Vec::new();
    let key = match key {
        Some(Err(_)) => {
            metadata.push((KAFKA, &raw_key));
            base64 = STANDARD.encode(raw_key[0].1);
            Some(&*base64)
        }
        Some(Ok(key)) => Some(key),
        None => None,
    };
    let mut text = Vec::new();
    let mut binary = Vec::new();
    for Header { name, value } in &record.headers {
        match value.map(str::from_utf8) {
            Some(Ok(value)) => text.push((&**name, value)),
            Some(Err(_)) | None => binary.push((&**name, value.unwrap_or_default())),
        }
    }
    if !binary.is_empty() {
        metadata.push((KAFKA_HEADERS, &binary));
    }
    message.with_keys(key.as_slice()).with_headers(&text).with_user_metadata(&metadata).encode(buffer)
}

/// Keys and values of one group of metadata.
type Entries<'a> = &'a [(&'a str, &'a [u8])];

/// The platform insists on a time, so a record without one happens now.
fn event_time(timestamp: Timestamp) -> SystemTime {
    let (Timestamp::Created(millis) | Timestamp::Appended(millis)) = timestamp else { return SystemTime::now() };
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or_else(SystemTime::now)
}

/// What was in Kafka before a record was encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Original {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(String, Option<Bytes>)>,
}

/// Reads a record back, to write it to another topic.
pub(super) fn original(record: &EncodedMessage) -> Original {
    let message = record.to_message();
    let metadata = message.user_metadata();
    let key = metadata.get(KAFKA, "key").cloned();
    let key = key.or_else(|| message.keys().first().map(|key| Bytes::copy_from_slice(key.as_bytes())));
    let text = message.headers().map(|(name, value)| (name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))));
    let binary = metadata.entries(KAFKA_HEADERS).map(|(name, value)| (name.to_owned(), Some(value.clone())));
    Original { key, value: Some(message.value().clone()), headers: text.chain(binary).collect() }
}

/// A copy of a record that says how often it was delivered, this time included: under `deliveries` in the user metadata
/// group `kafka-delivery`. A first delivery says nothing.
pub(super) fn with_deliveries(record: &EncodedMessage, times: u32) -> EncodedMessage {
    record.with_metadata_group((KAFKA_DELIVERY, &[("deliveries", times.to_string().as_bytes())]))
}
