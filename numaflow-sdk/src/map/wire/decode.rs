//! `map.v1.MapRequest` from its bytes.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use prost_types::Timestamp;

use crate::keys::Keys;
use crate::request::{self, Attached};
use crate::text::Text;
use crate::{MapRequest, time};

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

/// Why bytes are not a `map.v1.MapRequest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::map) struct DecodeError {
    problem: Problem,
    /// The innermost message that is wrong, and the number of the field in it; 0 where not even that can be read.
    place: Option<(&'static Shape, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Truncated,
    Varint,
    Key,
    WireType,
    Utf8,
    EndGroup,
    Depth,
    Parts,
}

impl From<Problem> for DecodeError {
    fn from(problem: Problem) -> Self {
        Self { problem, place: None }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((shape, number)) = self.place {
            match usize::try_from(number).ok().and_then(|number| shape.fields.get(number.checked_sub(1)?)) {
                Some(field) => write!(f, "{}.{field}: ", shape.name)?,
                None => write!(f, "{}: ", shape.name)?,
            }
        }
        f.write_str(match self.problem {
            Problem::Truncated => "it ends too early",
            Problem::Varint => "an integer has more than 64 bits",
            Problem::Key => "a field has no valid number",
            Problem::WireType => "it is not of the type that the field has",
            Problem::Utf8 => "the text is not UTF-8",
            Problem::EndGroup => "a group ends that did not begin",
            Problem::Depth => "groups are nested too deep",
            Problem::Parts => "there are more keys, headers and entries of metadata than 65536 in all",
        })
    }
}

/// What is known of a message type.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    name: &'static str,
    /// The fields from number 1 on.
    fields: &'static [&'static str],
    /// How deep groups of unknown fields may be nested in it: a hundred levels of messages and groups in all.
    levels: u32,
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

/// The key of a length-delimited field.
const fn delimited(number: u64) -> u64 {
    number << 3 | LENGTH_DELIMITED
}

/// The key of an integer field.
const fn integer(number: u64) -> u64 {
    number << 3 | VARINT
}

const VARINT: u64 = 0;
const SIXTY_FOUR_BIT: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const THIRTY_TWO_BIT: u64 = 5;

// Keys as the patterns below need them.
const BYTES_1: u64 = delimited(1);
const BYTES_2: u64 = delimited(2);
const BYTES_3: u64 = delimited(3);
const BYTES_4: u64 = delimited(4);
const BYTES_5: u64 = delimited(5);
const BYTES_6: u64 = delimited(6);
const INTEGER_1: u64 = integer(1);
const INTEGER_2: u64 = integer(2);

/// Reads a message that lies in `buffer`, which its parts become slices of. Fields may come in any order and any number of times: the last scalar counts, messages are merged,
/// entries of maps replace those of the same key. Unknown fields are skipped.
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

/// How many more parts a message may have. Each takes far more memory than it may have on the wire, where two bytes are
/// enough, and all of them are made before it is known whether there is room for the message.
struct Room(u32);

impl Default for Room {
    fn default() -> Self {
        Self(1 << 16)
    }
}

impl Room {
    fn take(&mut self) -> Result<(), DecodeError> {
        self.0 = self.0.checked_sub(1).ok_or(Problem::Parts)?;
        Ok(())
    }
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
            request.room.take()?;
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
            let (name, value) = read_header(read_bytes(input)?)?;
            request.room.take()?;
            request.attached.get_or_insert_default().headers.insert(name.to_owned(), value.to_owned());
            Ok(())
        }
        BYTES_6 => merge_metadata(read_bytes(input)?, message, &mut request.attached, &mut request.room),
        key => skip_unknown(key, input, &REQUEST),
    })
}

