//! The partitions that this process reads, and their records. Pure: no client, no clock.

use tokio::time::Instant;

use super::tracker::{Limits, Tracker};

/// The assigned partitions.
#[derive(Debug)]
pub(super) struct Assignment<T> {
    /// By partition id, in ascending order.
    partitions: Vec<(u16, Tracker<T>)>,
    /// The place in `partitions` that the next take begins with.
    turn: usize,
    /// Counts the read streams: one that another has replaced gets nothing more.
    reader: Reader,
    draining: bool,
}

/// A read stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader(u64);

/// A newer read stream has taken the place of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replaced;

impl<T: Clone> Assignment<T> {
    pub(super) fn new() -> Self {
        Self { partitions: Vec::new(), turn: 0, reader: Reader(0), draining: false }
    }

    /// Starts to track a partition. What an earlier assignment of it knew is forgotten.
    pub(super) fn assign(&mut self, id: u16) {
        let tracker = Tracker::new(Limits::of_each(1));
        match self.find(id) {
            Ok(place) => self.partitions[place].1 = tracker,
            Err(place) => self.partitions.insert(place, (id, tracker)),
        }
        self.share_limits();
    }

    /// Ends the tracking of a partition: acks for its records have no effect from here on.
    pub(super) fn revoke(&mut self, id: u16) {
        if let Ok(place) = self.find(id) {
            self.partitions.remove(place);
            self.share_limits();
        }
    }

    /// The records of a partition; `None` unless it is assigned.
    pub(super) fn tracker(&self, id: u16) -> Option<&Tracker<T>> {
        self.find(id).ok().map(|place| &self.partitions[place].1)
    }

    /// As [`Assignment::tracker`], to change them.
    pub(super) fn tracker_mut(&mut self, id: u16) -> Option<&mut Tracker<T>> {
        self.find(id).ok().map(|place| &mut self.partitions[place].1)
    }

    /// The assigned partitions, in ascending order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u16> {
        self.partitions.iter().map(|(id, _)| *id)
    }

    /// A new read stream is there: what the last one got and did not answer is to be handed out again.
    pub(super) fn connect_reader(&mut self) {
        self.reader.0 += 1;
        for (_, tracker) in &mut self.partitions {
            tracker.requeue_sent();
        }
    }

    /// The read stream of now, which a read keeps and shows to [`Assignment::take`].
    pub(super) fn reader(&self) -> Reader {
        self.reader
    }

    /// Hands out nothing from here on; acks and nacks are still taken.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether [`Assignment::drain`] was called.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Hands out up to `max` records, in fair shares of the partitions that have some.
    pub(super) fn take(&mut self, reader: Reader, max: usize, now: Instant, out: &mut Vec<T>) -> Result<(), Replaced> {
        if reader != self.reader {
            return Err(Replaced);
        }
        let mut left = if self.draining { 0 } else { max };
        while left > 0 {
            let ready = self.partitions.iter().filter(|(_, tracker)| tracker.has_ready(now)).count();
            if ready == 0 {
                break;
            }
            let share = left.div_ceil(ready);
            let first = self.turn % self.partitions.len();
            let (later, sooner) = self.partitions.split_at_mut(first);
            for (_, tracker) in sooner.iter_mut().chain(later) {
                left -= tracker.take(share.min(left), now, out);
                self.turn += 1;
                if left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// When the next delayed record is ready.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.partitions.iter().filter_map(|(_, tracker)| tracker.next_due()).min()
    }

    /// How many records are handed out and neither acked nor nacked.
    pub(super) fn in_flight(&self) -> usize {
        self.partitions.iter().map(|(_, tracker)| tracker.in_flight()).sum()
    }

    /// Gives each partition its share of what all may hold.
    fn share_limits(&mut self) {
        let limits = Limits::of_each(self.partitions.len());
        for (_, tracker) in &mut self.partitions {
            tracker.set_limits(limits);
        }
    }

    fn find(&self, id: u16) -> Result<usize, usize> {
        self.partitions.binary_search_by_key(&id, |(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions 0 to `counts.len()`, with so many records each; a record is its partition and offset.
    fn filled(counts: &[i64]) -> Assignment<(u16, i64)> {
        let mut assignment = Assignment::new();
        for (id, count) in (0..).zip(counts) {
            assignment.assign(id);
            for offset in 0..*count {
                assignment.tracker_mut(id).unwrap().push(offset, 1, (id, offset));
            }
        }
        assignment
    }

    fn take(assignment: &mut Assignment<(u16, i64)>, max: usize) -> Vec<(u16, i64)> {
        let mut out = Vec::new();
        assignment.take(assignment.reader(), max, Instant::now(), &mut out).unwrap();
        out
    }

    #[test]
    fn shares_are_fair_and_what_one_leaves_others_take() {
        let mut assignment = filled(&[100, 1, 100]);
        let out = take(&mut assignment, 30);
        let of = |id| out.iter().filter(|(partition, _)| *partition == id).count();
        assert_eq!((of(0) + of(1) + of(2), of(1)), (30, 1));
        assert!(of(0) >= 10 && of(2) >= 10, "{out:?}");
    }

    #[test]
    fn small_reads_take_turns() {
        let mut assignment = filled(&[5, 5, 5]);
        let out: Vec<u16> = (0..6).flat_map(|_| take(&mut assignment, 1)).map(|(id, _)| id).collect();
        assert_eq!(out, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_replaced_reader_gets_nothing_and_the_new_one_everything_unanswered() {
        let mut assignment = filled(&[3]);
        let old = assignment.reader();
        assert_eq!(take(&mut assignment, 2), [(0, 0), (0, 1)]);
        assert!(assignment.tracker_mut(0).unwrap().ack(0));
        assignment.connect_reader();
        assert_eq!(assignment.take(old, 5, Instant::now(), &mut Vec::new()), Err(Replaced));
        assert_eq!(take(&mut assignment, 5), [(0, 1), (0, 2)]);
    }

    #[test]
    fn draining_hands_out_nothing_and_takes_acks() {
        let mut assignment = filled(&[3]);
        assert_eq!(take(&mut assignment, 1).len(), 1);
        assignment.drain();
        assert!(take(&mut assignment, 5).is_empty());
        assert!(assignment.tracker_mut(0).unwrap().ack(0));
        assert_eq!(assignment.in_flight(), 0);
    }

    #[test]
    fn many_partitions_share_the_bytes() {
        const MIB: usize = 1 << 20;
        let mut assignment = filled(&[0; 32]);
        let room = |assignment: &Assignment<_>| assignment.tracker(0).unwrap().room() > 0;
        assignment.tracker_mut(0).unwrap().push(0, 8 * MIB, (0, 0));
        assert!(!room(&assignment), "a 32nd of 256 MiB is used up");
        for id in 16..32 {
            assignment.revoke(id);
        }
        assert!(room(&assignment), "a 16th is not");
    }

    #[test]
    fn a_revoked_partition_is_unknown_and_an_assigned_one_new() {
        let mut assignment = filled(&[2, 2]);
        assignment.revoke(0);
        assert!(assignment.tracker(0).is_none());
        assignment.assign(1);
        assert_eq!(assignment.tracker(1).unwrap().commit_point(), None);
        assert_eq!(assignment.ids().collect::<Vec<_>>(), [1]);
    }
}
