//! Protobuf fields written by hand: their lengths first, then the fields themselves, straight into the output.
//!
//! Only fields up to number 15 occur in our messages, so that a field's key is one byte.

use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};

#[cfg(test)]
pub(crate) mod chance;
pub(crate) mod read;

/// The bytes of a length-delimited field whose content has `len` bytes.
pub(crate) fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// The bytes of a `bytes` or `string` field, which is left out when it is empty.
pub(crate) fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { field_len(len) }
}

/// The bytes of an integer field that is always written.
pub(crate) fn varint_len(value: u64) -> usize {
    1 + encoded_len_varint(value)
}

/// The bytes of a map's entry, without its own key and length.
pub(crate) fn entry_len(key: &str, value: &[u8]) -> usize {
    bytes_len(key.len()) + bytes_len(value.len())
}

/// Writes the head of a length-delimited field; the content follows.
#[inline]
pub(crate) fn put_head(out: &mut impl BufMut, number: u8, len: usize) {
    let key = number << 3 | 2;
    // Lengths of one and two bytes are nearly all there are, and go out in one piece.
    match u16::try_from(len) {
        Ok(len @ ..0x80) => out.put_slice(&[key, len.to_le_bytes()[0]]),
        Ok(len @ ..0x4000) => {
            let [low, high] = (len << 1).to_le_bytes();
            out.put_slice(&[key, low >> 1 | 0x80, high]);
        }
        _ => {
            out.put_u8(key);
            encode_varint(len as u64, out);
        }
    }
}

/// Writes a `bytes` or `string` field, unless it is empty.
#[inline]
pub(crate) fn put_bytes(out: &mut impl BufMut, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_field(out, number, bytes);
    }
}

/// Writes a `bytes` or `string` field also when it is empty: one of a repeated field, or an optional one that is set.
#[inline]
pub(crate) fn put_field(out: &mut impl BufMut, number: u8, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.put_slice(bytes);
}

/// Writes an integer field.
#[inline]
pub(crate) fn put_varint(out: &mut impl BufMut, number: u8, value: u64) {
    out.put_u8(number << 3);
    encode_varint(value, out);
}

/// Writes one entry of a map.
#[inline]
pub(crate) fn put_entry(out: &mut impl BufMut, number: u8, key: &str, value: &[u8]) {
    put_head(out, number, entry_len(key, value));
    put_bytes(out, 1, key.as_bytes());
    put_bytes(out, 2, value);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use prost::encoding::{WireType, encode_key};

    use super::*;

    /// Around every length at which a varint grows.
    #[test]
    fn heads_are_what_the_generated_code_writes() {
        for bits in 0..32 {
            for len in [(1_usize << bits) - 1, 1 << bits, (1 << bits) + 1] {
                let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
                put_head(&mut ours, 15, len);
                encode_key(15, WireType::LengthDelimited, &mut theirs);
                encode_varint(len as u64, &mut theirs);
                assert_eq!(ours, theirs, "{len}");
                assert_eq!(ours.len() + len, field_len(len));
            }
        }
    }
}
