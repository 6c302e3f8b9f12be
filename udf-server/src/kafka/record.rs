//! One Kafka record as the platform sees it; `docs/kafka-records.md` tells the authors of maps.

use std::borrow::Cow;
use std::mem::{self, Discriminant};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use numaflow_sdk::source::{EncodedEntries, EncodedMessage, MessageRef, MetadataGroup};

use super::policy::RecordMetadata;
use super::token::Token;

mod headers;
mod original;

pub(super) use original::{Original, original};

/// The user metadata group of what a record is and where it was.
const KAFKA: &str = "kafka";
/// A key that is not text, as it is.
const KEY: &str = "key";
/// There for a record without a value.
const TOMBSTONE: &str = "tombstone";
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
    /// The term of the leader that took the record, where the brokers tell it.
    pub(super) leader_epoch: Option<i32>,
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
    /// The record has none.
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
    metadata: RecordMetadata,
    token: TokenText,
    common: Common,
    buffer: BytesMut,
}

/// How much is allocated at once. A record that is never acked keeps one buffer, so more is not better.
const BUFFER: usize = 64 << 10;

impl Encoder {
    pub(super) fn new(topic: &str, partition: i32, partition_id: u16, metadata: RecordMetadata) -> Self {
        Self {
            partition_id,
            metadata,
            token: TokenText::new(topic, partition),
            common: Common::default(),
            buffer: BytesMut::with_capacity(BUFFER),
        }
    }

    /// Encodes a record, so that [`original`] can read it back.
    pub(super) fn encode(&mut self, record: &Record<'_>) -> EncodedMessage {
        self.token.set_offset(record.offset);
        let Self { partition_id, metadata, token, common, buffer } = self;

        let mut kafka = Entries::default();
        let base64;
        let key = match record.key.map(|key| str::from_utf8(key).map_err(|_| key)) {
            Some(Err(key)) => {
                kafka.push(KEY, key);
                base64 = STANDARD.encode(key);
                Some(&*base64)
            }
            Some(Ok(key)) => Some(key),
            None => None,
        };
        if record.value.is_none() {
            kafka.push(TOMBSTONE, b"true");
        }
        if *metadata == RecordMetadata::Full {
            common.update(token, record);
            kafka.push("offset", token.offset());
        }

        let value = record.value.unwrap_or_default();
        let event_time = event_time(record.timestamp);
        let message = MessageRef::new(value, &token.text, *partition_id, event_time).with_keys(key.as_slice());
        let kafka = [MetadataGroup::new(KAFKA, kafka.as_slice()).with_encoded(&common.entries)];
        let kafka = if kafka[0].is_empty() { &[] } else { &kafka[..] };
        if record.headers.is_empty() {
            return message.with_user_metadata(kafka).encode(buffer);
        }
        headers::encode(message, &record.headers, kafka, buffer)
    }
}

/// What the metadata of a partition's records have in common, encoded once: it is the same for millions of them.
#[derive(Debug, Default)]
struct Common {
    /// The type of timestamp and the leader epoch that the entries are for.
    of: Option<(Discriminant<Timestamp>, Option<i32>)>,
    entries: EncodedEntries,
}

impl Common {
    fn update(&mut self, token: &TokenText, record: &Record<'_>) {
        let of = (mem::discriminant(&record.timestamp), record.leader_epoch);
        if self.of == Some(of) {
            return;
        }
        let leader_epoch = record.leader_epoch.map(|epoch| epoch.to_string());
        let mut entries = vec![("topic", token.topic()), ("partition", token.partition())];
        match record.timestamp {
            Timestamp::Created(_) => entries.push(("timestamp-type", b"create")),
            Timestamp::Appended(_) => entries.push(("timestamp-type", b"append")),
            Timestamp::None => {}
        }
        entries.extend(leader_epoch.as_ref().map(|epoch| ("leader-epoch", epoch.as_bytes())));
        *self = Self { of: Some(of), entries: EncodedEntries::new(&entries) };
    }
}

/// `topic:partition:offset` as text, of which only the offset changes.
#[derive(Debug)]
struct TokenText {
    text: Vec<u8>,
    topic: usize,
    prefix: usize,
}

impl TokenText {
    fn new(topic: &str, partition: i32) -> Self {
        let mut text = Token { topic, partition, offset: 0 }.to_string().into_bytes();
        text.pop();
        Self { prefix: text.len(), text, topic: topic.len() }
    }

    fn set_offset(&mut self, offset: i64) {
        self.text.truncate(self.prefix);
        self.text.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
    }

    fn topic(&self) -> &[u8] {
        &self.text[..self.topic]
    }

    fn partition(&self) -> &[u8] {
        &self.text[self.topic + 1..self.prefix - 1]
    }

    fn offset(&self) -> &[u8] {
        &self.text[self.prefix..]
    }
}

/// The most entries that the group [`KAFKA`] can have beside those of [`Common`].
const ENTRIES: usize = 3;

/// The entries of one group of metadata, without an allocation.
#[derive(Debug, Default)]
struct Entries<'a> {
    entries: [(&'a str, &'a [u8]); ENTRIES],
    len: usize,
}

impl<'a> Entries<'a> {
    fn push(&mut self, key: &'a str, value: &'a [u8]) {
        self.entries[self.len] = (key, value);
        self.len += 1;
    }

    fn as_slice(&self) -> &[(&'a str, &'a [u8])] {
        &self.entries[..self.len]
    }
}

/// The platform insists on a time, so a record without one happens now.
fn event_time(timestamp: Timestamp) -> SystemTime {
    let (Timestamp::Created(millis) | Timestamp::Appended(millis)) = timestamp else { return SystemTime::now() };
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or_else(SystemTime::now)
}

/// A copy of a record that says how often it was delivered, this time included: under `deliveries` in the user metadata
/// group `kafka-delivery`. A first delivery says nothing.
pub(super) fn with_deliveries(record: &EncodedMessage, times: u32) -> EncodedMessage {
    record.with_metadata_group(MetadataGroup::new(KAFKA_DELIVERY, &[("deliveries", times.to_string().as_bytes())]))
}

#[cfg(test)]
mod tests;
