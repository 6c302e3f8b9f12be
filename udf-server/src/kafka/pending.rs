//! How much is left to read, asked in the background so that the platform's question is answered from memory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::group::{Group, NoAnswer, Offsets, PartitionOffsets};
use super::shared::Shared;

/// The last answer of the brokers.
#[derive(Debug, Default)]
pub(super) struct Pending {
    known: Mutex<Known>,
}

/// What the brokers have answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Where the partitions stand, as far as that was ever told. Partitions of topics that are missing are none of them.
    pub(super) offsets: Vec<PartitionOffsets>,
    /// The partitions and topics that had no answer the last time.
    pub(super) unanswered: Vec<Unanswered>,
    /// When there was an answer for some partition for the last time.
    pub(super) asked: Option<Instant>,
    total: Option<u32>,
}

/// A partition or topic without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) about: NoAnswer,
    pub(super) since: Instant,
}

impl Known {
    /// Takes an answer over. Of a partition that has none, the last one holds.
    fn take_over(&mut self, Offsets { known, unanswered }: Offsets, now: Instant) {
        let is_silent =
            |former: &PartitionOffsets| unanswered.iter().any(|about| about.is(&former.topic, Some(former.partition)));
        if !known.is_empty() || unanswered.iter().all(|about| about.partition.is_none()) {
            self.asked = Some(now);
        }
        self.offsets.retain(is_silent);
        self.offsets.extend(known);
        let former = std::mem::take(&mut self.unanswered);
        let since = |about: &NoAnswer| {
            former.iter().find(|it| it.about.is(&about.topic, about.partition)).map_or(now, |it| it.since)
        };
        self.unanswered = unanswered.into_iter().map(|about| Unanswered { since: since(&about), about }).collect();
    }

    /// The sum of what is left of each partition. `None` where that is nothing as far as it is known, and of some partition
    /// nothing is known: the platform would scale to zero over its records.
    fn sum(&self, lag: impl Fn(&PartitionOffsets) -> u64) -> Option<u64> {
        self.asked?;
        let sum = self.offsets.iter().map(lag).sum();
        (sum > 0 || self.knows_each_partition()).then_some(sum)
    }

    /// Whether each partition without an answer had one before.
    fn knows_each_partition(&self) -> bool {
        let known = by_partition(&self.offsets);
        let is_known = |NoAnswer { topic, partition, .. }: &NoAnswer| {
            partition.is_none_or(|partition| known.contains_key(&(&**topic, partition)))
        };
        self.unanswered.iter().all(|it| is_known(&it.about))
    }
}

/// The offsets by topic and partition, for those who look up many of them.
pub(super) fn by_partition(offsets: &[PartitionOffsets]) -> HashMap<(&str, i32), &PartitionOffsets> {
    offsets.iter().map(|offsets| ((&*offsets.topic, offsets.partition), offsets)).collect()
}

impl Pending {
    /// How many records the whole group has left; `None` before the first answer of the brokers. While they do not
    /// answer for a partition, their last answer for it holds: the platform would take "unknown" for a number.
    pub(super) fn count(&self, shared: &Shared) -> Option<u64> {
        let commit_points: HashMap<u16, i64> = {
            let assignment = shared.lock();
            let commit_point = |id| Some((id, assignment.tracker(id)?.commit_point()?));
            assignment.ids().filter_map(commit_point).collect()
        };
        self.known().sum(|offsets| {
            let id = shared.topics.partition_id(&offsets.topic, offsets.partition);
            offsets.lag(id.and_then(|id| commit_points.get(&id).copied()))
        })
    }

    /// What the brokers have answered; empty before they did.
    pub(super) fn last_answer(&self) -> Known {
        self.known().clone()
    }

    /// How many partitions all topics have together.
    pub(super) fn total(&self) -> Option<u32> {
        self.known().total
    }

    /// Asks the brokers. Now and then it asks for the topics and partitions too, which become more.
    pub(super) fn ask(&self, group: &mut Group, shared: &Shared) {
        if shared.stopped() {
            return;
        }
        let now = Instant::now();
        let has_unanswered = !self.known().unanswered.is_empty();
        group.refresh_in_turn(has_unanswered, now);
        shared.read(group.topics());
        let offsets = group.offsets();
        let mut known = self.known();
        match offsets {
            Ok(offsets) => {
                known.take_over(offsets, now);
                known.total = Some(group.total());
            }
            Err(error) => tracing::debug!(%error, "pending is not known anew; the last answer holds"),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::lookup::Unanswered as Reason;
    use super::*;

    fn offsets(topic: &str, partition: i32, committed: i64) -> PartitionOffsets {
        PartitionOffsets { topic: topic.to_owned(), partition, committed: Some(committed), start: 0, end: 10 }
    }

    fn without(topic: &str, partition: Option<i32>, reason: Reason) -> NoAnswer {
        NoAnswer { topic: topic.to_owned(), partition, reason }
    }

    fn sum(known: &Known) -> Option<u64> {
        known.sum(|offsets| offsets.lag(None))
    }

    #[test]
    fn a_partition_without_an_answer_keeps_its_last_one_and_the_others_go_on() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        let mut known = Known::default();
        assert_eq!(sum(&known), None);
        known.take_over(Offsets { known: vec![offsets("a", 0, 4), offsets("a", 1, 4)], unanswered: vec![] }, now);
        assert_eq!(sum(&known), Some(12));
        for (at, committed, left) in [(now, 5, 11), (later, 10, 6)] {
            let unanswered = vec![without("a", Some(1), Reason::NoLeader)];
            known.take_over(Offsets { known: vec![offsets("a", 0, committed)], unanswered }, at);
            assert_eq!(sum(&known), Some(left));
            assert_eq!((known.unanswered[0].since, known.asked), (now, Some(at)));
        }
    }

    #[test]
    fn a_topic_that_is_gone_has_nothing_left() {
        let now = Instant::now();
        let mut known = Known::default();
        known.take_over(Offsets { known: vec![offsets("a", 0, 4), offsets("b", 0, 9)], unanswered: vec![] }, now);
        let unanswered = vec![without("a", None, Reason::NoTopic)];
        known.take_over(Offsets { known: vec![offsets("b", 0, 10)], unanswered }, now);
        assert_eq!(sum(&known), Some(0));
    }

    #[test]
    fn nothing_is_said_to_be_left_only_where_every_partition_is_known() {
        let mut known = Known::default();
        let unanswered = vec![without("a", Some(1), Reason::NoLeader)];
        known.take_over(Offsets { known: vec![offsets("a", 0, 10)], unanswered: unanswered.clone() }, Instant::now());
        assert_eq!(sum(&known), None);
        known.take_over(Offsets { known: vec![offsets("a", 0, 9)], unanswered }, Instant::now());
        assert_eq!(sum(&known), Some(1));
    }
}
