//! `map.v1.MapRequest` from its bytes.

use std::collections::HashMap;

use bytes::Bytes;
use prost_types::Timestamp;

use crate::field::read::{
    BYTES_1, BYTES_2, BYTES_3, BYTES_4, BYTES_5, BYTES_6, DecodeError, INTEGER_1, INTEGER_2, Problem, Room, Shape,
    each_field, halves, merge_flag, read_bytes, read_entry, read_long_varint, read_text, skip_unknown,
};
use crate::keys::Keys;
use crate::request::{self, Attached};
use crate::text::Text;
use crate::{MapRequest, time};

/// What [`Room`] counts.
const PARTS: &str = "keys, headers and entries of metadata";

/// What a `map.v1.MapRequest` holds. None of it is required: what a message without a part means is the caller's to say.
#[derive(Debug, Default)]
pub(in crate::map) struct Request {
    /// The id, which is echoed in the answer; `request` has it too.
    pub(in crate::map) id: Text,
    /// The message for the handler; on handshakes and ends of transmission there is none.
    pub(in crate::map) request: Option<MapRequest>,
    /// `handshake.sot`, where there is a handshake.
    pub(in crate::map) handshake: Option<bool>,
    /// `status.eot`, where there is a status.
    pub(in crate::map) status: Option<bool>,
}

static MAP_REQUEST: Shape =
    Shape { name: "MapRequest", fields: &["request", "id", "handshake", "status"], levels: 100 };
static REQUEST: Shape = Shape {
    name: "MapRequest.request",
    fields: &["keys", "value", "event_time", "watermark", "headers", "metadata"],
    levels: 99,
};
static HANDSHAKE: Shape = Shape { name: "MapRequest.handshake", fields: &["sot"], levels: 99 };
static STATUS: Shape = Shape { name: "MapRequest.status", fields: &["eot"], levels: 99 };
static TIMESTAMP: Shape = Shape { name: "Timestamp", fields: &["seconds", "nanos"], levels: 98 };
static HEADER: Shape = Shape { name: "MapRequest.request.headers", fields: &["key", "value"], levels: 98 };
static METADATA: Shape =
    Shape { name: "Metadata", fields: &["previous_vertex", "sys_metadata", "user_metadata"], levels: 98 };
static GROUP: Shape = Shape { name: "Metadata group", fields: &["key", "value"], levels: 97 };
static KEY_VALUE_GROUP: Shape = Shape { name: "KeyValueGroup", fields: &["key_value"], levels: 96 };
static KEY_VALUE: Shape = Shape { name: "KeyValueGroup.key_value", fields: &["key", "value"], levels: 95 };

/// Reads a message that lies in `buffer`, which its parts become slices of. Fields may come in any order and any number of times: the
/// last scalar counts, messages are merged, entries of maps replace those of the same key. Unknown fields are skipped.
///
/// # Errors
///
/// When the bytes are not protobuf, a known field has another type, a text is not UTF-8, or there are too many parts.
pub(in crate::map) fn decode(buffer: &Bytes, message: &[u8]) -> Result<Request, DecodeError> {
    let mut id = Text::default();
    let mut request = None;
    let mut handshake = None;
    let mut status = None;
    each_field(message, &MAP_REQUEST, |key, input| match key {
        BYTES_1 => merge_request(read_bytes(input)?, buffer, request.get_or_insert_default()),
        BYTES_2 => {
            id = read_slice(input, buffer)?;
            Ok(())
        }
        BYTES_3 => merge_flag(read_bytes(input)?, &HANDSHAKE, handshake.get_or_insert_default()),
        BYTES_4 => merge_flag(read_bytes(input)?, &STATUS, status.get_or_insert_default()),
        key => skip_unknown(key, input, &MAP_REQUEST),
    })?;
    let request = request.map(|parts| parts.into_request(buffer, id.clone()));
    Ok(Request { id, request, handshake, status })
}

/// What was found of a request so far. The request itself is made once, at the end, from parts that fit in registers:
/// made first and filled in later, it would be moved several times.
#[derive(Default)]
struct Parts<'a> {
    value: &'a [u8],
    keys: Keys,
    /// Understood at the end, because seconds and nanoseconds may come apart.
    event_time: Option<Timestamp>,
    watermark: Option<Timestamp>,
    attached: Option<Box<Attached>>,
    room: Room,
}

impl Parts<'_> {
    #[inline]
    fn into_request(self, message: &Bytes, id: Text) -> MapRequest {
        let request = request::Parts {
            id,
            keys: self.keys,
            value: message.slice_ref(self.value),
            event_time: self.event_time.and_then(time::from_wire),
            watermark: self.watermark.and_then(time::from_wire),
            attached: self.attached,
        };
        request.into()
    }
}

