//! The messages of `map.v1` as the load client and the h2 echo see them: made from a template, read by skipping.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::Outcome;
use crate::pb::map::v1 as pb;

/// A gRPC message's flag and length.
pub(crate) const PREFIX: usize = 5;
/// The id of the first message: ids have the form that the platform gives them, vertex, base64 of the offset, partition
/// and index, and here all the same length.
const FIRST_ID: &[u8] = b"bench-MDAwMDAwMDAw-0-0";
/// Where the offset is in an id.
const OFFSET: usize = 6;
/// The digits of an offset, in groups of three, which base64 makes four characters of.
const GROUPS: usize = 3;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The smallest value there can be: the message's number is written into it.
pub(crate) const SMALLEST_VALUE: usize = 8;

/// A request of which only the id and the number in the value change.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    value: usize,
    id: usize,
}

impl Template {
    /// The request with a value of this many bytes, everything set that the platform sets in a MonoVertex.
    pub(crate) fn new(value_size: usize) -> Outcome<Self> {
        if value_size < SMALLEST_VALUE {
            return Err(format!(
                "a value of {value_size} bytes has no room for its number; {SMALLEST_VALUE} is the least"
            )
            .into());
        }
        // An x marks where the value begins: neither the prefix nor the key before it has one.
        let time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 });
        let request = pb::MapRequest {
            request: Some(pb::map_request::Request {
                keys: vec!["key".to_owned()],
                value: vec![b'x'; value_size].into(),
                event_time: time,
                watermark: time,
                ..pb::map_request::Request::default()
            }),
            id: String::from_utf8_lossy(FIRST_ID).into_owned(),
            ..pb::MapRequest::default()
        };
        let bytes = framed(&request);
        let run = [b'x'; SMALLEST_VALUE];
        let value = bytes.windows(run.len()).position(|part| part == run).ok_or("the template has no value")?;
        let id = bytes.len() - FIRST_ID.len();
        Ok(Self { bytes, value, id })
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the request with this number.
    pub(crate) fn write(&self, number: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let message = &mut out[start..];
        message[self.value..][..8].copy_from_slice(&u64::from(number).to_le_bytes());
        write_offset(number, &mut message[self.id + OFFSET..]);
    }
}

/// The request that ends a batch.
pub(crate) fn end_of_batch() -> Vec<u8> {
    framed(&pb::MapRequest { status: Some(pb::TransmissionStatus { eot: true }), ..pb::MapRequest::default() })
}

/// The request that begins a stream.
pub(crate) fn handshake() -> Vec<u8> {
    framed(&pb::MapRequest { handshake: Some(pb::Handshake { sot: true }), ..pb::MapRequest::default() })
}

/// A message as it is in a gRPC stream.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0; PREFIX];
    bytes.extend_from_slice(&message.encode_to_vec());
    // A message this long cannot be made here.
    drop(set_length(&mut bytes));
    bytes
}

/// Writes its length into the prefix of a message.
pub(crate) fn set_length(message: &mut [u8]) -> Outcome<()> {
    let length = u32::try_from(message.len() - PREFIX)?;
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Writes the base64 of nine digits.
fn write_offset(number: u32, out: &mut [u8]) {
    let mut rest = number;
    for group in (0..GROUPS).rev() {
        let digits = rest % 1000;
        rest /= 1000;
        let bits = (0x30 + digits / 100) << 16 | (0x30 + digits / 10 % 10) << 8 | (0x30 + digits % 10);
        for (index, character) in out[group * 4..][..4].iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
        }
    }
}

/// The number of the message with this id; `None` when it is none of the client's ids.
fn read_id(id: &[u8]) -> Option<u32> {
    let same = id.len() == FIRST_ID.len()
        && id[..OFFSET] == FIRST_ID[..OFFSET]
        && id[OFFSET + 4 * GROUPS..] == FIRST_ID[OFFSET + 4 * GROUPS..];
    if !same {
        return None;
    }
    let mut number = 0;
    for group in id[OFFSET..OFFSET + 4 * GROUPS].chunks_exact(4) {
        let mut bits = 0;
        for &character in group {
            bits = bits << 6 | sextet(character)?;
        }
        for shift in [16, 8, 0] {
            let digit = (bits >> shift & 0xff).checked_sub(0x30)?;
            if digit > 9 {
                return None;
            }
            number = number * 10 + digit;
        }
    }
    Some(number)
}

