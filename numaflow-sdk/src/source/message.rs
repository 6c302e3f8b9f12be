//! What a source produces, and its wire form (`source.v1.ReadResponse` with a `result`).

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::Offset;
use super::wire::{Encode, Group, Lengths, Parts, entries_len, put_entries, put_response, put_response_frame};
use crate::field::{field_len, put_head};
use crate::frame::put_frame;
use crate::metadata::UserMetadata;
use crate::pb::source::v1 as pb;
use crate::time;

/// One message of a source.
///
/// ```
/// use std::time::SystemTime;
/// use numaflow_sdk::source::{Message, Offset};
///
/// let message = Message::new("hello", Offset::new("17", 0), SystemTime::now())
///     .with_keys(["greeting"])
///     .with_header("origin", "example");
/// assert_eq!(message.offset().as_bytes(), b"17");
/// ```
#[derive(Debug, Clone)]
pub struct Message {
    value: Bytes,
    offset: Offset,
    event_time: SystemTime,
    keys: Vec<String>,
    headers: Vec<(String, String)>,
    user_metadata: UserMetadata,
}

impl Message {
    /// Creates a message. Its value may be empty; `event_time` is what watermarks are made from.
    #[must_use]
    pub fn new(value: impl Into<Bytes>, offset: Offset, event_time: SystemTime) -> Self {
        Self {
            value: value.into(),
            offset,
            event_time,
            keys: Vec::new(),
            headers: Vec::new(),
            user_metadata: UserMetadata::new(),
        }
    }

    /// Sets the keys.
    #[must_use]
    pub fn with_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a header. Headers stay with the message all the way through the pipeline.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the user metadata.
    #[must_use]
    pub fn with_user_metadata(mut self, metadata: UserMetadata) -> Self {
        self.user_metadata = metadata;
        self
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The position.
    #[must_use]
    pub fn offset(&self) -> &Offset {
        &self.offset
    }

    /// When the message happened.
    #[must_use]
    pub fn event_time(&self) -> SystemTime {
        self.event_time
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The user metadata.
    #[must_use]
    pub fn user_metadata(&self) -> &UserMetadata {
        &self.user_metadata
    }

    pub(crate) fn from_wire(wire: pb::read_response::Result) -> Option<Self> {
        Some(Self {
            value: wire.payload,
            offset: Offset::from_wire(&wire.offset?),
            event_time: wire.event_time.and_then(time::from_wire)?,
            keys: wire.keys,
            headers: wire.headers.into_iter().collect(),
            user_metadata: wire.metadata.map(|m| crate::metadata::Metadata::from(m).user).unwrap_or_default(),
        })
    }
}

impl Parts for Message {
    fn value(&self) -> &[u8] {
        &self.value
    }

    fn offset_bytes(&self) -> &[u8] {
        self.offset.as_bytes()
    }

    fn partition_id(&self) -> i32 {
        self.offset.partition_id()
    }

    fn event_time(&self) -> SystemTime {
        self.event_time
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers()
    }

    fn user_metadata(&self) -> impl Iterator<Item = Group<'_, impl Iterator<Item = (&str, &[u8])> + Clone>> {
        self.user_metadata.iter().map(|(name, values)| {
            let entries = values.iter().map(|(key, value)| (key.as_str(), &value[..]));
            Group { name, encoded: &[], entries }
        })
    }
}

/// A group of user metadata, borrowed: its name, its keys and their values.
#[derive(Debug, Clone, Copy)]
pub struct MetadataGroup<'a> {
    name: &'a str,
    entries: &'a [(&'a str, &'a [u8])],
    encoded: &'a [u8],
}

impl<'a> MetadataGroup<'a> {
    /// Creates a group.
    #[must_use]
    pub fn new(name: &'a str, entries: &'a [(&'a str, &'a [u8])]) -> Self {
        Self { name, entries, encoded: &[] }
    }

    /// Adds entries that are encoded already. Of a key that is in both, the group's own value counts.
    #[must_use]
    pub fn with_encoded(mut self, entries: &'a EncodedEntries) -> Self {
        self.encoded = &entries.wire;
        self
    }

    /// Whether the group has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.encoded.is_empty()
    }

    fn parts(&self) -> Group<'a, impl Iterator<Item = (&'a str, &'a [u8])> + Clone> {
        Group { name: self.name, encoded: self.encoded, entries: self.entries.iter().copied() }
    }
}

/// Entries of user metadata in their wire form: what the same source says of message after message is encoded once, and
/// costs each of them one copy.
#[derive(Debug, Clone, Default)]
pub struct EncodedEntries {
    wire: Vec<u8>,
}

