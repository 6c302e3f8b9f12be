//! How the thread answers the group: what it takes, and what it gives back and when.
//!
//! The client library waits for the answer to one change before it tells of the next, and reads nothing meanwhile. A
//! partition that comes may have to wait until it is known where to begin with it; one that goes waits a little for the
//! acks of what the platform has of it, because whatever is not acked by then is delivered a second time by its next
//! owner.

use std::thread;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use tokio::time::Instant;

use super::asker::Answer;
use super::assignment::Parting;
use super::committer::store;
use super::context::{self, Context, Rebalance};
use super::lane::Lane;
use super::native::commit::commit;
use super::native::generation::generation;
use super::positions::{Beginning, Place};
use super::thread::Worker;
use super::waiting::{UNREAD, Unread};

/// The change that is being answered.
#[derive(Debug, Default)]
pub(super) enum Rebalancing {
    #[default]
    No,
    /// These wait for the answer to a commit of them, which was sent before they were lost: it says where to begin.
    Held(TopicPartitionList),
    /// It is being looked up where to begin with these.
    Assigning(TopicPartitionList),
    /// These wait for acks.
    Revoking(TopicPartitionList),
    /// All partitions wait for acks, because a new client takes the place of this one.
    Renewing,
}

impl Rebalancing {
    /// What the answer waits for; `None` where no change waits for one.
    pub(super) const fn waits_for(&self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Held(_) => Some("the brokers' answer to a commit"),
            Self::Assigning(_) => Some("the brokers' answer on where to begin"),
            Self::Revoking(_) | Self::Renewing => Some("acks of what is in flight, or the brokers' answer to a commit"),
        }
    }
}

impl Worker {
    /// Answers what can be answered now.
    pub(super) fn rebalance(&mut self, now: Instant) {
        loop {
            match std::mem::take(&mut self.rebalancing) {
                Rebalancing::No => {
                    let Some(rebalance) = self.consumer.context().next_rebalance() else { return };
                    self.shared.counters.rebalances.add(1);
                    match rebalance {
                        Rebalance::Assign(partitions) => self.rebalancing = Rebalancing::Held(partitions),
                        Rebalance::Revoke { partitions, lost: true } => self.lose(&partitions),
                        Rebalance::Revoke { partitions, lost: false } => self.begin_revoke(partitions, now),
                    }
                }
                Rebalancing::Held(partitions) if self.are_committing(&partitions, now) => {
                    self.rebalancing = Rebalancing::Held(partitions);
                    return;
                }
                Rebalancing::Held(partitions) => self.begin_assign(partitions),
                Rebalancing::Assigning(partitions) => match self.asker.answer() {
                    None => {
                        self.rebalancing = Rebalancing::Assigning(partitions);
                        return;
                    }
                    Some(Answer { beginnings }) => self.assign(&partitions, &beginnings),
                },
                Rebalancing::Renewing => {
                    // Brokers that refuse the old secrets do not answer its commit. Should they take it later, it is of a
                    // generation that is over.
                    let is_refused = self.consumer.context().refused(now).is_some();
                    let committing = self.commits.are_open(now) && !is_refused;
                    let generation = generation(&self.consumer);
                    let parting = self.shared.lock().finish_revoke(now, generation, committing);
                    match parting {
                        None => {
                            self.rebalancing = Rebalancing::Renewing;
                            return;
                        }
                        Some(Parting::InOrder(points)) => self.renew(&points),
                        Some(Parting::Lost) => self.renew(&[]),
                    }
                }
                Rebalancing::Revoking(partitions) => {
                    let (generation, committing) = (generation(&self.consumer), self.commits.are_open(now));
                    let parting = self.shared.lock().finish_revoke(now, generation, committing);
                    match parting {
                        None => {
                            self.rebalancing = Rebalancing::Revoking(partitions);
                            return;
                        }
                        Some(Parting::InOrder(points)) => self.give_back(&partitions, &points),
                        Some(Parting::Lost) => self.lose(&partitions),
                    }
                }
            }
        }
    }

