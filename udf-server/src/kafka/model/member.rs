//! One pod: the source with its client library, and the platform that it serves.
//!
//! What the source does here is what `thread`, `rebalance` and `source` do with the same types, less the client library,
//! the log and the counters. What is decided, is decided by these types: what may be stored and how partitions go by
//! [`Assignment`], when to commit by [`Commits`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::super::assignment::{Assignment, Parting};
use super::super::budget::Budget;
use super::super::commits::Commits;
use super::super::tracker::{Acked, Nacked};
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
    /// It takes note of a nack nowhere.
    NackIsForgotten,
    /// It stores the offsets of partitions that it has lost.
    StoreOnLost,
    /// It does not look whether the group has gone on while partitions waited to be given back.
    GenerationUnseen,
    /// It leaves stored what was stored of partitions that wait to be given back.
    LeavesStored,
    /// It commits while another commit is on its way.
    CommitMeanwhile,
    /// It takes the answer to what the client commits of itself for the answer to its own commit.
    TakesAnyAnswer,
    /// It leaves the group while a commit is on its way.
    LeavesMeanwhile,
    /// It takes a commit for answered when its partitions are lost.
    LosesCommit,
    /// It forgets all records of a partition whose log was cut, those before the cut too.
    CutResetsAll,
    /// It begins with a partition where the brokers said to in an earlier assignment of it.
    BeginsAsBefore,
    /// It takes an answer for a record that the log was cut before for one for the new record of that offset.
    TakesFormerAnswer,
}

