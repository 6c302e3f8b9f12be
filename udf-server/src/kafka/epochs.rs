//! The leader epochs of a partition's records.
//!
//! A commit carries the epoch of the last record before it, and a position carries the epoch of the record before it (KIP-320).
//! The partition's leader knows the end offset of each epoch in its log. A position beyond the end of its epoch shows that
//! the log was cut, also where the log has grown beyond the position again.
//!
//! Offset and epoch together name one record: an epoch has one leader. So `course` can tell records that were read before from
//! others at their places, and a commit has the last epochs with it.

/// How many epochs before the commit are kept: the last one, and the one that its first records may be taken for.
const KEPT: usize = 2;

/// From which offset on records have which epoch. An epoch is that of a leader, so a partition has few of them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
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

    /// Whether this is another epoch than that of the last record.
    pub(super) fn change_to(&self, epoch: Option<i32>) -> bool {
        self.changes.last().zip(epoch).is_some_and(|((_, last), epoch)| *last != epoch)
    }

    /// Where the epoch of the last record before this offset begins, as far back as it is known.
    pub(super) fn beginning_before(&self, offset: i64) -> Option<i64> {
        self.changes.iter().rev().find(|(from, _)| *from < offset).map(|(from, _)| *from)
    }

    /// Whether a record was read before: its offset and its epoch name it.
    pub(super) fn has(&self, offset: i64, epoch: Option<i32>) -> bool {
        epoch.is_some() && self.before(offset + 1) == epoch
    }

    /// Forgets what only offsets below this one need: all but the last epochs before it.
    pub(super) fn forget_before(&mut self, offset: i64) {
        let needless = self.changes.partition_point(|(from, _)| *from < offset).saturating_sub(KEPT);
        self.changes.drain(..needless);
    }

    /// The last epochs before an offset, as the metadata of a commit has them.
    pub(super) fn to_text(&self, offset: i64) -> String {
        let before = &self.changes[..self.changes.partition_point(|(from, _)| *from < offset)];
        let last = &before[before.len().saturating_sub(KEPT)..];
        last.iter().map(|(from, epoch)| format!("{epoch}@{from}")).collect::<Vec<_>>().join(" ")
    }

    /// Reads what [`Epochs::to_text`] has written; `None` where it is anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut epochs = Self::default();
        for change in text.split_whitespace() {
            let (epoch, from) = change.split_once('@')?;
            epochs.note(from.parse().ok()?, epoch.parse().ok()?);
        }
        Some(epochs)
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
        epochs.forget_before(15);
        assert_eq!((epochs.before(14), epochs.before(15)), (Some(3), Some(5)));
        epochs.forget_before(99);
        assert_eq!((epochs.before(14), epochs.before(15), epochs.before(99)), (None, Some(5), Some(6)));
    }

    #[test]
    fn a_record_is_named_by_its_offset_and_its_epoch() {
        let epochs = epochs(&[(10, 3), (14, 5)]);
        assert!(epochs.has(13, Some(3)) && epochs.has(14, Some(5)) && epochs.has(20, Some(5)));
        assert!(!epochs.has(14, Some(3)) && !epochs.has(13, Some(5)) && !epochs.has(9, Some(3)));
        assert!(!epochs.has(13, None) && !epochs.has(9, None), "nothing is known of them");
        assert_eq!(
            [10, 11, 14, 15].map(|offset| epochs.beginning_before(offset)),
            [None, Some(10), Some(10), Some(14)]
        );
    }

    #[test]
    fn the_last_epochs_go_with_a_commit() {
        let epochs = epochs(&[(10, 3), (14, 5), (18, 6)]);
        assert_eq!(epochs.to_text(99), "5@14 6@18");
        assert_eq!(epochs.to_text(18), "3@10 5@14");
        assert_eq!(epochs.to_text(10), "");
        assert_eq!(Epochs::parse(&epochs.to_text(15)).unwrap().changes, [(10, 3), (14, 5)]);
        assert_eq!(Epochs::parse(""), Some(Epochs::default()));
        assert_eq!(Epochs::parse("5@14 other"), None);
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