fn merge_request<'a>(input: &'a [u8], message: &Bytes, request: &mut Parts<'a>) -> Result<(), DecodeError> {
    each_field(input, &REQUEST, |key, input| match key {
        BYTES_1 => {
            request.room.take(PARTS)?;
            request.keys.push(read_slice(input, message)?.into());
            Ok(())
        }
        BYTES_2 => {
            request.value = read_bytes(input)?;
            Ok(())
        }
        BYTES_3 => merge_timestamp(read_bytes(input)?, request.event_time.get_or_insert_default()),
        BYTES_4 => merge_timestamp(read_bytes(input)?, request.watermark.get_or_insert_default()),
        BYTES_5 => {
            let (name, value) = read_entry(read_bytes(input)?, &HEADER)?;
            request.room.take(PARTS)?;
            request.attached.get_or_insert_default().headers.insert(name.to_owned(), value.to_owned());
            Ok(())
        }
        BYTES_6 => merge_metadata(read_bytes(input)?, message, &mut request.attached, &mut request.room),
        key => skip_unknown(key, input, &REQUEST),
    })
}

fn merge_timestamp(input: &[u8], timestamp: &mut Timestamp) -> Result<(), DecodeError> {
    each_field(input, &TIMESTAMP, |key, input| match key {
        INTEGER_1 => {
            timestamp.seconds = read_long_varint(input)?.cast_signed();
            Ok(())
        }
        INTEGER_2 => {
            let [nanos, _] = halves(read_long_varint(input)?);
            timestamp.nanos = nanos.cast_signed();
            Ok(())
        }
        key => skip_unknown(key, input, &TIMESTAMP),
    })
}

/// The platform sends metadata with every message, most often with nothing in it, for which nothing is allocated.
fn merge_metadata(
    input: &[u8],
    message: &Bytes,
    attached: &mut Option<Box<Attached>>,
    room: &mut Room,
) -> Result<(), DecodeError> {
    each_field(input, &METADATA, |key, input| match key {
        BYTES_1 => {
            let vertex = read_slice(input, message)?;
            attached.get_or_insert_default().metadata.previous_vertex = vertex;
            Ok(())
        }
        BYTES_2 => {
            let (name, values) = read_group(read_bytes(input)?, message, room)?;
            attached.get_or_insert_default().metadata.system.put_group(name, values);
            Ok(())
        }
        BYTES_3 => {
            let (name, values) = read_group(read_bytes(input)?, message, room)?;
            attached.get_or_insert_default().metadata.user.put_group(name, values);
            Ok(())
        }
        key => skip_unknown(key, input, &METADATA),
    })
}

fn read_group(input: &[u8], message: &Bytes, room: &mut Room) -> Result<(String, HashMap<String, Bytes>), DecodeError> {
    room.take(PARTS)?;
    let (mut name, mut values) = ("", HashMap::new());
    each_field(input, &GROUP, |key, input| match key {
        BYTES_1 => {
            name = read_text(input)?;
            Ok(())
        }
        BYTES_2 => merge_values(read_bytes(input)?, message, &mut values, room),
        key => skip_unknown(key, input, &GROUP),
    })?;
    Ok((name.to_owned(), values))
}

fn merge_values(
    input: &[u8],
    message: &Bytes,
    values: &mut HashMap<String, Bytes>,
    room: &mut Room,
) -> Result<(), DecodeError> {
    each_field(input, &KEY_VALUE_GROUP, |key, input| match key {
        BYTES_1 => {
            let (key, value) = read_value(read_bytes(input)?)?;
            room.take(PARTS)?;
            values.insert(key.to_owned(), message.slice_ref(value));
            Ok(())
        }
        key => skip_unknown(key, input, &KEY_VALUE_GROUP),
    })
}

fn read_value(input: &[u8]) -> Result<(&str, &[u8]), DecodeError> {
    let (mut name, mut value) = ("", &[][..]);
    each_field(input, &KEY_VALUE, |key, input| match key {
        BYTES_1 => {
            name = read_text(input)?;
            Ok(())
        }
        BYTES_2 => {
            value = read_bytes(input)?;
            Ok(())
        }
        key => skip_unknown(key, input, &KEY_VALUE),
    })?;
    Ok((name, value))
}

/// A text that stays in the buffer, if it is long.
#[inline]
fn read_slice(input: &mut &[u8], buffer: &Bytes) -> Result<Text, Problem> {
    Text::slice_of(buffer, read_bytes(input)?).ok_or(Problem::Utf8)
}
