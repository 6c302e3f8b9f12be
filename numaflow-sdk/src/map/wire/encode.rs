//! `map.v1.MapResponse` as a frame of gRPC.

use std::collections::HashMap;

use bytes::Bytes;

use crate::field::{
    bytes_len, entry_len, field_len, put_bytes, put_entry, put_field, put_head, put_varint, varint_len,
};
use crate::frame::put_frame;
use crate::{Message, NackOptions, UserMetadata};

/// `handshake` of a `MapResponse`, with `sot = true`.
const SOT: [u8; 4] = [3 << 3 | 2, 2, 1 << 3, 1];
/// `status` of a `MapResponse`, with `eot = true`.
const EOT: [u8; 4] = [4 << 3 | 2, 2, 1 << 3, 1];

/// Appends the frame of the answer to the message with this id. `length` is what [`encoded_len`] says, which the caller has
/// held against the limit. `put_value` appends a value, or does something else that makes it come next.
pub(in crate::map) fn encode_answer(
    out: &mut Vec<u8>,
    id: &[u8],
    messages: &[Message],
    length: usize,
    mut put_value: impl FnMut(&mut Vec<u8>, &Bytes),
) {
    put_frame(out, length, |out| {
        // The id goes first, so that mostly nothing goes behind a value.
        put_bytes(out, 2, id);
        for message in messages {
            put_head(out, 1, result_len(message));
            put_result(out, message, &mut put_value);
        }
    });
}

/// Appends the frame of an end of transmission: a batch's, where `id` is empty, or that of the answers to one message.
pub(in crate::map) fn encode_end(out: &mut Vec<u8>, id: &[u8]) {
    put_frame(out, bytes_len(id.len()) + EOT.len(), |out| {
        put_bytes(out, 2, id);
        out.extend_from_slice(&EOT);
    });
}

/// Appends the frame that answers the handshake.
pub(in crate::map) fn encode_handshake(out: &mut Vec<u8>) {
    put_frame(out, SOT.len(), |out| out.extend_from_slice(&SOT));
}

/// The bytes of the answer that [`encode_answer`] appends, without the prefix of its frame.
pub(in crate::map) fn encoded_len(id: &[u8], messages: &[Message]) -> usize {
    let results: usize = messages.iter().map(|message| field_len(result_len(message))).sum();
    results + bytes_len(id.len())
}

fn result_len(message: &Message) -> usize {
    let keys: usize = message.keys().iter().map(|key| field_len(key.as_bytes().len())).sum();
    let tags: usize = message.tags.iter().map(|tag| field_len(tag.len())).sum();
    let metadata = if message.user_metadata.is_empty() { 0 } else { field_len(metadata_len(&message.user_metadata)) };
    let nack_options = message.nack_options.as_ref().map_or(0, |options| field_len(nack_options_len(options)));
    keys + bytes_len(message.value.len()) + tags + metadata + nack_options
}

fn put_result(out: &mut Vec<u8>, message: &Message, put_value: &mut impl FnMut(&mut Vec<u8>, &Bytes)) {
    for key in message.keys() {
        put_field(out, 1, key.as_bytes());
    }
    if !message.value.is_empty() {
        put_head(out, 2, message.value.len());
        put_value(out, &message.value);
    }
    for tag in &message.tags {
        put_field(out, 3, tag.as_bytes());
    }
    if !message.user_metadata.is_empty() {
        put_head(out, 4, metadata_len(&message.user_metadata));
        put_metadata(out, &message.user_metadata);
    }
    if let Some(options) = &message.nack_options {
        put_head(out, 5, nack_options_len(options));
        put_nack_options(out, options);
    }
}

fn metadata_len(metadata: &UserMetadata) -> usize {
    metadata.iter().map(|(name, values)| field_len(group_len(name, values))).sum()
}

fn group_len(name: &str, values: &HashMap<String, Bytes>) -> usize {
    bytes_len(name.len()) + field_len(values_len(values))
}

fn values_len(values: &HashMap<String, Bytes>) -> usize {
    values.iter().map(|(key, value)| field_len(entry_len(key, value))).sum()
}

/// Only the user's part: the platform ignores the rest of what a map answers.
fn put_metadata(out: &mut Vec<u8>, metadata: &UserMetadata) {
    for (name, values) in metadata.iter() {
        put_head(out, 3, group_len(name, values));
        put_bytes(out, 1, name.as_bytes());
        put_head(out, 2, values_len(values));
        for (key, value) in values {
            put_entry(out, 1, key, value);
        }
    }
}

fn nack_options_len(options: &NackOptions) -> usize {
    let reason = options.reason.as_ref().map_or(0, |reason| field_len(reason.len()));
    let max_deliveries = options.max_deliveries.map_or(0, |deliveries| varint_len(deliveries.into()));
    let delay = options.delay_millis().map_or(0, varint_len);
    let hints: usize = options.hints.iter().map(|(key, value)| field_len(entry_len(key, value.as_bytes()))).sum();
    reason + max_deliveries + delay + hints
}

fn put_nack_options(out: &mut Vec<u8>, options: &NackOptions) {
    if let Some(reason) = &options.reason {
        put_field(out, 1, reason.as_bytes());
    }
    if let Some(deliveries) = options.max_deliveries {
        put_varint(out, 2, deliveries.into());
    }
    if let Some(delay) = options.delay_millis() {
        put_varint(out, 3, delay);
    }
    for (key, value) in &options.hints {
        put_entry(out, 4, key, value.as_bytes());
    }
}
