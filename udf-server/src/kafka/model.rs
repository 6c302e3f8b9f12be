//! The commit protocol, searched through: every order in which the platform, the sources and the group of a small world can
//! act, with what can go wrong between them.
//!
//! The records, how they are given back and when offsets are committed are the types that ship,
//! [`Assignment`](super::assignment::Assignment) with the trackers in it and [`Commits`](super::commits::Commits). The world
//! around them is as unfriendly as the real one: a broker takes the commit of any member of this generation for any
//! partition, members join again in the middle of a revoke, acks are lost, late and repeated, connections break and what was
//! sent last arrives first, sessions end unnoticed, processes crash with a commit on its way.
//!
//! `member` is one pod, `group` the coordinator; what can happen next, and what must never be, is here.

mod group;
mod member;

use std::collections::BTreeSet;
use std::time::Duration;

use stateright::{Model, Property};
use tokio::time::Instant;

use group::{Group, Identity, Request};
use member::{Answer, Fault, Member, Place};

/// Time passes in steps of this. It is also how long a record may be unanswered, and the delay of a nack that has one.
const STEP: Duration = Duration::from_secs(1);

/// How often something may happen. This is what makes the world finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Chances {
    /// A source's process ends without a word, and another takes its place.
    crashes: u8,
    /// A source leaves the group in order, and another process takes its place.
    leaves: u8,
    /// A client library sends a commit again in the next generation of its member, after the partitions were lost.
    renewals: u8,
    /// The group wants a partition back.
    revokes: u8,
    /// The session of a source ends that lives on.
    evictions: u8,
    /// A client joins again, as when a topic grows, while its source gives something back.
    rejoins: u8,
    nacks: u8,
    /// A record or its ack gets lost at the platform, or a commit on its way; or a connection breaks, and of two commits on
    /// their way the later one arrives first.
    losses: u8,
    /// An ack comes once more.
    repeats: u8,
    /// The read stream breaks.
    reconnects: u8,
    /// The log of a partition is cut, and other records take the offsets from there on.
    cuts: u8,
    /// A partition is assigned of which the brokers do not say where to begin. It waits until they do.
    waits: u8,
    /// Time passes by [`STEP`].
    steps: u8,
}

/// The world that is searched.
#[derive(Debug, Clone)]
struct World {
    members: usize,
    partitions: usize,
    /// Dealt out to the partitions in turn.
    records: usize,
    /// How long a revoke waits for acks.
    revoke_timeout: Duration,
    chances: Chances,
    fault: Option<Fault>,
    /// The time at which everything begins.
    base: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    group: Group,
    members: Vec<Member>,
    /// What the platform has acked, and what is in the dead-letter topic.
    done: BTreeSet<Place>,
    /// What the owner of the partition was told to deliver again, and was not done since.
    nacked: BTreeSet<Place>,
    left: Chances,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// The group gives a partition that nobody has to a member.
    Assign {
        member: usize,
        partition: u16,
    },
    /// As before, but nobody says where to begin with it.
    AssignWaiting {
        member: usize,
        partition: u16,
    },
    /// The brokers say where to begin with a partition that waits.
    AnswerStart {
        member: usize,
        partition: u16,
    },
    /// The source begins with a partition as the brokers have said.
    Begin {
        member: usize,
    },
    /// The group wants a partition back.
    Revoke {
        member: usize,
        partition: u16,
    },
    /// The source gives back what the group wants back.
    FinishRevoke {
        member: usize,
    },
    /// The session of a source ends, dead or alive.
    Evict(Identity),
    /// A client that was evicted tells its source of it, as what it is or as if the group wanted everything back.
    TellEvicted {
        member: usize,
        lost: bool,
    },
    /// A client joins the group again, without what its source is giving back.
    Rejoin {
        member: usize,
    },
    /// It learns of the generation of which it is a member now.
    TellRejoined {
        member: usize,
    },
    /// The brokers lose the records of a partition from an offset on, and get others. The client libraries that read the
    /// partition go back.
    Cut {
        partition: u16,
        at: i64,
    },
    /// A record comes from the broker.
    Fetch {
        member: usize,
        place: Place,
    },
    /// The platform reads a record.
    Read {
        member: usize,
    },
    /// The platform answers for a record.
    Answer {
        member: usize,
        place: Place,
        answer: Answer,
    },
    /// The platform forgets a record without an answer.
    Forget {
        member: usize,
        place: Place,
    },
    /// The dead-letter topic confirms a record.
    Settle {
        member: usize,
        place: Place,
    },
    /// The platform opens a new read stream.
    Reconnect {
        member: usize,
    },
    /// The source delivers again what has had no answer for long.
    Expire {
        member: usize,
    },
    /// The source stores what may be committed, and the client commits what is stored.
    Commit {
        member: usize,
    },
    /// A commit comes to the coordinator, or gets lost on its way. Its source is told.
    Serve {
        from: Identity,
        place: usize,
        arrived: bool,
    },
    Crash {
        member: usize,
    },
    Leave {
        member: usize,
    },
    /// A commit that a client sent before it was evicted is sent again by the member that the client is now.
    Renew(Identity),
    /// Time passes.
    Step,
}

