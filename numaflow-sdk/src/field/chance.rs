//! Messages of protobuf as chance has them, right ones and broken ones, for tests that hold decoders to the generated code.

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    Integer,
    Text,
    Bytes,
    Message(&'static [Self]),
}

use Type::{Integer, Text};

/// What is in a field that nobody knows.
const UNKNOWN: &[Type] = &[Type::Message(&[Text, Type::Bytes, Integer]), Integer];

/// Writes messages as chance has it, which is numbers: a list that proptest chooses and shrinks, or any.
pub(crate) struct Chance<I>(I);

impl Chance<std::vec::IntoIter<u8>> {
    pub(crate) fn of(numbers: Vec<u8>) -> Self {
        Self(numbers.into_iter())
    }
}

impl Chance<std::iter::RepeatWith<fn() -> u8>> {
    /// As the thread's generator has it.
    pub(crate) fn of_thread() -> Self {
        Self(std::iter::repeat_with(|| fastrand::u8(..)))
    }
}

impl<I: Iterator<Item = u8>> Chance<I> {
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.0.next().unwrap_or(0)) % choices.len()]
    }

    pub(crate) fn one_in(&mut self, times: u8) -> bool {
        self.0.next().is_some_and(|number| number % times == times - 1)
    }

    /// Some fields of a message: each any number of times, in any order, with fields that nobody knows in between.
    pub(crate) fn message(&mut self, fields: &[Type]) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.one_of(&[1, 2, 3, 4, 5, 6, 7, 0]) {
            if self.one_in(16) {
                let number = self.one_of(&[7, 8, 15, 16, 2047, (1 << 29) - 1, 0, 1 << 29]);
                let wire_type = self.one_of(&[0, 1, 2, 3, 5, 6, 4]);
                self.field(number, wire_type, &mut out);
                continue;
            }
            let number = self.one_of(&[0, 1, 2, 3, 4, 5]) % fields.len();
            let field = fields[number];
            let number = number as u64 + 1;
            if self.one_in(64) {
                let wire_type = self.one_of(&[0, 1, 2, 3, 5, 4]);
                self.field(number, wire_type, &mut out);
                continue;
            }
            match field {
                Integer => {
                    self.varint(number << 3, &mut out);
                    let value = self.integer();
                    self.varint(value, &mut out);
                }
                Text | Type::Bytes | Type::Message(_) => {
                    let content = match field {
                        Type::Message(fields) => self.message(fields),
                        Text if self.one_in(64) => self.one_of(&[&b"\xff"[..], b"\xc3", b"a\xed\xa0\x80"]).to_vec(),
                        Text | Type::Bytes | Integer => {
                            self.one_of(&["", "a", "b", "ü", "an id that does not fit in place, so long is it"]).into()
                        }
                    };
                    self.varint(number << 3 | 2, &mut out);
                    self.varint(content.len() as u64, &mut out);
                    out.extend_from_slice(&content);
                }
            }
        }
        out
    }

    /// A field of this wire type, whatever it should hold.
    fn field(&mut self, number: u64, wire_type: u64, out: &mut Vec<u8>) {
        self.varint(number << 3 | wire_type, out);
        match wire_type {
            0 => {
                let value = self.integer();
                self.varint(value, out);
            }
            1 => out.extend_from_slice(&[0x83; 8]),
            2 => {
                let content = self.message(UNKNOWN);
                self.varint(content.len() as u64, out);
                out.extend_from_slice(&content);
            }
            3 => {
                let content = self.message(UNKNOWN);
                out.extend_from_slice(&content);
                let end = if self.one_in(16) { number + 1 } else { number };
                self.varint(end << 3 | 4, out);
            }
            5 => out.extend_from_slice(&[0x83; 4]),
            _ => {}
        }
    }

    fn integer(&mut self) -> u64 {
        self.one_of(&[0, 1, 2, 127, 128, 999_999_999, 1_000_000_000, 1 << 32, 1 << 35, u64::MAX, u64::MAX - 9])
    }

    /// Now and then longer than need be, or than may be.
    fn varint(&mut self, value: u64, out: &mut Vec<u8>) {
        let start = out.len();
        prost::encoding::encode_varint(value, out);
        if self.one_in(16) {
            let length = out.len() - start + self.one_of(&[1, 2, 5, 8, 9, 10]);
            if let Some(last) = out.last_mut() {
                *last |= 0x80;
            }
            out.resize(start + length - 1, 0x80);
            out.push(0);
        }
    }

    /// Bytes that are changed, taken out or missing at the end.
    pub(crate) fn broken(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.one_of(&[0, 1, 2, 3]) {
            if let Some(at) = self.index(message.len()) {
                message[at] = self.one_of(&[0, 1, 2, 8, 10, 18, 26, 34, 127, 128, 255]);
            }
        }
        if self.one_in(2)
            && let Some(at) = self.index(message.len())
        {
            message.remove(at);
        }
        if self.one_in(4) {
            message.truncate(self.index(message.len()).unwrap_or(0));
        }
        message
    }

    /// Any bytes.
    pub(crate) fn noise(&mut self) -> Vec<u8> {
        let length = self.index(40).unwrap_or(0);
        (&mut self.0).take(length).collect()
    }

    fn index(&mut self, length: usize) -> Option<usize> {
        let number = self.0.next().zip(self.0.next()).map_or(0, |(low, high)| u16::from_le_bytes([low, high]));
        usize::from(number).checked_rem(length)
    }
}