impl EncodedEntries {
    /// Encodes keys and their values.
    #[must_use]
    pub fn new(entries: &[(&str, &[u8])]) -> Self {
        let mut wire = Vec::with_capacity(entries_len(entries.iter().copied()));
        put_entries(&mut wire, entries.iter().copied());
        Self { wire }
    }
}

/// A message whose parts are borrowed: what a source that sits on a client library's buffers encodes from, once, without
/// making owned copies first.
#[derive(Debug, Clone, Copy)]
pub struct MessageRef<'a> {
    value: &'a [u8],
    offset: &'a [u8],
    partition_id: i32,
    event_time: SystemTime,
    keys: &'a [&'a str],
    headers: &'a [(&'a str, &'a str)],
    user_metadata: &'a [MetadataGroup<'a>],
}

impl<'a> MessageRef<'a> {
    /// Creates a message; `offset` must not be empty.
    #[must_use]
    pub fn new(value: &'a [u8], offset: &'a [u8], partition_id: u16, event_time: SystemTime) -> Self {
        Self {
            value,
            offset,
            partition_id: partition_id.into(),
            event_time,
            keys: &[],
            headers: &[],
            user_metadata: &[],
        }
    }

    /// Sets the keys.
    #[must_use]
    pub fn with_keys(mut self, keys: &'a [&'a str]) -> Self {
        self.keys = keys;
        self
    }

    /// Sets the headers. A name that is there twice reaches the platform with its last value.
    #[must_use]
    pub fn with_headers(mut self, headers: &'a [(&'a str, &'a str)]) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the user metadata.
    #[must_use]
    pub fn with_user_metadata(mut self, metadata: &'a [MetadataGroup<'a>]) -> Self {
        self.user_metadata = metadata;
        self
    }

    /// Appends the wire form to `buffer` and splits it off. The buffer keeps its spare capacity, so that many messages
    /// share one allocation.
    #[must_use]
    pub fn encode(&self, buffer: &mut BytesMut) -> EncodedMessage {
        let lengths = Lengths::of(self);
        buffer.reserve(lengths.response());
        put_response(buffer, self, &lengths, |out| out.extend_from_slice(self.value));
        EncodedMessage { response: buffer.split().freeze() }
    }
}

impl Parts for MessageRef<'_> {
    fn value(&self) -> &[u8] {
        self.value
    }

    fn offset_bytes(&self) -> &[u8] {
        self.offset
    }

    fn partition_id(&self) -> i32 {
        self.partition_id
    }

    fn event_time(&self) -> SystemTime {
        self.event_time
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().copied()
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().copied()
    }

    fn user_metadata(&self) -> impl Iterator<Item = Group<'_, impl Iterator<Item = (&str, &[u8])> + Clone>> {
        self.user_metadata.iter().map(MetadataGroup::parts)
    }
}

/// A message in its wire form, as [`MessageRef::encode`] makes it. Cloning it copies nothing, so it can be kept and
/// delivered again.
#[derive(Debug, Clone)]
pub struct EncodedMessage {
    response: Bytes,
}

impl EncodedMessage {
    /// The bytes of the wire form: what this message takes in memory.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a wire form is never empty")]
    pub fn len(&self) -> usize {
        self.response.len()
    }

    /// The message that was encoded, for a source that has to do something else with it than deliver it. Its headers are
    /// in the order in which they were encoded. Its value is a slice of the encoded bytes; all else is copied.
    ///
    /// # Panics
    ///
    /// Never: what was encoded can be read back.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let response = pb::ReadResponse::decode(self.response.clone());
        let message = response.ok().and_then(|response| Message::from_wire(response.result?));
        #[expect(clippy::expect_used, reason = "there is no other way to make one than to encode a message")]
        let message = message.expect("an encoded message can be read back");
        Message { headers: headers_in_order(&self.response), ..message }
    }

    /// A copy with one more group of user metadata, which the message must not have yet. It costs one copy of the bytes and
    /// leaves all else as it is: by the rules of the wire form a message may come in two parts.
    #[must_use]
    pub fn with_metadata_group(&self, group: MetadataGroup<'_>) -> Self {
        let group = group.parts();
        let metadata = field_len(group.len());
        let result = field_len(metadata);
        let mut buffer = BytesMut::with_capacity(self.response.len() + field_len(result));
        buffer.extend_from_slice(&self.response);
        put_head(&mut buffer, 1, result);
        put_head(&mut buffer, 6, metadata);
        group.put(&mut buffer);
        Self { response: buffer.freeze() }
    }

    #[cfg(test)]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.response
    }
}