impl World {
    fn now(&self, state: &State) -> Instant {
        self.base + STEP * u32::from(self.chances.steps - state.left.steps)
    }

    fn partitions(&self) -> impl Iterator<Item = u16> + use<> {
        (0..).take(self.partitions)
    }

    /// The offset after the last record of a partition and its marker. Records are at even offsets, a marker behind each.
    fn end(&self, partition: u16) -> i64 {
        2 * (0..self.records)
            .filter(|record| record % self.partitions == usize::from(partition))
            .map(|_| 1)
            .sum::<i64>()
    }

    /// What a source and its client can do next, the group aside.
    fn source_actions(&self, state: &State, member: usize, now: Instant, actions: &mut Vec<Action>) {
        let left = state.left;
        let it = &state.members[member];
        for (partition, held) in &it.client {
            let partition = *partition;
            let Some(tracker) = it.assignment.tracker(partition) else { continue };
            if held.waits {
                if it.start.is_none() {
                    actions.push(Action::AnswerStart { member, partition });
                }
                continue;
            }
            let is_marker = held.next % 2 == 1;
            let offset = held.next + i64::from(is_marker);
            if offset < self.end(partition) && tracker.room() > 0 {
                let is_new = state.group.cut_of(partition).is_some_and(|at| offset >= at);
                actions.push(Action::Fetch { member, place: Place { partition, offset, is_new } });
            }
        }
        if it.start.is_some() {
            actions.push(Action::Begin { member });
        }
        if it.client.keys().any(|partition| it.assignment.tracker(*partition).is_some_and(|it| it.has_ready(now))) {
            actions.push(Action::Read { member });
        }
        if it.assignment.in_flight() > 0 {
            actions.push(Action::Expire { member });
            if left.reconnects > 0 {
                actions.push(Action::Reconnect { member });
            }
        }
        if !it.client.is_empty() {
            actions.push(Action::Commit { member });
        }
        actions.extend(it.letters.keys().map(|place| Action::Settle { member, place: *place }));
        if left.crashes > 0 {
            actions.push(Action::Crash { member });
        }
        if left.leaves > 0 && it.revoking.is_none() && state.group.current.get(&it.identity) == Some(&it.generation) {
            actions.push(Action::Leave { member });
        }
    }

    /// Whether a platform has records of a partition that its source is to get a second time, in a world where logs are cut.
    /// The source does not know of those records any more, and takes answers for them for answers for the new records of
    /// their offsets: offsets are all that the platform knows. This limit of the source is documented, and not searched.
    fn is_ambiguous(&self, member: &Member, partition: u16) -> bool {
        self.chances.cuts > 0 && member.platform.iter().any(|place| place.partition == partition)
    }

