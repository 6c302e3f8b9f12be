//! Which messages were resolved already: what comes again is acked again and not written again.

use std::collections::{BTreeMap, HashMap, HashSet};

use numaflow_sdk::source::Offset;

/// A set of offsets. Those that end in a number, as most do, are kept as ranges, so that millions of them take a few
/// bytes.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    partitions: HashMap<i32, Partition>,
    count: u64,
}

#[derive(Debug, Default)]
struct Partition {
    /// The numbers, by what comes before them.
    numbered: HashMap<Box<[u8]>, Ranges>,
    other: HashSet<Box<[u8]>>,
}

impl Resolved {
    pub(super) fn contains(&self, offset: &Offset) -> bool {
        let Some(partition) = self.partitions.get(&offset.partition_id()) else {
            return false;
        };
        match split_number(offset.as_bytes()) {
            Some((prefix, number)) => partition.numbered.get(prefix).is_some_and(|ranges| ranges.contains(number)),
            None => partition.other.contains(offset.as_bytes()),
        }
    }

    /// Adds an offset that is not in the set yet.
    pub(super) fn insert(&mut self, offset: &Offset) {
        let partition = self.partitions.entry(offset.partition_id()).or_default();
        let new = match split_number(offset.as_bytes()) {
            Some((prefix, number)) => match partition.numbered.get_mut(prefix) {
                Some(ranges) => ranges.insert(number),
                None => partition.numbered.entry(prefix.into()).or_default().insert(number),
            },
            None => partition.other.insert(offset.as_bytes().into()),
        };
        self.count += u64::from(new);
    }

    /// How many offsets are in the set.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// Splits the decimal number off the end of an offset. Only a number as a formatter writes it, so that the two parts
/// stand for one offset only; the last value of the type is left out, so that there is always a next one.
fn split_number(offset: &[u8]) -> Option<(&[u8], u64)> {
    let digits = offset.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (prefix, digits) = offset.split_at(offset.len() - digits);
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    (number < u64::MAX).then_some((prefix, number))
}

/// A set of numbers as disjoint ranges with gaps between them: first number to the one after the last.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Adds a number; `false` if it was there.
    fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        let end = self.0.remove(&(number + 1)).unwrap_or(number + 1);
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if *before == number => *before = end,
            _ => {
                self.0.insert(number, end);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_splits_off_only_where_the_parts_stand_for_one_offset() {
        assert_eq!(split_number(b"flights:3:17"), Some((&b"flights:3:"[..], 17)));
        assert_eq!(split_number(b"0"), Some((&b""[..], 0)));
        assert_eq!(split_number(b"a:007"), None);
        assert_eq!(split_number(b"a:99999999999999999999999"), None);
        assert_eq!(split_number(b"a:18446744073709551615"), None);
        assert_eq!(split_number(b"7a"), None);
        assert_eq!(split_number(b""), None);
    }

    #[test]
    fn millions_in_a_row_are_one_range() {
        let mut ranges = Ranges::default();
        for number in 0..2_200_000 {
            assert!(ranges.insert(number));
        }
        assert_eq!(ranges.0.len(), 1);
    }

    proptest! {
        #[test]
        fn it_is_a_set(offsets in proptest::collection::vec(("[ab]:|", 0u64..40, 0u16..2), 0..200)) {
            let mut resolved = Resolved::default();
            let mut model = HashSet::new();
            for (prefix, number, partition) in offsets {
                let text = if number < 30 { format!("{prefix}{number}") } else { format!("{prefix}0{number}") };
                let offset = Offset::new(text, partition);
                prop_assert_eq!(resolved.contains(&offset), model.contains(&offset));
                resolved.insert(&offset);
                model.insert(offset);
                prop_assert_eq!(resolved.count(), model.len() as u64);
            }
        }

        #[test]
        fn ranges_stay_apart(numbers in proptest::collection::vec(0u64..60, 0..120)) {
            let mut ranges = Ranges::default();
            for number in numbers {
                ranges.insert(number);
            }
            let bounds: Vec<(u64, u64)> = ranges.0.into_iter().collect();
            prop_assert!(bounds.iter().all(|(start, end)| start < end));
            prop_assert!(bounds.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