fn sextet(character: u8) -> Option<u32> {
    match character {
        b'A'..=b'Z' => Some(u32::from(character - b'A')),
        b'a'..=b'z' => Some(u32::from(character - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(character - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// What a stream has received and nobody has read yet.
#[derive(Debug, Default)]
pub(crate) struct Received {
    chunks: VecDeque<Bytes>,
    length: usize,
}

impl Received {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.length += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Takes the next message's prefix off when all of the message is there, and says how long it is.
    pub(crate) fn begin(&mut self) -> Outcome<Option<usize>> {
        if self.length < PREFIX {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX];
        let mut filled = 0;
        for chunk in &self.chunks {
            let part = chunk.len().min(PREFIX - filled);
            prefix[filled..filled + part].copy_from_slice(&chunk[..part]);
            filled += part;
            if filled == PREFIX {
                break;
            }
        }
        let [compressed, length @ ..] = prefix;
        if compressed != 0 {
            return Err("a message claims to be compressed, which was not agreed on".into());
        }
        let length = u32::from_be_bytes(length) as usize;
        if self.length < PREFIX + length {
            return Ok(None);
        }
        self.advance(PREFIX);
        Ok(Some(length))
    }

    /// Takes the next answer off, if all of it is there.
    pub(crate) fn answer(&mut self) -> Outcome<Option<Answer>> {
        let Some(length) = self.begin()? else { return Ok(None) };
        match self.chunks.front() {
            // In one piece, as nearly all small ones are.
            Some(front) if front.len() >= length => {
                let answer = Answer::read(&mut &front[..length], length)?;
                self.advance(length);
                Ok(Some(answer))
            }
            _ => Answer::read(self, length).map(Some),
        }
    }
}

impl Buf for Received {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        self.length -= count;
        while count > 0 {
            let Some(front) = self.chunks.front_mut() else { return };
            let part = front.len().min(count);
            front.advance(part);
            count -= part;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

/// What the client wants to know of a response.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The number in the id; `None` for an id that is not the client's.
    pub(crate) number: Option<u32>,
    /// How many results there are.
    pub(crate) results: usize,
    /// The length of the last result's value.
    pub(crate) value_size: usize,
    /// The number in the last result's value.
    pub(crate) value_number: u64,
    pub(crate) handshake: bool,
    pub(crate) end_of_batch: bool,
}

impl Answer {
    fn read(buffer: &mut impl Buf, length: usize) -> Outcome<Self> {
        let mut answer = Self::default();
        let end = buffer.remaining() - length;
        while buffer.remaining() > end {
            let (field, size) = field(buffer, end)?;
            match field {
                1 => {
                    answer.results += 1;
                    answer.read_result(buffer, size)?;
                    continue;
                }
                2 if size == FIRST_ID.len() => {
                    let mut id = [0; FIRST_ID.len()];
                    buffer.copy_to_slice(&mut id);
                    answer.number = read_id(&id);
                    continue;
                }
                3 => answer.handshake = true,
                4 => answer.end_of_batch = true,
                _ => {}
            }
            buffer.advance(size);
        }
        Ok(answer)
    }

    fn read_result(&mut self, buffer: &mut impl Buf, length: usize) -> Outcome<()> {
        let end = buffer.remaining() - length;
        while buffer.remaining() > end {
            let (field, mut size) = field(buffer, end)?;
            if field == 2 {
                self.value_size = size;
                if size >= SMALLEST_VALUE {
                    self.value_number = buffer.get_u64_le();
                    size -= SMALLEST_VALUE;
                }
            }
            buffer.advance(size);
        }
        Ok(())
    }
}

/// The next field's number and size; all fields of these messages have a length. `end` is what remains behind the message.
pub(crate) fn field(buffer: &mut impl Buf, end: usize) -> Outcome<(u32, usize)> {
    let (field, wire_type) = decode_key(buffer)?;
    if wire_type != WireType::LengthDelimited {
        return Err(format!("field {field} has wire type {wire_type:?}, which no field of these messages has").into());
    }
    let size = usize::try_from(decode_varint(buffer)?)?;
    if buffer.remaining() < end + size {
        return Err(format!("field {field} is longer than its message").into());
    }
    Ok((field, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_request_that_prost_makes() {
        let template = Template::new(256).unwrap();
        let mut bytes = Vec::new();
        template.write(7, &mut bytes);
        template.write(123_456_789, &mut bytes);
        let second = pb::MapRequest::decode(&bytes[template.size() + PREFIX..]).unwrap();
        assert_eq!(second.id, "bench-MTIzNDU2Nzg5-0-0");
        let request = second.request.unwrap();
        assert_eq!(request.value.len(), 256);
        assert_eq!(request.value[..8], 123_456_789_u64.to_le_bytes());
        assert_eq!(bytes.len(), 2 * template.size());
    }

    #[test]
    fn an_answer_is_read_whole_and_in_pieces() {
        let response = pb::MapResponse {
            results: vec![pb::map_response::Result {
                keys: vec!["key".to_owned()],
                value: [&42_u64.to_le_bytes()[..], &[b'x'; 92]].concat().into(),
                ..pb::map_response::Result::default()
            }],
            id: "bench-MDAwMDAwMDQy-0-0".to_owned(),
            ..pb::MapResponse::default()
        };
        let bytes = framed(&response);
        let expected = Answer { number: Some(42), results: 1, value_size: 100, value_number: 42, ..Answer::default() };
        for piece in [1, 3, 7, bytes.len()] {
            let mut received = Received::default();
            let (last, others) = bytes.split_last().unwrap();
            others.chunks(piece).for_each(|chunk| received.push(Bytes::copy_from_slice(chunk)));
            assert_eq!(received.answer().unwrap(), None);
            received.push(Bytes::copy_from_slice(&[*last]));
            assert_eq!(received.answer().unwrap(), Some(expected));
            assert_eq!(received.remaining(), 0);
        }
    }

    #[test]
    fn an_id_that_is_not_the_clients_has_no_number() {
        assert_eq!(read_id(b"bench-MDAwMDAwMDQy-0-0"), Some(42));
        assert_eq!(read_id(b"bench-MDAwMDAwMDQy-0-1"), None);
        assert_eq!(read_id(b"bench-MDAwMDAwMDQ_-0-0"), None);
        assert_eq!(read_id(b"bench-////////////-0-0"), None);
    }
}
