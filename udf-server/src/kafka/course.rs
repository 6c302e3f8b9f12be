//! Whether the records of a partition come in their order, and where its log was cut if they do not. Pure: no client.
//!
//! The client library asks the leader where its log leaves the epoch that was read last, and goes back to there. That need
//! not be where the logs differ: the log may have lost that epoch, and have records of an earlier one at its places, also up to
//! the position and beyond. So where offsets go back, and where the leader is another one, the record before is read again.
//! Where it is not the one that was read, the partition is read again from the beginning of its epoch, or of the one before.
//! Records that were read before are passed over; the first one that was not is where the log was cut.

use super::epochs::Epochs;

/// How far a partition was read, and in which epochs.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) epochs: Epochs,
    /// The offset after the last record.
    next: Option<i64>,
    /// While records are held against those that were read before.
    comparison: Option<Comparison>,
}

#[derive(Debug, Clone, Copy)]
struct Comparison {
    /// Where it begins.
    from: i64,
    /// The last record was one that was read before.
    is_met: bool,
}

/// What is to be done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the next one, or takes the place of one that was read before.
    Take,
    /// It was read before.
    PassOver,
    /// The partition is to be read again from this offset on, after which [`Course::compare_from`] is to be called.
    GoBack(i64),
}

impl Course {
    /// The course of a partition that was read up to `next`, in these epochs.
    pub(super) fn new(next: i64, epochs: Epochs) -> Self {
        Self { epochs, next: Some(next), comparison: None }
    }

    /// Meets the record that comes now.
    pub(super) fn meet(&mut self, offset: i64, epoch: Option<i32>) -> Step {
        let follows = self.next.is_none_or(|next| offset >= next);
        if !follows || self.comparison.is_some() || self.epochs.change_to(epoch) {
            let step = self.look_back(offset, epoch);
            if step != Step::Take {
                return step;
            }
        }
        self.comparison = None;
        self.next = Some(offset + 1);
        if let Some(epoch) = epoch {
            self.epochs.note(offset, epoch);
        }
        Step::Take
    }

    /// Meets a record that does not simply follow the last one.
    #[cold]
    fn look_back(&mut self, offset: i64, epoch: Option<i32>) -> Step {
        let Some(next) = self.next else { return Step::Take };
        let back = match &mut self.comparison {
            None => Some(offset.min(next) - 1).filter(|before| self.epochs.before(before + 1).is_some()),
            Some(_) if offset >= next => None,
            Some(comparison) if self.epochs.has(offset, epoch) => {
                comparison.is_met = true;
                return Step::PassOver;
            }
            Some(Comparison { is_met: true, .. }) => None,
            // The record before it is not known to be the one that was read.
            Some(Comparison { from, .. }) => {
                let first = offset.min(*from);
                let beginning = self.epochs.beginning_before(first + 1).filter(|beginning| beginning < from);
                beginning.or_else(|| self.epochs.beginning_before(first))
            }
        };
        back.map_or(Step::Take, Step::GoBack)
    }

    /// Takes note that records are read from this offset on, to hold them against those that were read before.
    pub(super) fn compare_from(&mut self, offset: i64) {
        self.comparison = Some(Comparison { from: offset, is_met: false });
    }

    /// The offset after the last record that was read, while records are held against those that were read before.
    pub(super) fn next_while_compared(&self) -> Option<i64> {
        self.next.filter(|_| self.comparison.is_some())
    }

