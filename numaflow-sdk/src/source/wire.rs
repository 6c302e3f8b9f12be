//! `source.v1.ReadResponse` as frames of gRPC, written by hand; the requests with offsets, read by hand, in `decode`.

use std::time::SystemTime;

use bytes::{BufMut, Bytes};

use crate::field::{
    bytes_len, entry_len, field_len, put_bytes, put_entry, put_field, put_head, put_varint, varint_len,
};
use crate::frame::put_frame;
use crate::time;

mod decode;

pub(super) use decode::{AckRequest, Acks, Nacks, decode_ack, decode_nack};

/// `handshake` of a `ReadResponse`, with `sot = true`.
const SOT: [u8; 4] = [3 << 3 | 2, 2, 1 << 3, 1];
/// `status` of a `ReadResponse`, with `eot = true`.
const EOT: [u8; 4] = [2 << 3 | 2, 2, 1 << 3, 1];

/// Appends the frame that answers the handshake of `ReadFn`.
pub(super) fn put_handshake(out: &mut Vec<u8>) {
    put_frame(out, SOT.len(), |out| out.extend_from_slice(&SOT));
}

/// Appends the frame that ends a batch.
pub(super) fn put_end(out: &mut Vec<u8>) {
    put_frame(out, EOT.len(), |out| out.extend_from_slice(&EOT));
}

/// The frame that answers the handshake of `AckFn`: `handshake` of an `AckResponse`, with `sot = true`.
pub(super) const ACK_HANDSHAKE: &[u8] = &[0, 0, 0, 0, 4, 2 << 3 | 2, 2, 1 << 3, 1];
/// The frame that answers an ack: `result` of an `AckResponse`, with `success` in it, which is empty.
pub(super) const ACKED: &[u8] = &[0, 0, 0, 0, 4, 1 << 3 | 2, 2, 1 << 3 | 2, 0];

/// The side of [`BatchMessage`](super::BatchMessage) that nobody outside needs to see.
pub trait Encode: Send + Sync {
    /// Appends the message as a frame, whose length without its prefix it returns. `put_value` appends a value, or does
    /// something else that makes it come next.
    ///
    /// # Errors
    ///
    /// The length, where it is above `limit`: then nothing was appended.
    fn put_frame(
        &self,
        limit: usize,
        out: &mut Vec<u8>,
        put_value: impl FnMut(&mut Vec<u8>, &Bytes),
    ) -> Result<usize, usize>;
}

/// The parts of a message, whoever holds them.
pub(super) trait Parts {
    fn value(&self) -> &[u8];
    fn offset_bytes(&self) -> &[u8];
    fn partition_id(&self) -> i32;
    fn event_time(&self) -> SystemTime;
    fn keys(&self) -> impl Iterator<Item = &str>;
    fn headers(&self) -> impl Iterator<Item = (&str, &str)>;
    /// In the same order each time.
    fn user_metadata(&self) -> impl Iterator<Item = Group<'_, impl Iterator<Item = (&str, &[u8])> + Clone>>;
}

/// A group of user metadata, whoever holds it.
pub(super) struct Group<'a, E> {
    pub(super) name: &'a str,
    /// Entries that are in their wire form already.
    pub(super) encoded: &'a [u8],
    pub(super) entries: E,
}

impl<'a, E: Iterator<Item = (&'a str, &'a [u8])> + Clone> Group<'a, E> {
    /// The bytes of the group, without its head.
    pub(super) fn len(&self) -> usize {
        bytes_len(self.name.len()) + field_len(self.entries_len())
    }

    fn entries_len(&self) -> usize {
        self.encoded.len() + entries_len(self.entries.clone())
    }

    /// Writes the group.
    pub(super) fn put(self, out: &mut impl BufMut) {
        let entries_len = self.entries_len();
        put_head(out, 3, bytes_len(self.name.len()) + field_len(entries_len));
        put_bytes(out, 1, self.name.as_bytes());
        put_head(out, 2, entries_len);
        out.put_slice(self.encoded);
        put_entries(out, self.entries);
    }
}

/// The bytes of entries of a group.
pub(super) fn entries_len<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> usize {
    entries.map(|(key, value)| field_len(entry_len(key, value))).sum()
}

