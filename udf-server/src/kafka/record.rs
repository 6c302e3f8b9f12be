//! One Kafka record as the platform sees it; `docs/kafka-records.md` tells the authors of maps.

use std::borrow::Cow;
use std::mem::{self, Discriminant};
use std::ops::RangeInclusive;
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
/// The record's timestamp in milliseconds since 1970, where it is no valid event time.
const TIMESTAMP: &str = "timestamp";
/// The header with `topic:partition:offset`.
const POSITION_HEADER: &str = "kafka-position";
/// The header with the topic's name that the platform's built-in Kafka source sets.
const TOPIC_HEADER: &str = "X-NF-Kafka-TopicName";
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

/// The form of the messages that records become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) metadata: RecordMetadata,
    /// Whether they carry [`TOPIC_HEADER`].
    pub(super) topic_header: bool,
}

impl Form {
    /// Whether messages of this form carry a header of this name that is not their record's.
    fn adds(self, header: &str) -> bool {
        match header {
            POSITION_HEADER => self.metadata == RecordMetadata::Position,
            TOPIC_HEADER => self.topic_header,
            _ => false,
        }
    }
}

/// Turns the records of one partition into their wire form. They share buffers, so a record costs one copy and rarely
/// an allocation.
#[derive(Debug)]
pub(super) struct Encoder {
    partition_id: u16,
    form: Form,
    token: TokenText,
    common: Common,
    buffer: BytesMut,
}

/// How much is allocated at once. A record that is never acked keeps one buffer, so more is not better.
const BUFFER: usize = 64 << 10;

impl Encoder {
    pub(super) fn new(topic: &str, partition: i32, partition_id: u16, form: Form) -> Self {
        Self {
            partition_id,
            form,
            token: TokenText::new(topic, partition),
            common: Common::default(),
            buffer: BytesMut::with_capacity(BUFFER),
        }
    }

    /// Encodes a record, so that [`original`] can read it back.
    pub(super) fn encode(&mut self, record: &Record<'_>) -> EncodedMessage {
        self.token.set_offset(record.offset);
        let Self { partition_id, form, token, common, buffer } = self;

        let mut kafka = Entries::<&[u8]>::default();
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
        let (event_time, original) = event_time(record.timestamp);
        let original = original.map(|millis| millis.to_string());
        if let Some(millis) = &original {
            kafka.push(TIMESTAMP, millis.as_bytes());
        }
        if form.metadata == RecordMetadata::Full {
            common.update(token, record);
            kafka.push("offset", token.offset().as_bytes());
        }

        let value = record.value.unwrap_or_default();
        let message =
            MessageRef::new(value, token.text.as_bytes(), *partition_id, event_time).with_keys(key.as_slice());
        let kafka = [MetadataGroup::new(KAFKA, kafka.as_slice()).with_encoded(&common.entries)];
        let kafka = if kafka[0].is_empty() { &[] } else { &kafka[..] };
        let mut added = Entries::<&str>::default();
        if form.adds(POSITION_HEADER) {
            added.push(POSITION_HEADER, &token.text);
        }
        if form.adds(TOPIC_HEADER) {
            added.push(TOPIC_HEADER, token.topic());
        }
        if record.headers.is_empty() {
            return message.with_headers(added.as_slice()).with_user_metadata(kafka).encode(buffer);
        }
        headers::encode(message, &record.headers, added.as_slice(), kafka, buffer)
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
        let mut entries = vec![("topic", token.topic().as_bytes()), ("partition", token.partition().as_bytes())];
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
    text: String,
    topic: usize,
    prefix: usize,
}

impl TokenText {
    fn new(topic: &str, partition: i32) -> Self {
        let mut text = Token { topic, partition, offset: 0 }.to_string();
        text.pop();
        Self { prefix: text.len(), text, topic: topic.len() }
    }

    fn set_offset(&mut self, offset: i64) {
        self.text.truncate(self.prefix);
        self.text.push_str(itoa::Buffer::new().format(offset));
    }

    fn topic(&self) -> &str {
        &self.text[..self.topic]
    }

    fn partition(&self) -> &str {
        &self.text[self.topic + 1..self.prefix - 1]
    }

    fn offset(&self) -> &str {
        &self.text[self.prefix..]
    }
}

/// The most entries that the group [`KAFKA`] can have beside those of [`Common`]: key, tombstone, timestamp, offset. There
/// are fewer headers that a [`Form`] adds.
const ENTRIES: usize = 4;

/// The entries of one group of metadata, or headers, without an allocation.
#[derive(Debug, Default)]
struct Entries<'a, V> {
    entries: [(&'a str, V); ENTRIES],
    len: usize,
}

impl<'a, V> Entries<'a, V> {
    fn push(&mut self, key: &'a str, value: V) {
        self.entries[self.len] = (key, value);
        self.len += 1;
    }

    fn as_slice(&self) -> &[(&'a str, V)] {
        &self.entries[..self.len]
    }
}

/// The timestamps that are valid event times, the years 1 to 9999: the range of `google.protobuf.Timestamp`. A producer that
/// counts in microseconds writes timestamps beyond it.
const VALID_MILLIS: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// The event time of a record, and its timestamp where that is no valid event time: then the nearest one is. The platform
/// insists on an event time, so a record without a timestamp gets the present.
fn event_time(timestamp: Timestamp) -> (SystemTime, Option<i64>) {
    let (Timestamp::Created(millis) | Timestamp::Appended(millis)) = timestamp else {
        return (SystemTime::now(), None);
    };
    let valid = millis.clamp(*VALID_MILLIS.start(), *VALID_MILLIS.end());
    (time_of(valid).unwrap_or_else(SystemTime::now), (valid != millis).then_some(millis))
}

/// The time so many milliseconds after 1970; `None` where the system has no such time.
fn time_of(millis: i64) -> Option<SystemTime> {
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

/// A copy of a record that says how often it was delivered, this time included: under `deliveries` in the user metadata
/// group `kafka-delivery`. A first delivery says nothing.
pub(super) fn with_deliveries(record: &EncodedMessage, times: u32) -> EncodedMessage {
    record.with_metadata_group(MetadataGroup::new(KAFKA_DELIVERY, &[("deliveries", times.to_string().as_bytes())]))
}

#[cfg(test)]
mod tests;
