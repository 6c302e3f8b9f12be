//! Which topic of its name each partition is read from. Pure: no client, no clock.
//!
//! A topic that is deleted and created anew has its name and another id. The client library goes on in the new topic where it
//! was in the former one, if the new one is as long; so a partition has to begin anew once the brokers tell another id of its
//! topic. A partition may have begun anew before that: the client library notices a new topic that is shorter than the former
//! one, and a partition that is assigned anew begins with its first record, as the brokers delete what a group has committed
//! of a topic together with the topic. Then its records need not come twice.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// The id of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TopicId(i64, i64);

impl TopicId {
    /// An id by its halves; `None` for zero, which stands for an id that is not known.
    pub(super) fn new((most, least): (i64, i64)) -> Option<Self> {
        ((most, least) != (0, 0)).then_some(Self(most, least))
    }
}

/// What the brokers have told of a topic last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: TopicId,
    /// When they were asked.
    pub(super) asked: Instant,
}

/// The topics that partitions were read from last, by partition id. A partition that goes and comes back is known still.
#[derive(Debug, Default)]
pub(super) struct Identities(BTreeMap<u16, Identity>);

#[derive(Debug, Default)]
struct Identity {
    id: Option<TopicId>,
    /// The id before: a broker that lags behind may still tell it.
    former: Option<TopicId>,
    /// What the group has committed last.
    committed: i64,
    /// When its first record came although records had come before.
    begun: Option<Instant>,
}

impl Identities {
    /// Takes note of what the brokers tell of a partition's topic; `true` where the partition is to begin anew, upon which
    /// [`Identities::adopt`] is to be called.
    pub(super) fn tell(&mut self, partition: u16, told: Told) -> bool {
        let identity = self.of(partition);
        match identity.id {
            None => {
                identity.id = Some(told.id);
                false
            }
            Some(known) if known == told.id => {
                // It has begun anew in the same topic: somebody has moved the group, or the log was cut.
                identity.begun = identity.begun.filter(|begun| *begun >= told.asked);
                false
            }
            Some(_) if identity.former == Some(told.id) => false,
            Some(_) if identity.begun.is_some() => {
                self.adopt(partition, told.id);
                false
            }
            Some(_) => true,
        }
    }

    /// Takes note that a partition is read from the first record of this topic on.
    pub(super) fn adopt(&mut self, partition: u16, id: TopicId) {
        let identity = self.of(partition);
        *identity = Identity { id: Some(id), former: identity.id, ..Identity::default() };
    }

    /// Takes note of what the group has committed.
    pub(super) fn note_committed(&mut self, partition: u16, offset: i64) {
        self.of(partition).committed = offset;
    }

    /// Takes note that record 0 comes. Where the group had committed it, it is that of another topic.
    pub(super) fn note_first_record(&mut self, partition: u16, now: Instant) {
        if self.of(partition).committed > 0 {
            self.note_begun(partition, now);
        }
    }

    /// Takes note that the offsets of a partition have gone back to 0.
    pub(super) fn note_begun(&mut self, partition: u16, now: Instant) {
        let identity = self.of(partition);
        (identity.committed, identity.begun) = (0, Some(now));
    }

    fn of(&mut self, partition: u16) -> &mut Identity {
        self.0.entry(partition).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const P: u16 = 3;

    /// What is told in the answer to the question of a second.
    fn told(id: i64, second: u64, began: Instant) -> Told {
        Told { id: TopicId::new((id, 0)).unwrap(), asked: began + Duration::from_secs(second) }
    }

    #[test]
    fn a_partition_begins_anew_when_another_topic_has_its_name() {
        let began = Instant::now();
        let mut identities = Identities::default();
        assert!(!identities.tell(P, told(1, 0, began)), "nothing was known before");
        assert!(!identities.tell(P, told(1, 5, began)));
        assert!(identities.tell(P, told(2, 10, began)));
        assert!(identities.tell(P, told(2, 15, began)), "it did not succeed the first time");
        identities.adopt(P, told(2, 15, began).id);
        assert!(!identities.tell(P, told(2, 20, began)));
        assert!(!identities.tell(P + 1, told(2, 20, began)), "each partition is known by itself");
    }

    #[test]
    fn a_broker_that_lags_behind_does_not_bring_the_former_topic_back() {
        let began = Instant::now();
        let mut identities = Identities::default();
        identities.tell(P, told(1, 0, began));
        identities.adopt(P, told(2, 5, began).id);
        assert!(!identities.tell(P, told(1, 10, began)));
        assert!(!identities.tell(P, told(2, 15, began)));
        assert!(identities.tell(P, told(3, 20, began)));
    }

    #[test]
    fn a_partition_that_has_begun_anew_by_itself_does_so_once() {
        let began = Instant::now();
        let mut identities = Identities::default();
        identities.tell(P, told(1, 0, began));
        identities.note_begun(P, began + Duration::from_secs(1));
        assert!(!identities.tell(P, told(2, 5, began)));
        assert!(!identities.tell(P, told(2, 10, began)));
        assert!(identities.tell(P, told(3, 15, began)), "that was for the topic before");
    }

    #[test]
    fn what_has_begun_in_the_topic_that_is_told_afterwards_says_nothing_of_the_next_one() {
        let began = Instant::now();
        let mut identities = Identities::default();
        identities.tell(P, told(1, 0, began));
        identities.note_begun(P, began + Duration::from_secs(1));
        identities.tell(P, told(1, 5, began));
        assert!(identities.tell(P, told(2, 10, began)));
    }

    #[test]
    fn the_first_record_says_that_a_partition_begins_anew_only_where_it_was_committed() {
        let began = Instant::now();
        let mut identities = Identities::default();
        identities.tell(P, told(1, 0, began));
        identities.note_first_record(P, began + Duration::from_secs(1));
        assert!(identities.tell(P, told(2, 5, began)), "it may be that of the former topic");
        identities.adopt(P, told(2, 5, began).id);
        identities.note_committed(P, 7);
        identities.note_first_record(P, began + Duration::from_secs(6));
        assert!(!identities.tell(P, told(3, 10, began)));
    }

    #[test]
    fn an_id_of_zero_is_none() {
        assert_eq!(TopicId::new((0, 0)), None);
        assert_ne!(TopicId::new((0, 1)), TopicId::new((1, 0)));
    }
}
