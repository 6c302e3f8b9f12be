//! The partitions that this process reads, their records, and how they are given back. Pure: no client, no clock.

use std::time::Duration;

use tokio::time::Instant;

use super::budget::Budget;
use super::tracker::{Delivery, Tracker};

/// The assigned partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Assignment<T> {
    /// By partition id, in ascending order.
    partitions: Vec<(u16, Tracker<T>)>,
    /// What all partitions may hold together.
    budget: Budget,
    /// The place in `partitions` that the next take begins with.
    turn: usize,
    /// Counts the read streams: one that another has replaced gets nothing more.
    reader: Reader,
    draining: bool,
    /// The partitions that are being given back, in the order in which they are to be.
    leaving: Option<Leaving>,
}

/// Partitions that the group wants back: they go when nothing of them is with the platform any more, or at the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Leaving {
    ids: Vec<u16>,
    deadline: Instant,
    /// That in which the group wanted them back.
    generation: i32,
}

/// How partitions go that the group wanted back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parting {
    /// They are still ours: how far the group may commit each.
    InOrder(Vec<(u16, Option<i64>)>),
    /// They may have new owners, whose offsets are not ours to move: nothing of them may be committed.
    Lost,
}

/// A read stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Reader(u64);

/// A newer read stream has taken the place of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replaced;

impl<T: Clone> Assignment<T> {
    pub(super) fn new(budget: Budget) -> Self {
        Self { partitions: Vec::new(), budget, turn: 0, reader: Reader(0), draining: false, leaving: None }
    }

    /// Starts to track a partition of which the group has everything before `start`, as far as that is known. What an
    /// earlier assignment of it knew is forgotten.
    pub(super) fn assign(&mut self, id: u16, start: Option<i64>) {
        let tracker = Tracker::new(self.budget.of_each(1), start);
        match self.find(id) {
            Ok(place) => self.partitions[place].1 = tracker,
            Err(place) => self.partitions.insert(place, (id, tracker)),
        }
        self.share_budget();
    }

    /// Begins to give partitions back: they hand out nothing more, and acks for what is out are taken until
    /// [`Assignment::finish_revoke`]. `generation` is that of the group now.
    pub(super) fn begin_revoke(&mut self, ids: Vec<u16>, deadline: Instant, generation: i32) {
        for id in &ids {
            if let Some(tracker) = self.tracker_mut(*id) {
                tracker.close();
            }
        }
        self.leaving = Some(Leaving { ids, deadline, generation });
    }

    /// Gives up the partitions that are being given back, once nothing of them is out or their time is over, and says how
    /// they go; from here on acks for them have no effect. `None` while they are to be kept.
    ///
    /// `generation` is that of the group now. The client library may join the group again while it waits for our answer (it
    /// does when a topic grows), and does so without these partitions. Nor do they go while a commit is on its way
    /// (`committing`): where its connection breaks it may arrive after the last one.
    pub(super) fn finish_revoke(&mut self, now: Instant, generation: i32, committing: bool) -> Option<Parting> {
        let leaving = self.leaving.as_ref()?;
        let is_ours = generation == leaving.generation;
        let settled = leaving.ids.iter().filter_map(|id| self.tracker(*id)).all(Tracker::is_settled);
        if is_ours && (committing || !settled && now < leaving.deadline) {
            return None;
        }
        let Leaving { ids, .. } = self.leaving.take()?;
        let points = ids.iter().map(|id| (*id, self.tracker(*id).and_then(Tracker::commit_point))).collect();
        self.lose(&ids);
        Some(if is_ours { Parting::InOrder(points) } else { Parting::Lost })
    }

    /// How far the group may commit a partition now. `None` also while it is being given back: it may have a new owner by
    /// the time that a commit arrives.
    pub(super) fn commit_point(&self, id: u16) -> Option<i64> {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.ids.contains(&id)) {
            return None;
        }
        self.tracker(id)?.commit_point()
    }

    /// Ends the tracking of partitions that are another member's already: nothing of them may be committed here.
    pub(super) fn lose(&mut self, ids: &[u16]) {
        self.partitions.retain(|(id, _)| !ids.contains(id));
        if self.leaving.as_ref().is_some_and(|leaving| leaving.ids.iter().any(|id| ids.contains(id))) {
            self.leaving = None;
        }
        self.share_budget();
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
    pub(super) fn take(
        &mut self,
        reader: Reader,
        max: usize,
        now: Instant,
        out: &mut Vec<Delivery<T>>,
    ) -> Result<(), Replaced> {
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
            let count = self.partitions.len();
            let first = self.turn % count;
            let (later, sooner) = self.partitions.split_at_mut(first);
            for (_, tracker) in sooner.iter_mut().chain(later) {
                left -= tracker.take(share.min(left), now, out);
                self.turn = (self.turn + 1) % count;
                if left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// How many more bytes all partitions together may hold.
    pub(super) fn room(&self) -> usize {
        let held: usize = self.partitions.iter().map(|(_, tracker)| tracker.bytes()).sum();
        self.budget.of_all().saturating_sub(held)
    }

    /// When the next delayed record is ready.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.partitions.iter().filter_map(|(_, tracker)| tracker.next_due()).min()
    }

    /// Makes what has been with the platform for `timeout` ready again, and says how many records of which partition.
    pub(super) fn expire(&mut self, now: Instant, timeout: Duration) -> Vec<(u16, usize)> {
        let expired = self.partitions.iter_mut().map(|(id, tracker)| (*id, tracker.expire(now, timeout)));
        expired.filter(|(_, count)| *count > 0).collect()
    }

    /// The partitions of which every record that came is done.
    pub(super) fn idle(&self) -> Vec<u16> {
        self.partitions.iter().filter(|(_, tracker)| tracker.is_idle()).map(|(id, _)| *id).collect()
    }

    /// How many records are handed out and neither acked nor nacked.
    pub(super) fn in_flight(&self) -> usize {
        self.partitions.iter().map(|(_, tracker)| tracker.in_flight()).sum()
    }

    /// Gives each partition its share of what all may hold.
    fn share_budget(&mut self) {
        let limits = self.budget.of_each(self.partitions.len());
        for (_, tracker) in &mut self.partitions {
            tracker.set_limits(limits);
        }
    }

    fn find(&self, id: u16) -> Result<usize, usize> {
        self.partitions.binary_search_by_key(&id, |(id, _)| *id)
    }
}

#[cfg(test)]
mod tests;
