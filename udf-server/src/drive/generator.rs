//! Numbered messages in the place of a source.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::SystemTime;

use bytes::Bytes;
use numaflow_sdk::source::{Message, Offset};

use super::lines::{BATCH_BYTES, count_within};

/// What messages are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generate {
    /// How many.
    pub count: NonZeroU64,
    /// How long each value is: its number, from 1, in decimal digits, with zeros before it. Where there is no room for all
    /// digits, the last ones stay.
    pub value_bytes: usize,
    /// How many different keys there are, in turn from `key-0` on; `None` makes messages without keys.
    pub keys: Option<NonZeroU32>,
}

/// The messages that are made, and those that were nacked.
#[derive(Debug)]
pub(super) struct Generator {
    what: Generate,
    made: u64,
    nacked: Vec<Message>,
}

impl Generator {
    pub(super) fn new(what: Generate) -> Self {
        Self { what, made: 0, nacked: Vec::new() }
    }

    /// The next messages, nacked ones first; `None` at the end.
    pub(super) fn read(&mut self, count: usize) -> Option<Vec<Message>> {
        // All values are of the same length.
        let count = count_within(count, BATCH_BYTES, std::iter::repeat(self.what.value_bytes));
        let mut batch: Vec<Message> = self.nacked.drain(..count.min(self.nacked.len())).collect();
        while batch.len() < count && self.made < self.what.count.get() {
            self.made += 1;
            batch.push(self.message(self.made));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Puts nacked messages back, to be read again.
    pub(super) fn nack(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.nacked.extend(messages);
    }

    fn message(&self, number: u64) -> Message {
        let Generate { value_bytes, keys, .. } = self.what;
        let digits = number.to_string();
        let mut value = vec![b'0'; value_bytes.saturating_sub(digits.len())];
        value.extend_from_slice(&digits.as_bytes()[digits.len().saturating_sub(value_bytes)..]);
        let message = Message::new(Bytes::from(value), Offset::new(digits, 0), SystemTime::now());
        match keys {
            Some(keys) => message.with_keys([format!("key-{}", (number - 1) % u64::from(keys.get()))]),
            None => message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_length_and_keys_take_turns() {
        for (value_bytes, first, last) in [(0, "", ""), (1, "1", "0"), (2, "01", "10"), (5, "00001", "00010")] {
            let (count, keys) = (NonZeroU64::new(10).unwrap(), NonZeroU32::new(3));
            let mut generator = Generator::new(Generate { count, value_bytes, keys });
            let mut all = generator.read(4).unwrap();
            generator.nack(all.first().cloned());
            all.extend(generator.read(100).unwrap());
            assert!(generator.read(100).is_none());
            let offsets: Vec<&Offset> = all.iter().map(Message::offset).collect();
            let expected = ["1", "2", "3", "4", "1", "5", "6", "7", "8", "9", "10"].map(|text| Offset::new(text, 0));
            assert_eq!(offsets, expected.iter().collect::<Vec<_>>());
            assert_eq!((&all[0].value()[..], &all[10].value()[..]), (first.as_bytes(), last.as_bytes()));
            assert_eq!((all[3].keys(), all[10].keys()), (&["key-0".to_owned()][..], &["key-0".to_owned()][..]));
        }
    }
}
