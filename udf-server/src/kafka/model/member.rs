//! One pod: the source with its client library, and the platform that it serves.
//!
//! What the source does here is what `thread`, `rebalance` and `source` do with the same types, less the client library,
//! the log and the counters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::super::assignment::Assignment;
use super::super::budget::Budget;
use super::super::tracker::{Nacked, Tracker};
use super::group::{Identity, Request};

/// A mistake that the source could make. Each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It commits behind the last record that was acked.
    CommitMaximum,
    /// It commits the offset of an ack by itself where the partition is not assigned any more.
    AckAfterRevoke,
    /// It takes a nacked record for done.
    NackIsDone,
    /// It stores the offsets of partitions that it has lost.
    StoreOnLost,
}

/// A record, known by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) partition: u16,
    pub(super) offset: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Member {
    /// Who the client believes to be.
    pub(super) identity: Identity,
    pub(super) assignment: Assignment<Place>,
    /// What the client library holds of each partition that it has.
    pub(super) client: BTreeMap<u16, Held>,
    /// The partitions that wait for acks before they are given back.
    pub(super) revoking: Option<Vec<u16>>,
    /// On their way to the dead-letter topic.
    pub(super) letters: BTreeSet<Place>,
    /// What the platform has and has not answered. It outlives the source, and drops what comes a second time.
    pub(super) platform: BTreeSet<Place>,
    /// With [`Fault::CommitMaximum`]: the offset after the last that was acked.
    maximum: BTreeMap<u16, i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Held {
    /// The offset that is read next.
    pub(super) next: i64,
    /// What is committed next.
    pub(super) stored: Option<i64>,
}

/// An answer of the platform to one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Ack,
    /// An ack that will come once more.
    FirstAck,
    /// It is to be delivered again, not before `delay` has passed.
    Nack {
        delay: Duration,
    },
    /// It has been delivered as often as it may be.
    LastNack,
}

impl Member {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            assignment: Assignment::new(Budget::new(1 << 20)),
            client: BTreeMap::new(),
            revoking: None,
            letters: BTreeSet::new(),
            platform: BTreeSet::new(),
            maximum: BTreeMap::new(),
        }
    }

    /// The process ends and another takes its place; the platform's container lives on.
    pub(super) fn crash(&mut self) {
        let Identity { member, life } = self.identity;
        let platform = std::mem::take(&mut self.platform);
        *self = Self { platform, ..Self::new(Identity { member, life: life + 1 }) };
    }

    pub(super) fn assign(&mut self, partition: u16, committed: i64) {
        self.assignment.assign(partition, None);
        self.client.insert(partition, Held { next: committed, stored: None });
    }

    /// Puts the next record where reads find it.
    pub(super) fn fetch(&mut self, place: Place) {
        let Some(tracker) = self.assignment.tracker_mut(place.partition) else { return };
        tracker.push(place.offset, 1, place);
        if let Some(held) = self.client.get_mut(&place.partition) {
            held.next = place.offset + 1;
        }
    }

    /// Hands one record to the platform.
    pub(super) fn read(&mut self, now: Instant) {
        let mut out = Vec::new();
        let reader = self.assignment.reader();
        self.assignment.take(reader, 1, now, &mut out).unwrap();
        self.platform.extend(out.into_iter().map(|delivery| delivery.record));
    }

    /// Takes the platform's answer; `true` if it had an effect.
    pub(super) fn answer(&mut self, place: Place, answer: Answer, now: Instant, fault: Option<Fault>) -> bool {
        let Some(tracker) = self.assignment.tracker_mut(place.partition) else { return false };
        let (delay, max) = match answer {
            Answer::Ack | Answer::FirstAck => {
                let acked = tracker.ack(place.offset);
                if acked && fault == Some(Fault::CommitMaximum) {
                    let maximum = self.maximum.entry(place.partition).or_default();
                    *maximum = (*maximum).max(place.offset + 1);
                }
                return acked;
            }
            Answer::Nack { .. } | Answer::LastNack if fault == Some(Fault::NackIsDone) => {
                return tracker.ack(place.offset);
            }
            Answer::Nack { delay } => (delay, None),
            Answer::LastNack => (Duration::ZERO, Some(1)),
        };
        match tracker.nack(place.offset, now + delay, max) {
            Nacked::Unknown => return false,
            Nacked::Again => {}
            Nacked::Spent { record, .. } => _ = self.letters.insert(record),
        }
        true
    }

    /// The dead-letter topic has the record; `true` if that had an effect.
    pub(super) fn settle(&mut self, place: Place) -> bool {
        self.letters.remove(&place);
        self.assignment.tracker_mut(place.partition).is_some_and(|tracker| tracker.settle(place.offset))
    }

    /// Passes over the markers of transactions, and stores what may be committed.
    pub(super) fn store(&mut self) {
        for (partition, held) in &mut self.client {
            let Some(tracker) = self.assignment.tracker_mut(*partition) else { continue };
            if tracker.is_idle() {
                held.next += held.next % 2;
                tracker.skip_to(held.next);
            }
        }
        let partitions: Vec<u16> = self.assignment.ids().collect();
        for partition in partitions {
            let point = self.assignment.tracker(partition).and_then(Tracker::commit_point);
            let maximum = self.maximum.get(&partition).copied();
            self.store_one(partition, maximum.or(point));
        }
    }

    fn store_one(&mut self, partition: u16, point: Option<i64>) {
        // The client library refuses partitions that it does not have.
        if let (Some(held), Some(point)) = (self.client.get_mut(&partition), point) {
            held.stored = Some(point);
        }
    }

    /// What the client library commits of itself.
    pub(super) fn stored(&self) -> Vec<(u16, i64)> {
        self.client.iter().filter_map(|(partition, held)| Some((*partition, held.stored?))).collect()
    }

    pub(super) fn begin_revoke(&mut self, partitions: Vec<u16>, deadline: Instant) {
        self.assignment.begin_revoke(partitions.clone(), deadline);
        self.revoking = Some(partitions);
    }

    /// Gives back what the group wants back, if it is time; what the client library then sends.
    pub(super) fn finish_revoke(&mut self, now: Instant) -> Option<Request> {
        for (partition, point) in self.assignment.finish_revoke(now)? {
            let maximum = self.maximum.remove(&partition);
            self.store_one(partition, maximum.or(point));
        }
        let gives_back = self.revoking.take()?;
        Some(Request { offsets: self.unassign(&gives_back), gives_back })
    }

    /// Lets everything go, which is another member's already; what the client library then sends.
    pub(super) fn lose(&mut self, fault: Option<Fault>) -> Request {
        let lost: Vec<u16> = self.client.keys().copied().collect();
        // What was stored before is dropped with the membership. What is stored from here on is not: the library does not
        // know better than we do.
        for held in self.client.values_mut() {
            held.stored = None;
        }
        if fault == Some(Fault::StoreOnLost) {
            self.store();
        }
        self.assignment.lose(&lost);
        self.maximum.clear();
        Request { offsets: self.unassign(&lost), gives_back: Vec::new() }
    }

    /// The client library gives partitions up, and commits what is stored of them.
    fn unassign(&mut self, partitions: &[u16]) -> Vec<(u16, i64)> {
        let offset = |partition: &u16| Some((*partition, self.client.remove(partition)?.stored?));
        partitions.iter().filter_map(offset).collect()
    }
}