/// The headers of an encoded message. The generated code reads them into a map, which forgets their order; on the wire a
/// map's entries are messages like any other.
fn headers_in_order(response: &Bytes) -> Vec<(String, String)> {
    #[derive(prost::Message)]
    struct Response {
        #[prost(message, optional, tag = "1")]
        result: Option<Headers>,
    }
    #[derive(prost::Message)]
    struct Headers {
        #[prost(message, repeated, tag = "5")]
        headers: Vec<Header>,
    }
    #[derive(prost::Message)]
    struct Header {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }
    let response = Response::decode(response.clone()).ok().and_then(|response| response.result);
    let headers = response.map(|result| result.headers).unwrap_or_default();
    headers.into_iter().map(|Header { name, value }| (name, value)).collect()
}

impl From<Message> for EncodedMessage {
    fn from(message: Message) -> Self {
        let lengths = Lengths::of(&message);
        let mut buffer = BytesMut::with_capacity(lengths.response());
        put_response(&mut buffer, &message, &lengths, |out| out.extend_from_slice(&message.value));
        Self { response: buffer.freeze() }
    }
}

impl Encode for Message {
    fn put_frame(
        &self,
        limit: usize,
        out: &mut Vec<u8>,
        mut put_value: impl FnMut(&mut Vec<u8>, &Bytes),
    ) -> Result<usize, usize> {
        put_response_frame(out, self, limit, |out| put_value(out, &self.value))
    }
}

impl Encode for MessageRef<'_> {
    fn put_frame(
        &self,
        limit: usize,
        out: &mut Vec<u8>,
        _put_value: impl FnMut(&mut Vec<u8>, &Bytes),
    ) -> Result<usize, usize> {
        put_response_frame(out, self, limit, |out| out.extend_from_slice(self.value))
    }
}

impl Encode for EncodedMessage {
    fn put_frame(
        &self,
        limit: usize,
        out: &mut Vec<u8>,
        mut put_value: impl FnMut(&mut Vec<u8>, &Bytes),
    ) -> Result<usize, usize> {
        let length = self.response.len();
        if length > limit {
            return Err(length);
        }
        put_frame(out, length, |out| put_value(out, &self.response));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::collection::{hash_map, vec};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Each case builds maps of maps; this many take a second.
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The hand-written wire form is what the generated decoder reads back.
        #[test]
        fn the_generated_decoder_reads_it_back(
            value in vec(any::<u8>(), 0..300),
            offset in vec(any::<u8>(), 1..40),
            partition: u16,
            millis in 0u64..4_000_000_000_000,
            keys in vec(".{0,8}", 0..4),
            headers in hash_map(".{0,8}", ".{0,8}", 0..4),
            metadata in hash_map(".{0,8}", hash_map(".{0,8}", vec(any::<u8>(), 0..200), 0..4), 0..4),
        ) {
            let mut user = UserMetadata::new();
            for (group, entries) in &metadata {
                for (key, value) in entries {
                    user.insert(group, key, value.clone());
                }
            }
            let event_time = UNIX_EPOCH + Duration::from_millis(millis);
            let mut message = Message::new(value.clone(), Offset::new(offset.clone(), partition), event_time)
                .with_keys(keys.clone())
                .with_user_metadata(user.clone());
            for (name, value) in &headers {
                message = message.with_header(name, value);
            }
            let encoded = EncodedMessage::from(message);
            let response = pb::ReadResponse::decode(&encoded.response[..]).unwrap();
            prop_assert!(response.status.is_none());
            prop_assert!(response.handshake.is_none());
            let result = response.result.unwrap();
            prop_assert_eq!(&result.payload[..], &value[..]);
            prop_assert_eq!(result.offset.as_ref().map(Offset::from_wire), Some(Offset::new(offset, partition)));
            prop_assert_eq!(result.event_time, Some(time::to_wire(event_time)));
            prop_assert_eq!(result.keys, keys);
            prop_assert_eq!(&result.headers, &headers);
            let order: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let read = encoded.to_message();
            prop_assert_eq!(read.headers().collect::<Vec<_>>(), order);
            let decoded = result.metadata.map(|m| crate::metadata::Metadata::from(m).user).unwrap_or_default();
            prop_assert_eq!(&decoded, &user);

            // And so is one that a group was added to.
            let more = encoded.with_metadata_group(
                MetadataGroup::new("more", &[("key", b"value")]).with_encoded(&EncodedEntries::new(&[
                    ("key", b"of before"),
                    ("encoded", b"once"),
                ])),
            );
            user.insert("more", "key", "value");
            user.insert("more", "encoded", "once");
            let read = more.to_message();
            let before = encoded.to_message();
            prop_assert_eq!((read.value(), read.offset()), (before.value(), before.offset()));
            prop_assert_eq!(read.user_metadata(), &user);
        }
    }
}