/// A record, known by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) partition: u16,
    pub(super) offset: i64,
    /// It came to the log after the cut. The platform does not know of that.
    pub(super) is_new: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Member {
    /// Who the client believes to be.
    pub(super) identity: Identity,
    /// The generation in which the client believes the group to be.
    pub(super) generation: i32,
    pub(super) assignment: Assignment<Place>,
    /// What the client library holds of each partition that it has.
    pub(super) client: BTreeMap<u16, Held>,
    /// A partition that waits, and where the brokers have said to begin with it.
    pub(super) start: Option<(u16, i64)>,
    /// The partitions that wait for acks before they are given back.
    pub(super) revoking: Option<Vec<u16>>,
    commits: Commits,
    /// Who has sent the commit that is on its way, and of which partitions.
    pub(super) sender: Identity,
    committing: Vec<u16>,
    /// On their way to the dead-letter topic.
    pub(super) letters: BTreeMap<Place, u32>,
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
    /// The partition is paused until it is known where to begin with it.
    pub(super) waits: bool,
    /// A record has come from after the log's cut, or the partition was assigned after it.
    knows_cut: bool,
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
    pub(super) fn new(identity: Identity, now: Instant) -> Self {
        Self {
            identity,
            generation: 0,
            assignment: Assignment::new(Budget::new(1 << 20)),
            client: BTreeMap::new(),
            start: None,
            revoking: None,
            // Without an interval it commits at any time that it may.
            commits: Commits::new(Duration::ZERO, now),
            sender: identity,
            committing: Vec::new(),
            letters: BTreeMap::new(),
            platform: BTreeSet::new(),
            maximum: BTreeMap::new(),
        }
    }

    /// The process ends and another takes its place; the platform's container lives on.
    pub(super) fn crash(&mut self, now: Instant) {
        let Identity { member, life } = self.identity;
        let platform = std::mem::take(&mut self.platform);
        *self = Self { platform, ..Self::new(Identity { member, life: life + 1 }, now) };
    }

    /// Begins to read a partition behind what is committed, of a log that was cut before or not.
    pub(super) fn assign(&mut self, partition: u16, committed: i64, is_cut: bool) {
        self.assignment.assign(partition, None);
        self.client.insert(partition, Held { next: committed, stored: None, waits: false, knows_cut: is_cut });
    }

    /// Takes a partition of which it is not known where to begin.
    pub(super) fn assign_waiting(&mut self, partition: u16) {
        self.assignment.assign(partition, None);
        self.client.insert(partition, Held { next: 0, stored: None, waits: true, knows_cut: false });
    }

    /// Begins to read a partition that has waited, if it still waits.
    pub(super) fn begin(&mut self) -> Option<()> {
        let (partition, start) = self.start.take()?;
        if let Some(held) = self.client.get_mut(&partition).filter(|held| held.waits) {
            (held.next, held.waits) = (start, false);
            self.assignment.assign(partition, Some(start));
        }
        Some(())
    }

    /// Whether a partition can be taken now. One of which a commit is on its way waits: it is begun behind what that commits.
    pub(super) fn may_take(&self, partition: u16, now: Instant) -> bool {
        !self.commits.are_open(now) || !self.committing.contains(&partition)
    }

    /// Puts the next record where reads find it.
    pub(super) fn fetch(&mut self, place: Place, fault: Option<Fault>) {
        let Place { partition, offset, is_new } = place;
        let Some(tracker) = self.assignment.tracker(partition) else { return };
        let is_cut = tracker.position().is_some_and(|position| offset < position);
        if is_cut && fault == Some(Fault::CutResetsAll) {
            self.assignment.assign(partition, None);
        }
        let Some(tracker) = self.assignment.tracker_mut(partition) else { return };
        tracker.push(offset, 1, place);
        if is_cut && fault == Some(Fault::TakesFormerAnswer) {
            tracker.requeue_sent();
        }
        if let Some(held) = self.client.get_mut(&partition) {
            held.next = offset + 1;
            held.knows_cut |= is_new;
        }
    }

    /// The client library finds out that the log of a partition was cut.
    pub(super) fn go_back(&mut self, partition: u16, at: i64) {
        if let Some(held) = self.client.get_mut(&partition) {
            held.next = held.next.min(at);
        }
    }

    /// Hands one record to the platform, which drops it if it has one of that offset.
    pub(super) fn read(&mut self, now: Instant) {
        let mut out = Vec::new();
        let reader = self.assignment.reader();
        self.assignment.take(reader, 1, now, &mut out).unwrap();
        for Place { partition, offset, is_new } in out.into_iter().map(|delivery| delivery.record) {
            if !self.platform.contains(&Place { partition, offset, is_new: !is_new }) {
                self.platform.insert(Place { partition, offset, is_new });
            }
        }
    }

    /// Takes the platform's answer; `true` if it had an effect.
    pub(super) fn answer(&mut self, place: Place, answer: Answer, now: Instant, fault: Option<Fault>) -> bool {
        let Some(tracker) = self.assignment.tracker_mut(place.partition) else { return false };
        let (delay, max) = match answer {
            Answer::Ack | Answer::FirstAck => {
                let acked = tracker.ack(place.offset) == Acked::Done;
                if acked && fault == Some(Fault::CommitMaximum) {
                    let maximum = self.maximum.entry(place.partition).or_default();
                    *maximum = (*maximum).max(place.offset + 1);
                }
                return acked;
            }
            Answer::Nack { .. } | Answer::LastNack if fault == Some(Fault::NackIsForgotten) => return true,
            Answer::Nack { .. } | Answer::LastNack if fault == Some(Fault::NackIsDone) => {
                return tracker.ack(place.offset) == Acked::Done;
            }
            Answer::Nack { delay } => (delay, None),
            Answer::LastNack => (Duration::ZERO, Some(1)),
        };
        match tracker.nack(place.offset, now + delay, max) {
            Nacked::Unknown => return false,
            Nacked::Again => {}
            Nacked::Spent { record, cuts, .. } => _ = self.letters.insert(record, cuts),
        }
        true
    }

    /// The dead-letter topic has the record; `true` if that had an effect.
    pub(super) fn settle(&mut self, place: Place) -> bool {
        let Some(cuts) = self.letters.remove(&place) else { return false };
        self.assignment.tracker_mut(place.partition).is_some_and(|tracker| tracker.settle(place.offset, cuts))
    }

    /// Commits what may be committed, if it is time; what the client library then sends.
    pub(super) fn commit(&mut self, now: Instant, fault: Option<Fault>) -> Option<Request> {
        self.store();
        if fault == Some(Fault::CommitMeanwhile) {
            self.commits.answered(false);
        }
        if !self.commits.are_due(now) {
            return None;
        }
        self.commits.sent(now);
        self.sender = self.identity;
        self.committing = self.client.keys().copied().collect();
        let offsets = self.client.iter().filter_map(|(partition, held)| Some((*partition, held.stored?))).collect();
        Some(Request { generation: self.generation, offsets, cut: self.knows_cut(), ..Request::default() })
    }

    /// Takes the brokers' answer to a commit, which may be that there was none.
    pub(super) fn answered(&mut self, failed: bool) {
        self.commits.answered(failed);
    }

    /// Passes over the markers of transactions, and stores what may be committed.
    fn store(&mut self) {
        for (partition, held) in &mut self.client {
            let Some(tracker) = self.assignment.tracker_mut(*partition) else { continue };
            if tracker.is_idle() && !held.waits {
                held.next += held.next % 2;
                tracker.skip_to(held.next);
            }
        }
        let partitions: Vec<u16> = self.assignment.ids().collect();
        for partition in partitions {
            let maximum = self.maximum.get(&partition).copied();
            let point = maximum.or_else(|| self.assignment.commit_point(partition));
            if self.store_one(partition, point) {
                self.commits.moved(false);
            }
        }
    }

    /// Stores an offset, if it is another one than before; `true` if so.
    fn store_one(&mut self, partition: u16, point: Option<i64>) -> bool {
        // The client library refuses partitions that it does not have.
        let Some(held) = self.client.get_mut(&partition) else { return false };
        let is_new = point.is_some() && point != held.stored;
        held.stored = point.or(held.stored);
        is_new
    }

    pub(super) fn begin_revoke(&mut self, partitions: Vec<u16>, deadline: Instant, fault: Option<Fault>) {
        let generation = self.generation_seen(fault);
        self.assignment.begin_revoke(partitions.clone(), deadline, generation);
        for partition in partitions.iter().filter(|_| fault != Some(Fault::LeavesStored)) {
            if let Some(held) = self.client.get_mut(partition) {
                held.stored = None;
            }
        }
        self.revoking = Some(partitions);
    }

    /// Gives back what the group wants back, if it is time; what the client library then sends.
    pub(super) fn finish_revoke(&mut self, now: Instant, fault: Option<Fault>) -> Option<Request> {
        let committing = self.commits.are_open(now) && fault != Some(Fault::CommitMeanwhile);
        let parting = self.assignment.finish_revoke(now, self.generation_seen(fault), committing)?;
        let goes = self.revoking.take()?;
        let gives_back = match parting {
            Parting::InOrder(points) => {
                for (partition, point) in points {
                    let maximum = self.maximum.remove(&partition);
                    self.store_one(partition, maximum.or(point));
                }
                goes.clone()
            }
            // The group knows that it has not got them.
            Parting::Lost => Vec::new(),
        };
        let (generation, cut) = (self.generation, self.knows_cut());
        Some(Request {
            generation,
            offsets: self.unassign(&goes, fault),
            cut,
            gives_back,
            is_last: true,
            ..Request::default()
        })
    }

    /// Leaves the group in order, if it is time; what the client library then sends. The process ends.
    pub(super) fn leave(&mut self, now: Instant, fault: Option<Fault>) -> Option<Request> {
        if self.commits.are_open(now) && fault != Some(Fault::LeavesMeanwhile) {
            return None;
        }
        self.store();
        let (generation, cut) = (self.generation, self.knows_cut());
        let gives_back: Vec<u16> = self.client.keys().copied().collect();
        let offsets = self.unassign(&gives_back, fault);
        self.crash(now);
        Some(Request { generation, offsets, cut, gives_back, is_last: true, ..Request::default() })
    }

    fn generation_seen(&self, fault: Option<Fault>) -> i32 {
        if fault == Some(Fault::GenerationUnseen) { 0 } else { self.generation }
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
        if fault == Some(Fault::LosesCommit) {
            self.commits.answered(true);
        }
        let (generation, cut) = (self.generation, self.knows_cut());
        Request { generation, offsets: self.unassign(&lost, fault), cut, is_last: true, ..Request::default() }
    }

    /// The partitions of which it knows that their logs were cut.
    fn knows_cut(&self) -> Vec<u16> {
        self.client.iter().filter(|(_, held)| held.knows_cut).map(|(partition, _)| *partition).collect()
    }

    /// The client library gives partitions up, and commits what is stored of them. What the brokers said of them is of no use
    /// any more: in the next assignment they are asked again.
    fn unassign(&mut self, partitions: &[u16], fault: Option<Fault>) -> Vec<(u16, i64)> {
        if fault != Some(Fault::BeginsAsBefore) {
            self.start.take_if(|(partition, _)| partitions.contains(partition));
        }
        let offset = |partition: &u16| Some((*partition, self.client.remove(partition)?.stored?));
        partitions.iter().filter_map(offset).collect()
    }
}