fn merge_flag(input: &[u8], shape: &'static Shape, flag: &mut bool) -> Result<(), DecodeError> {
    each_field(input, shape, |key, input| match key {
        INTEGER_1 => {
            *flag = read_varint(input)? != 0;
            Ok(())
        }
        key => skip_unknown(key, input, shape),
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

/// The low and the high half of an integer. Of a 32-bit field only the low one counts, by protobuf's rules.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

fn read_header(input: &[u8]) -> Result<(&str, &str), DecodeError> {
    let (mut name, mut value) = ("", "");
    each_field(input, &HEADER, |key, input| match key {
        BYTES_1 => {
            name = read_text(input)?;
            Ok(())
        }
        BYTES_2 => {
            value = read_text(input)?;
            Ok(())
        }
        key => skip_unknown(key, input, &HEADER),
    })?;
    Ok((name, value))
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
    room.take()?;
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
            room.take()?;
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

/// Hands the key of each field to `take`, which reads the field's content. An error that does not know its place yet gets
/// this one.
#[inline]
fn each_field<'a>(
    mut input: &'a [u8],
    shape: &'static Shape,
    mut take: impl FnMut(u64, &mut &'a [u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !input.is_empty() {
        let key = read_varint(&mut input).map_err(|problem| DecodeError { problem, place: Some((shape, 0)) })?;
        take(key, &mut input)
            .map_err(|error| DecodeError { place: error.place.or(Some((shape, key >> 3))), ..error })?;
    }
    Ok(())
}

/// Skips a field that `shape` does not have.
#[cold]
fn skip_unknown(key: u64, input: &mut &[u8], shape: &'static Shape) -> Result<(), DecodeError> {
    if (1..=shape.fields.len() as u64).contains(&(key >> 3)) {
        return Err(Problem::WireType.into());
    }
    Ok(skip(key, input, shape.levels)?)
}

fn skip(key: u64, input: &mut &[u8], levels: u32) -> Result<(), Problem> {
    if levels == 0 {
        return Err(Problem::Depth);
    }
    if key > u64::from(u32::MAX) || key >> 3 == 0 {
        return Err(Problem::Key);
    }
    match key & 7 {
        VARINT => read_varint(input).map(drop),
        SIXTY_FOUR_BIT => advance(input, 8).map(drop),
        LENGTH_DELIMITED => read_bytes(input).map(drop),
        START_GROUP => loop {
            let inner = read_varint(input)?;
            if inner & 7 != END_GROUP {
                skip(inner, input, levels - 1)?;
            } else if inner >> 3 == key >> 3 {
                return Ok(());
            } else {
                return Err(Problem::EndGroup);
            }
        },
        END_GROUP => Err(Problem::EndGroup),
        THIRTY_TWO_BIT => advance(input, 4).map(drop),
        _ => Err(Problem::Key),
    }
}

/// A text that stays in the buffer, if it is long.
#[inline]
fn read_slice(input: &mut &[u8], buffer: &Bytes) -> Result<Text, Problem> {
    Text::slice_of(buffer, read_bytes(input)?).ok_or(Problem::Utf8)
}

#[inline]
fn read_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, Problem> {
    str::from_utf8(read_bytes(input)?).map_err(|_| Problem::Utf8)
}

#[inline(always)]
fn read_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Problem> {
    let length = read_varint(input)?;
    advance(input, usize::try_from(length).map_err(|_| Problem::Truncated)?)
}

#[inline(always)]
fn advance<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Problem> {
    let (part, rest) = input.split_at_checked(length).ok_or(Problem::Truncated)?;
    *input = rest;
    Ok(part)
}

/// An integer of seven bits a byte, the lowest first. One and two bytes are nearly all there are.
#[inline(always)]
fn read_varint(input: &mut &[u8]) -> Result<u64, Problem> {
    match *input {
        [low @ ..0x80, rest @ ..] => {
            *input = rest;
            Ok(u64::from(*low))
        }
        [low, high @ ..0x80, rest @ ..] => {
            *input = rest;
            Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
        }
        _ => read_any_varint(input),
    }
}

/// An integer that is mostly longer, as the seconds and nanoseconds of times are: taken at once where it has four bytes at
/// least and eight at most.
#[inline(always)]
fn read_long_varint(input: &mut &[u8]) -> Result<u64, Problem> {
    /// Bit 7 of each byte, which says that another one follows.
    const MORE: u64 = 0x8080_8080_8080_8080;
    let bytes = *input;
    let word = match (bytes.first_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
        (Some(word), _, _) => u64::from_le_bytes(*word),
        // Four to seven bytes, as their first four and their last four.
        (None, Some(first), Some(last)) => {
            let behind = 8 * (bytes.len() - 4);
            u64::from(u32::from_le_bytes(*first))
                | u64::from(u32::from_le_bytes(*last)) << behind
                | MORE << (behind + 32)
        }
        _ => return read_any_varint(input),
    };
    let ends = !word & MORE;
    if ends == 0 {
        return read_any_varint(input);
    }
    // From the lowest bit to the end of the first byte that none follows.
    let bits = ends.trailing_zeros() + 1;
    let bytes = word & u64::MAX >> (64 - bits) & !MORE;
    // Eight times seven bits, pushed together in pairs, then in fours, then in eights.
    let pairs = bytes & 0x007f_007f_007f_007f | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    *input = &input[bits as usize / 8..];
    Ok(fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4)
}

#[inline(never)]
fn read_any_varint(input: &mut &[u8]) -> Result<u64, Problem> {
    let mut value = 0;
    for (index, byte) in input.iter().copied().enumerate().take(10) {
        // Nine bytes hold 63 bits, which leaves one for the tenth.
        if index == 9 && byte > 1 {
            return Err(Problem::Varint);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(Problem::Truncated)
}
