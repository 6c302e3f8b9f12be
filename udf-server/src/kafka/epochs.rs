//! The leader epochs of a partition's records.
//!
//! A commit carries the epoch of the last record before it, and a position to read on from carries the one of the record
//! before it (KIP-320). The partition's leader knows where its log leaves that epoch. So whoever reads on there learns of a
//! log that was cut meanwhile, also where it has grown beyond the offset again.

/// From which offset on records have which epoch. An epoch is that of a leader, so a partition has few of them.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// In ascending order; no two neighbours have the same epoch.
    changes: Vec<(i64, i32)>,
}

impl Epochs {
    /// Takes note of a record's epoch. Records come in the order of their offsets; where an offset goes back, what was known
    /// from there on is forgotten.
    pub(super) fn note(&mut self, offset: i64, epoch: i32) {
        while self.changes.pop_if(|(from, _)| *from >= offset).is_some() {}
        if self.changes.last().is_none_or(|(_, last)| *last != epoch) {
            self.changes.push((offset, epoch));
        }
    }

    /// The epoch of the last record before this offset, as far as it is known.
    pub(super) fn before(&self, offset: i64) -> Option<i32> {
        self.changes.iter().rev().find(|(from, _)| *from < offset).map(|(_, epoch)| *epoch)
    }

    /// Forgets what only offsets below this one need.
    pub(super) fn forget_before(&mut self, offset: i64) {
        let needless = self.changes.partition_point(|(from, _)| *from < offset).saturating_sub(1);
        self.changes.drain(..needless);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(records: &[(i64, i32)]) -> Epochs {
        let mut epochs = Epochs::default();
        records.iter().for_each(|(offset, epoch)| epochs.note(*offset, *epoch));
        epochs
    }

    #[test]
    fn a_commit_has_the_epoch_of_the_record_before_it() {
        let epochs = epochs(&[(10, 3), (11, 3), (14, 5), (15, 5)]);
        assert_eq!(epochs.before(10), None);
        assert_eq!(epochs.before(11), Some(3));
        assert_eq!(epochs.before(14), Some(3));
        assert_eq!(epochs.before(15), Some(5));
        assert_eq!(epochs.before(99), Some(5));
        assert_eq!(epochs.changes.len(), 2);
    }

    #[test]
    fn what_is_forgotten_is_not_needed() {
        let mut epochs = epochs(&[(10, 3), (14, 5), (20, 6)]);
        epochs.forget_before(14);
        assert_eq!((epochs.before(14), epochs.before(15)), (Some(3), Some(5)));
        epochs.forget_before(15);
        assert_eq!((epochs.before(14), epochs.before(15), epochs.before(21)), (None, Some(5), Some(6)));
        epochs.forget_before(99);
        assert_eq!(epochs.before(99), Some(6));
    }

    #[test]
    fn offsets_that_go_back_take_their_epochs_with_them() {
        let mut epochs = epochs(&[(10, 3), (14, 5), (18, 6)]);
        epochs.note(15, 7);
        assert_eq!((epochs.before(15), epochs.before(19)), (Some(5), Some(7)));
        epochs.note(14, 7);
        assert_eq!((epochs.before(14), epochs.before(15)), (Some(3), Some(7)));
        epochs.note(9, 1);
        assert_eq!(epochs.changes, [(9, 1)]);
    }
}
