//! Protobuf fields read by hand, by the rules of the generated code: property tests hold both to each other.

use std::fmt;

/// The most parts that a message may have of those that take far more memory than they may have on the wire.
const MOST_PARTS: u32 = 1 << 16;

/// Why bytes are not the message that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecodeError {
    problem: Problem,
    /// The innermost message that is wrong, and the number of the field in it; 0 where not even that can be read.
    place: Option<(&'static Shape, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Truncated,
    Varint,
    Key,
    WireType,
    Utf8,
    EndGroup,
    Depth,
    /// More than [`MOST_PARTS`] of what is named.
    Parts(&'static str),
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
            Problem::Parts(parts) => return write!(f, "there are more {parts} than {MOST_PARTS} in all"),
            Problem::Truncated => "it ends too early",
            Problem::Varint => "an integer has more than 64 bits",
            Problem::Key => "a field has no valid number",
            Problem::WireType => "it is not of the type that the field has",
            Problem::Utf8 => "the text is not UTF-8",
            Problem::EndGroup => "a group ends that did not begin",
            Problem::Depth => "groups are nested too deep",
        })
    }
}

/// What is known of a message type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// The fields from number 1 on.
    pub(crate) fields: &'static [&'static str],
    /// How deep groups of unknown fields may be nested in it: a hundred levels of messages and groups in all.
    pub(crate) levels: u32,
}

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

// Keys as patterns need them.
pub(crate) const BYTES_1: u64 = delimited(1);
pub(crate) const BYTES_2: u64 = delimited(2);
pub(crate) const BYTES_3: u64 = delimited(3);
pub(crate) const BYTES_4: u64 = delimited(4);
pub(crate) const BYTES_5: u64 = delimited(5);
pub(crate) const BYTES_6: u64 = delimited(6);
pub(crate) const INTEGER_1: u64 = integer(1);
pub(crate) const INTEGER_2: u64 = integer(2);
pub(crate) const INTEGER_3: u64 = integer(3);

/// How many more parts a message may have. Each takes far more memory than it may have on the wire, where two bytes are
/// enough, and all of them are made before it is known whether there is room for the message.
pub(crate) struct Room(u32);

impl Default for Room {
    fn default() -> Self {
        Self(MOST_PARTS)
    }
}

impl Room {
    /// Takes one; `parts` says what they are.
    ///
    /// # Errors
    ///
    /// When none is left.
    pub(crate) fn take(&mut self, parts: &'static str) -> Result<(), DecodeError> {
        self.0 = self.0.checked_sub(1).ok_or(Problem::Parts(parts))?;
        Ok(())
    }
}

/// The flag of a message with nothing else in it, such as a handshake.
pub(crate) fn merge_flag(input: &[u8], shape: &'static Shape, flag: &mut bool) -> Result<(), DecodeError> {
    each_field(input, shape, |key, input| match key {
        INTEGER_1 => {
            *flag = read_varint(input)? != 0;
            Ok(())
        }
        key => skip_unknown(key, input, shape),
    })
}

/// An entry of a map of texts.
pub(crate) fn read_entry<'a>(input: &'a [u8], shape: &'static Shape) -> Result<(&'a str, &'a str), DecodeError> {
    let (mut name, mut value) = ("", "");
    each_field(input, shape, |key, input| match key {
        BYTES_1 => {
            name = read_text(input)?;
            Ok(())
        }
        BYTES_2 => {
            value = read_text(input)?;
            Ok(())
        }
        key => skip_unknown(key, input, shape),
    })?;
    Ok((name, value))
}

/// The low and the high half of an integer. Of a 32-bit field only the low one counts, by protobuf's rules.
pub(crate) fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// Hands the key of each field to `take`, which reads the field's content. An error that does not know its place yet gets
/// this one.
#[inline]
pub(crate) fn each_field<'a>(
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
pub(crate) fn skip_unknown(key: u64, input: &mut &[u8], shape: &'static Shape) -> Result<(), DecodeError> {
    if (1..=shape.fields.len() as u64).contains(&(key >> 3)) {
        return Err(Problem::WireType.into());
    }
    Ok(skip(key, input, shape.levels)?)
}

pub(crate) fn skip(key: u64, input: &mut &[u8], levels: u32) -> Result<(), Problem> {
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

#[inline]
pub(crate) fn read_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, Problem> {
    str::from_utf8(read_bytes(input)?).map_err(|_| Problem::Utf8)
}

#[inline(always)]
pub(crate) fn read_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Problem> {
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
pub(crate) fn read_varint(input: &mut &[u8]) -> Result<u64, Problem> {
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
pub(crate) fn read_long_varint(input: &mut &[u8]) -> Result<u64, Problem> {
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