    /// Answers at once whatever waits for an answer, because the client leaves the group.
    pub(super) fn answer_all(&mut self, now: Instant) {
        match std::mem::take(&mut self.rebalancing) {
            Rebalancing::No => {}
            // Without a way for its records nothing of it is read.
            Rebalancing::Held(partitions) | Rebalancing::Assigning(partitions) => {
                context::assign(&self.consumer, &partitions);
            }
            Rebalancing::Renewing => {
                let deadline = now + self.config.revoke_timeout;
                let parting = self.shared.lock().finish_revoke(deadline, generation(&self.consumer), false);
                if let Some(Parting::InOrder(points)) = parting {
                    self.store_last(&points);
                }
            }
            Rebalancing::Revoking(partitions) => {
                let deadline = now + self.config.revoke_timeout;
                let parting = self.shared.lock().finish_revoke(deadline, generation(&self.consumer), false);
                match parting {
                    Some(Parting::InOrder(points)) => self.give_back(&partitions, &points),
                    None | Some(Parting::Lost) => self.lose(&partitions),
                }
            }
        }
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => context::assign(&self.consumer, &partitions),
                Rebalance::Revoke { partitions, .. } => context::unassign(&self.consumer, Some(&partitions)),
            }
        }
    }

    /// Whether a commit of one of these is on its way.
    fn are_committing(&self, partitions: &TopicPartitionList, now: Instant) -> bool {
        self.commits.are_open(now) && self.ids(partitions).iter().any(|id| self.committing.contains(id))
    }

    fn begin_assign(&mut self, partitions: TopicPartitionList) {
        if partitions.count() == 0 {
            self.assign(&partitions, &[]);
        } else {
            self.asker.ask(places(&partitions));
            self.rebalancing = Rebalancing::Assigning(partitions);
        }
    }

    fn assign(&mut self, partitions: &TopicPartitionList, beginnings: &[Beginning]) {
        let taken = partitions.clone();
        let mut opened = 0;
        for (topic, partition) in places(partitions) {
            // A queue left over would leave the new one empty.
            self.lanes.retain(|lane| !lane.is(&topic, partition));
            let place = (&*topic, partition);
            let form = self.config.form();
            let lane = Lane::open(&self.consumer, &self.shared.topics, place, form, thread::current());
            let mut lane = match lane {
                Ok(lane) => lane,
                Err(reason) => {
                    tracing::error!(topic, partition, "the partition is not read: {reason}");
                    self.waiting.unread.push(Unread { topic, partition, reason });
                    continue;
                }
            };
            let beginning = beginnings.iter().find(|begun| begun.topic == topic && begun.partition == partition);
            lane.metadata = beginning.map(|beginning| beginning.metadata.clone());
            let place = beginning.map_or(Ok(Place::Oldest), |beginning| beginning.place.clone());
            let place = place.unwrap_or_else(|reason| {
                tracing::info!(topic, partition, %reason, "the partition waits: where to begin is not known");
                lane.waits = Some(reason);
                Place::Oldest
            });
            lane.begin_at(&place);
            let first = if lane.waits.is_some() { Some(UNREAD) } else { place.offset() };
            if let (Some(first), Some(mut element)) = (first, taken.find_partition(&topic, partition))
                && let Err(error) = element.set_offset(Offset::Offset(first))
            {
                tracing::error!(%error, topic, partition, first, "the partition does not begin where it should");
            }
            self.shared.lock().assign(lane.id, place.start());
            self.lanes.push(lane);
            opened += 1;
        }
        let first = self.lanes.len().saturating_sub(opened);
        // The library remembers that a partition was paused, also when it comes back.
        if let Err(error) = self.consumer.resume(&taken) {
            tracing::debug!(%error, "not all partitions were known before");
        }
        self.hold_back(first);
        self.shared.counters.assigned.add(partitions.count());
        tracing::info!(partitions = %names(partitions), "assigned");
        self.pause_waiting();
        context::assign(&self.consumer, &taken);
        self.pause_unread();
        self.validate();
        self.shared.progress.set_assigned(true);
    }

    fn begin_revoke(&mut self, partitions: TopicPartitionList, now: Instant) {
        let ids = self.ids(&partitions);
        for lane in self.lanes.iter_mut().filter(|lane| ids.contains(&lane.id)) {
            lane.unstore();
        }
        let deadline = now + self.config.revoke_timeout;
        self.shared.lock().begin_revoke(ids, deadline, generation(&self.consumer));
        unstore(&self.consumer, &partitions);
        self.rebalancing = Rebalancing::Revoking(partitions);
    }

    /// Begins to give all partitions back, for a client that is to take the place of this one.
    pub(super) fn begin_renewal(&mut self, now: Instant) {
        let mut all = TopicPartitionList::new();
        for lane in &mut self.lanes {
            lane.unstore();
            all.add_partition(&lane.topic, lane.partition);
        }
        let ids = self.lanes.iter().map(|lane| lane.id).collect();
        let deadline = now + self.config.revoke_timeout;
        self.shared.lock().begin_revoke(ids, deadline, generation(&self.consumer));
        unstore(&self.consumer, &all);
        self.rebalancing = Rebalancing::Renewing;
    }

    /// Stores the last offsets that may be committed of partitions that go.
    pub(super) fn store_last(&mut self, points: &[(u16, Option<i64>)]) {
        let (mut last, mut uncertain) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (id, point) in points {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == *id) {
                lane.store(*point, &mut last);
                if lane.uncertain {
                    lane.add_stored(&mut uncertain);
                }
            }
        }
        store(&self.consumer, &last);
        // The library commits what is stored as the partitions go, but not an offset below one that it takes for committed.
        if uncertain.count() > 0
            && let Err(error) = commit(&self.consumer, Some(&uncertain))
        {
            tracing::info!(%error, "the last offsets of partitions are not committed: they are delivered again");
        }
    }

    /// Gives partitions back, with the last offsets that may be committed.
    fn give_back(&mut self, partitions: &TopicPartitionList, points: &[(u16, Option<i64>)]) {
        self.shared.counters.revoked.add(partitions.count());
        tracing::info!(partitions = %names(partitions), "revoked");
        self.store_last(points);
        self.close(partitions);
        context::unassign(&self.consumer, Some(partitions));
    }

    /// Lets partitions go that are another member's already: nothing of them is stored.
    fn lose(&mut self, partitions: &TopicPartitionList) {
        let ids = self.ids(partitions);
        self.shared.progress.set_assigned(false);
        self.shared.lock().lose(&ids);
        self.shared.counters.lost.add(partitions.count());
        tracing::warn!(partitions = %names(partitions), "lost: this member was evicted from the group, or a topic was deleted");
        unstore(&self.consumer, partitions);
        self.close(partitions);
        context::unassign(&self.consumer, Some(partitions));
    }

    fn close(&mut self, partitions: &TopicPartitionList) {
        let ids = self.ids(partitions);
        self.lanes.retain(|lane| !ids.contains(&lane.id));
        self.forget_unread(Some(partitions));
        self.shared.committed.send_modify(|committed| committed.retain(|id, _| !ids.contains(id)));
    }

    fn ids(&self, partitions: &TopicPartitionList) -> Vec<u16> {
        let places = places(partitions);
        places.iter().filter_map(|(topic, partition)| self.shared.topics.partition_id(topic, *partition)).collect()
    }
}

/// Takes back what was stored for partitions, so that the library does not commit it as they go, or before.
pub(super) fn unstore(consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
    let mut nothing = partitions.clone();
    if let Err(error) = nothing.set_all_offsets(Offset::Invalid) {
        tracing::error!(%error, "what was stored cannot be taken back");
    }
    store(consumer, &nothing);
}

fn places(partitions: &TopicPartitionList) -> Vec<(String, i32)> {
    partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

/// The partitions as text for the log: `topic:partition`, with spaces between.
fn names(partitions: &TopicPartitionList) -> String {
    let name = |element: &TopicPartitionListElem<'_>| format!("{}:{}", element.topic(), element.partition());
    partitions.elements().iter().map(name).collect::<Vec<_>>().join(" ")
}
