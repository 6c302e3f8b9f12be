//! What the records of a topic have to be: of every partition all, each once, in order.

use crate::Outcome;
use crate::reading::Expected;

/// Where reading stands in each partition of a topic.
#[derive(Debug)]
pub(super) struct Positions {
    /// What the offset of every record begins with: the topic, and a colon.
    prefix: String,
    /// The offset of each partition's next record.
    next: Vec<u64>,
    value_size: usize,
}

impl Positions {
    /// At the beginning of a topic that never had a transaction, so that offsets have no gaps.
    pub(super) fn new(topic: &str, partitions: u16, value_size: usize) -> Self {
        Self { prefix: format!("{topic}:"), next: vec![0; partitions.into()], value_size }
    }

    /// The partition and the offset in `topic:partition:offset`.
    fn parse(&self, offset: &[u8]) -> Option<(usize, u64)> {
        let (partition, offset) = str::from_utf8(offset).ok()?.strip_prefix(&self.prefix)?.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    }
}

impl Expected for Positions {
    fn arrive(&mut self, offset: &[u8], value_size: usize) -> Outcome<()> {
        let position = self.parse(offset);
        let next = position.and_then(|(partition, _)| self.next.get_mut(partition));
        match (position, next) {
            (Some((_, offset)), Some(next)) if offset == *next && value_size == self.value_size => {
                *next += 1;
                Ok(())
            }
            (_, next) => {
                let offset = String::from_utf8_lossy(offset);
                let wanted = next.map_or("none of that partition".to_owned(), |next| format!("offset {next}"));
                let expected = self.value_size;
                Err(format!(
                    "the source sent record {offset} with {value_size} bytes instead of {wanted} with {expected}"
                )
                .into())
            }
        }
    }

    /// A read may end when nothing more comes for a moment.
    fn end(&mut self, _count: u64, _wanted: u64) -> Outcome<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_is_read_in_order_and_without_a_gap() {
        let mut positions = Positions::new("t", 2, 100);
        positions.arrive(b"t:1:0", 100).unwrap();
        positions.arrive(b"t:0:0", 100).unwrap();
        positions.arrive(b"t:1:1", 100).unwrap();
        for wrong in ["t:1:1", "t:1:3", "t:2:0", "u:0:1", "t:0", "", "t:0:-1"] {
            positions.arrive(wrong.as_bytes(), 100).unwrap_err();
        }
        let error = positions.arrive(b"t:0:1", 99).unwrap_err().to_string();
        assert_eq!(error, "the source sent record t:0:1 with 99 bytes instead of offset 1 with 100");
        positions.arrive(b"t:0:1", 100).unwrap();
        positions.end(0, 500).unwrap();
    }
}
