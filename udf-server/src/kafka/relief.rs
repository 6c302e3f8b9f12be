//! Keeping what the client library holds within its half of the budget.
//!
//! The library has a limit for each partition's queue and none for all of them together. So no more partitions begin to be
//! read at once than there is room for. And every partition may wait for acks with its queue full. Then the fullest queues
//! are dropped and their partitions paused, until there is room for their records again; the library fetches these records a
//! second time. Partitions that have room are never paused: their queues are emptied in the next turn. Partitions that stand
//! still at a record are always paused.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::time::Instant;

use super::allowance::allowance;
use super::thread::Worker;
use super::validation::seek;

/// How often it is looked. A broker nearby sends some megabytes in that time.
const PERIOD: Duration = Duration::from_millis(20);
/// What the library takes for a record beside its bytes.
const OF_RECORD: usize = 400;
/// What a partition may bring before anybody looks: a batch of the size that brokers allow by default, and its records.
const OF_PARTITION: usize = 3 << 19;

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Relief {
    looked: Option<Instant>,
    /// The lane that is the first to be read again, so that each has its turn.
    turn: usize,
}

/// A partition whose records find no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Full {
    /// Its place among the lanes.
    place: usize,
    /// What the library holds of it, about.
    held: usize,
    /// Nothing more of it is wanted: it is halted.
    is_over: bool,
}

impl Worker {
    /// Pauses partitions whose records find no room while the library holds too much, and goes on with those that have
    /// room again.
    pub(super) fn relieve(&mut self, now: Instant) {
        if self.relief.looked.is_some_and(|looked| now.duration_since(looked) < PERIOD) {
            return;
        }
        self.relief.looked = Some(now);
        let postponed: usize = self.lanes.iter_mut().map(|lane| std::mem::take(&mut lane.postponed)).sum();
        self.shared.counters.postponed.add(postponed);
        let (left, limit) = {
            let allowance = allowance();
            (allowance.left(), allowance.limit())
        };
        // Of decompressed batches more than half of what may be held: others wait for it.
        let is_scarce = left < limit / 2;
        let most = self.queued_at_most();
        let (mut full, mut resumed) = (Vec::new(), Vec::new());
        let mut held = 0;
        {
            let assignment = self.shared.lock();
            if assignment.is_draining() {
                return;
            }
            let is_open = assignment.room() > 0;
            for (place, lane) in self.lanes.iter().enumerate() {
                let Some(tracker) = assignment.tracker(lane.id) else { continue };
                let is_over = tracker.halted().is_some();
                if !lane.has_begun() {
                    continue;
                }
                if lane.paused {
                    if is_open && tracker.has_room_again() && !is_over && !lane.backoff.holds(now) {
                        resumed.push((place, tracker.position()));
                    }
                    continue;
                }
                let mut queued = lane.queued() * (lane.mean + OF_RECORD);
                if lane.is_untouched {
                    // How large its records are is not known yet.
                    queued = queued.min(OF_PARTITION);
                }
                held += queued;
                // Without a position nobody could say where to go on, once something was taken.
                let is_known = lane.is_untouched
                    || tracker.position().is_some() && lane.passing.is_none() && lane.broken.is_none();
                if is_over || is_known && (tracker.room() == 0 || !is_open) {
                    full.push(Full { place, held: queued, is_over });
                }
            }
        }
        // Some of them get on each time, so that a few that stand still keep nobody else from it for good.
        let count = (most.saturating_sub(held) / OF_PARTITION).max(1);
        resumed.sort_unstable_by_key(|(place, _)| (*place < self.relief.turn, *place));
        for (place, position) in resumed.into_iter().take(count) {
            self.relief.turn = place + 1;
            self.resume(place, position);
        }
        for place in to_pause(full, if is_scarce { 0 } else { most }) {
            self.pause(place);
        }
    }

    /// Pauses partitions that have just come, from this lane on, where they are more than there is room for. The library has
    /// not begun with them, so that they begin where they are to once there is room.
    pub(super) fn hold_back(&mut self, first: usize) {
        let most = (self.queued_at_most() / OF_PARTITION).max(1);
        for place in first.max(most)..self.lanes.len() {
            self.pause(place);
        }
    }

    /// What the library's queues may hold: half of what the library may. Answers that are on their way come on top, and answers of
    /// which one record is left, since that keeps all of it in memory.
    fn queued_at_most(&self) -> usize {
        self.shared.budget.of_all() / 2
    }

    /// Waits with a partition whose records come in answers that cannot be read.
    pub(super) fn back_off(&mut self, place: usize, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(place) {
            lane.backoff.begin(now);
            self.pause(place);
        }
    }

    fn pause(&mut self, place: usize) {
        let Some(lane) = self.lanes.get_mut(place).filter(|lane| !lane.paused) else { return };
        match self.consumer.pause(&list(&lane.topic, lane.partition)) {
            Ok(()) => {
                lane.paused = true;
                lane.purge_outdated();
                self.shared.counters.paused.add(1);
                tracing::debug!(lane.topic, lane.partition, "paused");
            }
            Err(error) => tracing::debug!(%error, lane.topic, lane.partition, "it cannot be paused yet"),
        }
    }

    /// Goes on at the first record that the tracker does not have. What the library itself takes for the next one counts
    /// errors as read.
    fn resume(&mut self, place: usize, position: Option<i64>) {
        let Some(lane) = self.lanes.get_mut(place) else { return };
        let (topic, partition) = (&*lane.topic, lane.partition);
        // Without a position nothing of it has come yet: it begins where it was to begin.
        let sought = position.map_or(Ok(()), |position| seek(&self.consumer, lane, position, Duration::ZERO));
        match sought.and_then(|()| self.consumer.resume(&list(topic, partition))) {
            Ok(()) => {
                tracing::debug!(topic, partition, ?position, "read on");
                lane.paused = false;
                lane.goes_on();
            }
            Err(error) => tracing::debug!(%error, topic, partition, "it cannot be read on yet"),
        }
    }
}

/// Which partitions to pause, so that the library holds no more than half of `most` of those that find no room.
fn to_pause(mut full: Vec<Full>, most: usize) -> Vec<usize> {
    let mut held: usize = full.iter().filter(|lane| !lane.is_over).map(|lane| lane.held).sum();
    let is_too_much = held > most;
    full.sort_unstable_by_key(|lane| std::cmp::Reverse(lane.held));
    let mut paused = Vec::new();
    for lane in full {
        if lane.is_over {
            paused.push(lane.place);
        } else if is_too_much && held > most / 2 && lane.held > 0 {
            held -= lane.held;
            paused.push(lane.place);
        }
    }
    paused
}

fn list(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(held: &[usize]) -> Vec<Full> {
        held.iter().enumerate().map(|(place, held)| Full { place, held: *held, is_over: false }).collect()
    }

    #[test]
    fn the_fullest_are_paused_until_half_is_left() {
        assert_eq!(to_pause(full(&[30, 40, 30]), 100), Vec::<usize>::new());
        assert_eq!(to_pause(full(&[30, 41, 30]), 100), [1, 0]);
        assert_eq!(to_pause(full(&[60, 0, 41]), 100), [0]);
        assert_eq!(to_pause(full(&[1, 0, 2]), 0), [2, 0], "what holds nothing stays");
    }

    #[test]
    fn what_is_halted_is_paused_in_any_case() {
        let mut lanes = full(&[0, 50]);
        lanes[0].is_over = true;
        assert_eq!(to_pause(lanes, 100), [0]);
    }
}