    /// What a platform can do next.
    fn platform_actions(&self, state: &State, member: usize, actions: &mut Vec<Action>) {
        let left = state.left;
        for place in state.members[member].platform.iter().copied() {
            let mut answer = |answer| actions.push(Action::Answer { member, place, answer });
            answer(Answer::Ack);
            if left.repeats > 0 {
                answer(Answer::FirstAck);
            }
            if left.nacks > 0 {
                answer(Answer::Nack { delay: Duration::ZERO });
                // A delay that nothing ends would be no delay.
                if left.steps > 0 {
                    answer(Answer::Nack { delay: STEP });
                }
                answer(Answer::LastNack);
            }
            if left.losses > 0 {
                actions.push(Action::Forget { member, place });
            }
        }
    }
}

impl State {
    /// Whether every record of a partition before this offset is done.
    fn is_done_before(&self, partition: u16, offset: i64) -> bool {
        (0..offset).step_by(2).all(|offset| self.done.contains(&self.place(partition, offset)))
    }

    /// The record of this offset that is in the log now.
    fn place(&self, partition: u16, offset: i64) -> Place {
        Place { partition, offset, is_new: self.group.cut_of(partition).is_some_and(|at| offset >= at) }
    }

    /// Whether a platform has some record again that was delivered or done before.
    fn is_delivered_again(&self) -> bool {
        self.members.iter().any(|member| {
            let mut trackers = member.assignment.ids().filter_map(|partition| member.assignment.tracker(partition));
            trackers.any(|tracker| tracker.front().is_some_and(|front| front.deliveries > 1))
                || !member.platform.is_disjoint(&self.done)
        })
    }