/// Writes entries of a group.
pub(super) fn put_entries<'a>(out: &mut impl BufMut, entries: impl Iterator<Item = (&'a str, &'a [u8])>) {
    for (key, value) in entries {
        put_entry(out, 1, key, value);
    }
}

/// The lengths of a message's parts in bytes, without the heads of their fields.
pub(super) struct Lengths {
    offset: usize,
    event_time: usize,
    metadata: usize,
    result: usize,
}

impl Lengths {
    pub(super) fn of(message: &impl Parts) -> Self {
        let time = time::to_wire(message.event_time());
        let offset = bytes_len(message.offset_bytes().len()) + integer_len(message.partition_id().into());
        let event_time = integer_len(time.seconds) + integer_len(time.nanos.into());
        let metadata = message.user_metadata().map(|group| field_len(group.len())).sum();
        let keys: usize = message.keys().map(|key| field_len(key.len())).sum();
        let headers: usize = message.headers().map(|(name, value)| field_len(entry_len(name, value.as_bytes()))).sum();
        let value = bytes_len(message.value().len());
        let result = value + field_len(offset) + field_len(event_time) + keys + headers + bytes_len(metadata);
        Self { offset, event_time, metadata, result }
    }

    /// The length of the whole response.
    pub(super) fn response(&self) -> usize {
        field_len(self.result)
    }
}

/// Appends a response with this message, whose value `put_value` appends.
pub(super) fn put_response<B: BufMut>(
    out: &mut B,
    message: &impl Parts,
    lengths: &Lengths,
    put_value: impl FnOnce(&mut B),
) {
    put_head(out, 1, lengths.result);
    if !message.value().is_empty() {
        put_head(out, 1, message.value().len());
        put_value(out);
    }
    put_head(out, 2, lengths.offset);
    put_bytes(out, 1, message.offset_bytes());
    put_integer(out, 2, message.partition_id().into());
    let time = time::to_wire(message.event_time());
    put_head(out, 3, lengths.event_time);
    put_integer(out, 1, time.seconds);
    put_integer(out, 2, time.nanos.into());
    for key in message.keys() {
        put_field(out, 4, key.as_bytes());
    }
    for (name, value) in message.headers() {
        put_entry(out, 5, name, value.as_bytes());
    }
    if lengths.metadata > 0 {
        put_head(out, 6, lengths.metadata);
        for group in message.user_metadata() {
            group.put(out);
        }
    }
}

/// Appends the frame of that response, unless it has more than `limit` bytes.
pub(super) fn put_response_frame(
    out: &mut Vec<u8>,
    message: &impl Parts,
    limit: usize,
    put_value: impl FnOnce(&mut Vec<u8>),
) -> Result<usize, usize> {
    let lengths = Lengths::of(message);
    let length = lengths.response();
    if length > limit {
        return Err(length);
    }
    put_frame(out, length, |out| put_response(out, message, &lengths, put_value));
    Ok(length)
}

/// The bytes of a signed integer field, which is left out when it is zero.
fn integer_len(value: i64) -> usize {
    if value == 0 { 0 } else { varint_len(value.cast_unsigned()) }
}

/// Writes a signed integer field, unless it is zero.
fn put_integer(out: &mut impl BufMut, number: u8, value: i64) {
    if value != 0 {
        put_varint(out, number, value.cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::source::v1 as pb;

    fn framed(message: &impl prost::Message) -> Vec<u8> {
        let mut frame = Vec::new();
        put_frame(&mut frame, message.encoded_len(), |out| out.extend_from_slice(&message.encode_to_vec()));
        frame
    }

    #[test]
    fn what_is_always_the_same_is_what_the_generated_code_writes() {
        let handshake = Some(pb::Handshake { sot: true });
        let status = Some(pb::read_response::Status { eot: true, ..Default::default() });
        let mut out = Vec::new();
        put_handshake(&mut out);
        assert_eq!(out, framed(&pb::ReadResponse { handshake, ..Default::default() }));
        out.clear();
        put_end(&mut out);
        assert_eq!(out, framed(&pb::ReadResponse { status, ..Default::default() }));
        assert_eq!(framed(&pb::AckResponse { result: None, handshake }), ACK_HANDSHAKE);
        let result = Some(pb::ack_response::Result { success: Some(()) });
        assert_eq!(framed(&pb::AckResponse { result, handshake: None }), ACKED);
    }
}