    /// Takes note that the partition is read on elsewhere: nothing is compared any more.
    pub(super) fn go_on(&mut self) {
        self.comparison = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a log whose records have these epochs on from a position, as the client library does: it asks the leader where the
    /// log leaves the epoch of the record before. Returns the offsets of the records that are taken.
    fn read(course: &mut Course, log: &[i32], position: i64) -> Vec<i64> {
        let validated = |course: &Course, position: i64| {
            let Some(epoch) = course.epochs.before(position) else { return position };
            let end = log.iter().take_while(|known| **known <= epoch).count();
            position.min(i64::try_from(end).unwrap())
        };
        let mut at = validated(course, position);
        let mut taken = Vec::new();
        let mut turns = 0;
        while let Some(epoch) = log.get(usize::try_from(at).unwrap()) {
            turns += 1;
            assert!(turns < 10_000, "it goes back for ever");
            match course.meet(at, Some(*epoch)) {
                Step::Take => taken.push(at),
                Step::PassOver => {}
                Step::GoBack(to) => {
                    course.compare_from(to);
                    at = validated(course, to);
                    continue;
                }
            }
            at += 1;
        }
        taken
    }

    /// The course of a partition that was read whole.
    fn read_whole(log: &[i32]) -> Course {
        let mut course = Course::default();
        assert_eq!(read(&mut course, log, 0).len(), log.len());
        course
    }

    fn offsets(from: usize, to: usize) -> Vec<i64> {
        (from..to).map(|offset| i64::try_from(offset).unwrap()).collect()
    }

    #[test]
    fn an_epoch_that_is_gone_was_followed_by_records_of_the_one_before() {
        let mut course = read_whole(&[1, 1, 1, 2, 2, 2]);
        // Epoch 1 goes on where epoch 2 had begun, and epoch 3 follows.
        assert_eq!(read(&mut course, &[1, 1, 1, 1, 1, 3, 3], 6), [3, 4, 5, 6]);
    }

    #[test]
    fn a_cut_within_an_epoch_brings_nothing_twice() {
        let mut course = read_whole(&[1, 1, 2, 2, 2, 2]);
        assert_eq!(read(&mut course, &[1, 1, 2, 2, 3, 3, 3], 6), [4, 5, 6]);
    }

    #[test]
    fn what_nothing_is_known_of_is_taken() {
        let mut course = Course::new(4, Epochs::default());
        assert_eq!(course.meet(2, Some(7)), Step::Take);
        let mut course = Course::new(4, Epochs::default());
        assert_eq!(course.meet(4, None), Step::Take);
        assert_eq!(course.meet(3, None), Step::Take);
    }

    #[test]
    fn a_partition_that_is_read_on_elsewhere_is_compared_anew() {
        let mut course = read_whole(&[1, 1, 2, 2]);
        assert_eq!(course.meet(3, Some(3)), Step::GoBack(2));
        course.compare_from(2);
        course.go_on();
        assert_eq!(course.meet(3, Some(3)), Step::GoBack(2));
    }

    #[test]
    fn another_leader_is_asked_for_the_last_record() {
        let mut course = read_whole(&[1, 1, 2, 2]);
        assert_eq!(course.meet(4, Some(3)), Step::GoBack(3));
        course.compare_from(3);
        assert_eq!(course.meet(3, Some(2)), Step::PassOver);
        assert_eq!((course.meet(4, Some(3)), course.meet(5, Some(3))), (Step::Take, Step::Take));
        // Where the last record is not there any more, nothing can be held against it.
        assert_eq!(course.meet(8, Some(4)), Step::GoBack(5));
        course.compare_from(5);
        assert_eq!(course.meet(8, Some(4)), Step::Take);
    }

    #[test]
    fn what_has_no_neighbour_is_looked_for_further_back_and_not_for_ever() {
        let mut course = read_whole(&[1, 1, 2, 2]);
        let mut steps = Vec::new();
        // Record 2 is a marker now, or was compacted.
        while let Step::GoBack(offset) = course.meet(3, Some(3)) {
            steps.push(offset);
            course.compare_from(offset);
        }
        assert_eq!(steps, [2, 0]);
    }

    #[test]
    fn an_earlier_epoch_may_reach_beyond_the_position() {
        let mut course = read_whole(&[0, 2, 2, 4, 4, 6, 8]);
        assert_eq!(read(&mut course, &[0, 2, 2, 4, 4, 4, 4, 4, 100], 7), [5, 6, 7, 8]);
    }

    proptest! {
        /// Two logs are the same up to some record. Then the new one has records of an epoch that the former one had left
        /// there, or none of these, and records of later epochs.
        #[test]
        fn every_record_that_is_new_is_taken_once(
            runs in prop::collection::vec(1usize..5, 1..6),
            kept in 0usize..25,
            stray in (0usize..4, 0i32..3),
            later in 1usize..8,
        ) {
            let former: Vec<i32> = (0i32..).zip(&runs).flat_map(|(run, len)| vec![2 * run; *len]).collect();
            let kept = kept.min(former.len());
            let mut log = former[..kept].to_vec();
            // An epoch before that of the record that was there: within an epoch there is one record at an offset.
            let least = log.last().copied().unwrap_or(0);
            if let Some(gone) = former.get(kept).filter(|gone| least + stray.1 < **gone) {
                prop_assert!(*gone > least + stray.1);
                log.extend(vec![least + stray.1; stray.0]);
            }
            log.extend(vec![100; later]);
            let mut course = read_whole(&former);
            let taken = read(&mut course, &log, i64::try_from(former.len()).unwrap());
            prop_assert_eq!(taken, offsets(kept, log.len()));
        }
    }
}