    /// Whether some record is with the platforms of two members.
    fn is_with_two(&self) -> bool {
        let has = |index: usize, place| self.members[..index].iter().any(|member| member.platform.contains(place));
        let mut members = self.members.iter().enumerate();
        members.any(|(index, member)| member.platform.iter().any(|place| has(index, place)))
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut group = Group::new(self.members, self.partitions);
        let mut members: Vec<Member> = group.current.keys().map(|identity| Member::new(*identity, self.base)).collect();
        for partition in self.partitions() {
            let member = usize::from(partition) % self.members;
            members[member].assign(partition, 0, false);
            group.owners[usize::from(partition)] = Some(members[member].identity);
        }
        vec![State { group, members, done: BTreeSet::new(), nacked: BTreeSet::new(), left: self.chances }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let State { group, left, .. } = state;
        let now = self.now(state);
        for (member, it) in state.members.iter().enumerate() {
            let generation = group.current.get(&it.identity);
            let is_current = generation.is_some();
            let is_told = generation == Some(&it.generation);
            // The brokers answer in the order in which they were asked.
            if is_current && !is_told && !group.wire.contains_key(&it.identity) {
                actions.push(Action::TellRejoined { member });
            }
            // The client library tells of one change at a time.
            if it.revoking.is_none() {
                for partition in self.partitions().filter(|_| is_told) {
                    match group.owners[usize::from(partition)] {
                        None if it.may_take(partition, now) && !self.is_ambiguous(it, partition) => {
                            actions.push(Action::Assign { member, partition });
                            if left.waits > 0 {
                                actions.push(Action::AssignWaiting { member, partition });
                            }
                        }
                        None => {}
                        Some(owner) if owner == it.identity && left.revokes > 0 => {
                            actions.push(Action::Revoke { member, partition });
                        }
                        Some(_) => {}
                    }
                }
                if !is_current {
                    actions.push(Action::TellEvicted { member, lost: true });
                    if !it.client.is_empty() {
                        actions.push(Action::TellEvicted { member, lost: false });
                    }
                }
            } else {
                actions.push(Action::FinishRevoke { member });
                if is_told && left.rejoins > 0 {
                    actions.push(Action::Rejoin { member });
                }
            }
            self.source_actions(state, member, now, actions);
            self.platform_actions(state, member, actions);
        }
        for (from, requests) in &group.wire {
            let from = *from;
            actions.push(Action::Serve { from, place: 0, arrived: true });
            if left.losses > 0 {
                actions.push(Action::Serve { from, place: 0, arrived: false });
                actions.extend((1..requests.len()).map(|place| Action::Serve { from, place, arrived: true }));
            }
            if left.renewals > 0 && state.members[from.member].sender == from && !group.current.contains_key(&from) {
                actions.push(Action::Renew(from));
            }
        }
        for identity in group.current.keys() {
            let is_alive = state.members[identity.member].identity == *identity;
            if !is_alive || (left.evictions > 0 && group.owned(*identity).next().is_some()) {
                actions.push(Action::Evict(*identity));
            }
        }
        if left.steps > 0 {
            actions.push(Action::Step);
        }
        if left.cuts > 0 {
            for partition in self.partitions() {
                let cuts = (0..self.end(partition)).step_by(2).map(|at| Action::Cut { partition, at });
                actions.extend(cuts);
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let now = self.now(state);
        let mut next = state.clone();
        let State { group, members, done, nacked, left } = &mut next;
        match action {
            Action::Assign { member, partition } => {
                group.owners[usize::from(partition)] = Some(members[member].identity);
                let (committed, cut) = (group.committed(partition), group.cut_of(partition));
                members[member].assign(partition, committed, cut.is_some());
            }
            Action::AssignWaiting { member, partition } => {
                left.waits -= 1;
                group.owners[usize::from(partition)] = Some(members[member].identity);
                members[member].assign_waiting(partition);
            }
            Action::AnswerStart { member, partition } => {
                members[member].start = Some((partition, group.committed(partition)));
            }
            Action::Begin { member } => members[member].begin()?,
            Action::Revoke { member, partition } => {
                left.revokes -= 1;
                members[member].begin_revoke(vec![partition], now + self.revoke_timeout, self.fault);
            }
            Action::FinishRevoke { member } => {
                let request = members[member].finish_revoke(now, self.fault)?;
                group.send(members[member].identity, request);
            }
            Action::Evict(identity) => {
                left.evictions -= u8::from(members[identity.member].identity == identity);
                group.evict(identity);
            }
            Action::TellEvicted { member, lost: false } => {
                let all = members[member].client.keys().copied().collect();
                members[member].begin_revoke(all, now + self.revoke_timeout, self.fault);
            }
            Action::TellEvicted { member, lost: true } => {
                let request = members[member].lose(self.fault);
                members[member].identity.life += 1;
                let identity = members[member].identity;
                group.current.insert(identity, members[member].generation);
                group.send(identity, request);
            }
            Action::Rejoin { member } => {
                left.rejoins -= 1;
                group.rejoin(members[member].identity, members[member].revoking.as_deref()?);
            }
            Action::TellRejoined { member } => {
                members[member].generation = *group.current.get(&members[member].identity)?;
            }
            Action::Cut { partition, at } => {
                left.cuts -= 1;
                group.cut(partition, at);
                for member in members {
                    member.go_back(partition, at);
                }
                // Nobody can deliver what is gone.
                nacked.retain(|place| place.partition != partition || place.offset < at);
            }
            Action::Fetch { member, place } => members[member].fetch(place, self.fault),
            Action::Read { member } => members[member].read(now),
            Action::Answer { member, place, answer } => {
                let it = &mut members[member];
                let is_ack = matches!(answer, Answer::Ack | Answer::FirstAck);
                left.repeats -= u8::from(answer == Answer::FirstAck);
                left.nacks -= u8::from(!is_ack);
                if answer != Answer::FirstAck {
                    it.platform.remove(&place);
                }
                if is_ack {
                    done.insert(place);
                }
                let is_there = place.is_new || group.cut_of(place.partition).is_none_or(|at| place.offset < at);
                let is_effective = it.answer(place, answer, now, self.fault) && is_there;
                if is_effective && group.owns(it.identity, place.partition) {
                    if is_ack {
                        nacked.remove(&place)
                    } else {
                        nacked.insert(place)
                    };
                }
                if is_ack
                    && self.fault == Some(Fault::AckAfterRevoke)
                    && it.assignment.tracker(place.partition).is_none()
                {
                    let offsets = vec![(place.partition, place.offset + 1)];
                    let request = Request { generation: it.generation, offsets, ..Request::default() };
                    group.send(it.identity, request);
                }
            }
            Action::Forget { member, place } => {
                left.losses -= 1;
                members[member].platform.remove(&place);
            }
            Action::Settle { member, place } => {
                done.insert(place);
                if members[member].settle(place) && group.owns(members[member].identity, place.partition) {
                    nacked.remove(&place);
                }
            }
            Action::Reconnect { member } => {
                left.reconnects -= 1;
                members[member].assignment.connect_reader();
            }
            Action::Expire { member } => {
                if members[member].assignment.expire(now, STEP).is_empty() {
                    return None;
                }
            }
            Action::Commit { member } => {
                let request = members[member].commit(now, self.fault)?;
                // Nobody would notice a request that says what is known.
                if request.offsets.iter().all(|(partition, offset)| group.committed(*partition) == *offset) {
                    return None;
                }
                group.send(members[member].identity, request);
            }
            Action::Serve { from, place, arrived } => {
                left.losses -= u8::from(!arrived || place > 0);
                let it = &mut members[from.member];
                // With the fault every answer is taken for that to the source's own commit.
                let answer = group.serve(from, place, arrived);
                let answer = answer.or((self.fault == Some(Fault::TakesAnyAnswer)).then_some(true));
                if let Some(is_committed) = answer.filter(|_| it.sender == from) {
                    it.answered(!is_committed);
                }
            }
            Action::Crash { member } => {
                left.crashes -= 1;
                members[member].crash(now);
                group.current.insert(members[member].identity, 0);
            }
            Action::Leave { member } => {
                let identity = members[member].identity;
                let request = members[member].leave(now, self.fault)?;
                left.leaves -= 1;
                group.send(identity, request);
                group.current.insert(members[member].identity, 0);
            }
            Action::Renew(from) => {
                left.renewals -= 1;
                let it = &mut members[from.member];
                group.renew(from, it.identity, it.generation)?;
                it.sender = it.identity;
            }
            Action::Step => left.steps -= 1,
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("I1: what is committed is done", |world, state| {
                world.partitions().all(|partition| state.is_done_before(partition, state.group.committed(partition)))
            }),
            Property::<Self>::eventually("I2: everything is done and committed in the end", |world, state| {
                // What the platform has lost, it has lost for good: there is no time here after which it comes again.
                state.left.losses < world.chances.losses
                    || world.partitions().all(|partition| state.group.committed(partition) == world.end(partition))
            }),
            Property::<Self>::always("I3: no committed offset goes backwards", |_, state| !state.group.went_back),
            Property::<Self>::always("I4: who has given a partition back commits nothing of it", |_, state| {
                !state.group.trespassed
            }),
            Property::<Self>::always("I9: what is nacked is not committed past before it is done", |_, state| {
                state.nacked.iter().all(|place| state.group.committed(place.partition) <= place.offset)
            }),
            Property::<Self>::sometimes("everything is done and committed", |world, state| {
                world.partitions().all(|partition| state.group.committed(partition) == world.end(partition))
            }),
            Property::<Self>::sometimes("a record is delivered again", |_, state| state.is_delivered_again()),
            Property::<Self>::sometimes("an ack may come after the revoke", |_, state| {
                let is_late = |member: &Member, place: &Place| member.assignment.tracker(place.partition).is_none();
                state.members.iter().any(|member| member.platform.iter().any(|place| is_late(member, place)))
            }),
        ];
        if self.members > 1 {
            let property = Property::<Self>::sometimes("two members have the same record", |_, it| it.is_with_two());
            properties.push(property);
        }
        properties
    }
}

mod tests;
