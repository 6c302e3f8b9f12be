//! What the source may hold in memory, and how that is shared: between the client library's queues and our own records,
//! and between the partitions.

use super::tracker::Limits;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The most records of one partition between the broker and their acks. A partition that stands still behind a record
/// that is never acked reads on this far.
pub(super) const RECORDS: usize = 10_000;
/// The most bytes of them. More does not make anything faster.
pub(super) const BYTES: usize = 16 * MIB;
/// The least that a partition needs to be read at a fair pace.
const LEAST: usize = 64 * KIB;
/// The library does not take less than its own `fetch.max.bytes`, a million bytes, and a margin.
const LEAST_BATCH: usize = 2 * MIB;
/// The most that the library's property can say.
const MOST_BATCH: usize = i32::MAX as usize;
/// A record of a hundred bytes takes about four hundred in the library's queue, and a fetch can overshoot what the queue
/// may hold by as much again.
const OVERHEAD: usize = 8;

/// What a source may hold: half of it in the client library's queues, half as records that are ready or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    bytes: usize,
    /// What one partition may have unfinished, whatever is left.
    of_one: Limits,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, of_one: Limits { records: RECORDS, bytes: BYTES } }
    }

    /// Sets the most that one partition may have unfinished.
    pub(super) fn with_most_of_one(mut self, limits: Limits) -> Self {
        self.of_one = limits;
        self
    }

    /// What each of so many partitions may have unfinished.
    pub(super) fn of_each(self, partitions: usize) -> Limits {
        let Limits { records, bytes } = self.of_one;
        Limits { records, bytes: (self.bytes / 2 / partitions.max(1)).max(LEAST).min(bytes) }
    }

    /// The most bytes that the library fetches from a partition at once, and keeps in its queue, where there are so many
    /// partitions at the most. The library takes these when a client is made and never again.
    pub(super) fn fetch_bytes(self, partitions: usize) -> usize {
        (self.bytes / 2 / partitions.max(1) / OVERHEAD).clamp(LEAST, MIB)
    }

    /// The largest batch of records that the library takes, compressed and decompressed, and the most that it may hold of
    /// decompressed ones: all of its half.
    pub(super) fn largest_batch(self) -> usize {
        (self.bytes / 2).clamp(LEAST_BATCH, MOST_BATCH)
    }

    /// What all partitions together may have unfinished.
    pub(super) fn of_all(self) -> usize {
        self.bytes / 2
    }

    /// The budget that so many partitions need to be read without getting in each other's way, where this one is less.
    pub(super) fn lacks(self, partitions: usize) -> Option<usize> {
        let needed = 2 * LEAST * OVERHEAD * partitions;
        (self.bytes < needed).then_some(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_share_it() {
        let budget = Budget::new(256 * MIB);
        assert_eq!(budget.of_each(1).bytes, BYTES);
        assert_eq!(budget.of_each(32).bytes, 4 * MIB);
        assert_eq!(budget.of_each(0).bytes, BYTES);
        assert_eq!(budget.fetch_bytes(1), MIB);
        assert_eq!(budget.fetch_bytes(64), 256 * KIB);
    }

    #[test]
    fn one_partition_gets_no_more_than_it_may_have() {
        let of_one = Limits { records: 7, bytes: KIB };
        let budget = Budget::new(256 * MIB).with_most_of_one(of_one);
        assert_eq!([1, 10_000].map(|partitions| budget.of_each(partitions)), [of_one; 2]);
    }

    /// Whatever it is shared among, what all may hold stays within it, or the start says how much is needed.
    #[test]
    fn it_is_kept_or_found_too_small() {
        for partitions in [1, 2, 12, 48, 200, 1000] {
            for mib in [1, 16, 64, 128, 256, 1024] {
                let budget = Budget::new(mib * MIB);
                let each = budget.of_each(partitions).bytes + OVERHEAD * budget.fetch_bytes(partitions);
                match budget.lacks(partitions) {
                    None => assert!(each * partitions <= mib * MIB, "{partitions} partitions in {mib} MiB"),
                    Some(needed) => {
                        assert!(needed > mib * MIB);
                        assert_eq!(Budget::new(needed).lacks(partitions), None);
                    }
                }
            }
        }
    }
}
