//! What lasts and does not show by itself: the log tells of it, and others see it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;

use super::group::{NoAnswer, PartitionOffsets};
use super::lane::Lane;
use super::lasting::{Due, Lasting};
use super::pending::{Unanswered, by_partition};
use super::rebalance::Rebalancing;
use super::thread::Worker;
use super::throttle::Throttle;

/// How often it is looked for partitions whose records do not come: as often as the brokers are asked for the ends.
const PERIOD: Duration = Duration::from_secs(5);
/// An answer on the ends of the partitions that is older than this says nothing of now: the brokers may be away.
const FRESH: Duration = Duration::from_secs(20);
/// How long the ends of the partitions may be unknown before that is told.
const UNKNOWN: Duration = Duration::from_secs(60);

/// How many answers to fetches that cannot be read, from one look to the next, are reason to fetch less often.
const UNREADABLE: usize = 20;

/// How long brokers may hold an answer back, in seconds, before that is told: the reads of the whole process wait then.
const THROTTLED: f64 = 1.0;

/// What lasts.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    source: Lasting<Condition>,
    /// By partition.
    starving: Lasting<u16>,
    /// Partitions, and topics as a whole, for which the brokers do not answer.
    unanswered: Lasting<(String, Option<i32>)>,
    /// Topics whose ids the brokers do not tell.
    unidentified: Lasting<String>,
    /// How far each partition had come at the last look.
    positions: BTreeMap<u16, Option<i64>>,
    looked: Option<Instant>,
    /// Lines on records that were not acked in time, by partition.
    pub(super) expired: Throttle<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    NotAssigned,
    Rebalancing,
    CommitsFail,
    EndsUnknown,
    Throttled,
}

impl Worker {
    /// Looks for what lasts, and tells of it.
    pub(super) fn look_for_trouble(&mut self, now: Instant) {
        let is_assigned = self.shared.progress.is_assigned();
        if let Some(age) = self.alarms.source.look(Condition::NotAssigned, !is_assigned, now) {
            let reason = self.consumer.context().last_error();
            tracing::warn!(
                group = self.config.group(),
                ?age,
                last_error = reason,
                "the group has not assigned partitions to this member; /readyz says why"
            );
        }
        let change = self.rebalancing.waits_for();
        if let Some(age) = self.alarms.source.look(Condition::Rebalancing, change.is_some(), now) {
            tracing::warn!(
                group = self.config.group(),
                ?age,
                waits_for = change.unwrap_or_default(),
                "a change of the assignment is not answered, and nothing is read until it is"
            );
        }
        let fails = self.commits_fail(now);
        if let Some(age) = self.alarms.source.look(Condition::CommitsFail, fails, now) {
            tracing::warn!(
                group = self.config.group(),
                ?age,
                "commits fail and are tried again; what is acked meanwhile is delivered again after a restart"
            );
        }
        let throttle = self.shared.progress.trouble().brokers.iter().map(|broker| broker.throttle).fold(0.0, f64::max);
        if let Some(age) = self.alarms.source.look(Condition::Throttled, throttle >= THROTTLED, now) {
            tracing::warn!(
                ?age,
                throttle,
                "the brokers throttle this client; raise its quota (consumer_byte_rate, request_percentage)"
            );
        }
        if self.alarms.looked.is_some_and(|looked| now.duration_since(looked) < PERIOD) {
            return;
        }
        self.alarms.looked = Some(now);
        let known = self.pending.last_answer();
        let asked = known.asked;
        self.look_for_unanswered(&known.unanswered, now);
        let is_unknown = asked.is_some_and(|asked| now.duration_since(asked) >= UNKNOWN);
        if let Some(age) = self.alarms.source.look(Condition::EndsUnknown, is_unknown, now) {
            tracing::warn!(
                age = ?age + UNKNOWN,
                "the brokers do not tell the ends of the partitions; the platform scales by the last answer"
            );
        }
        let is_fresh = asked.is_some_and(|asked| now.duration_since(asked) < FRESH);
        // Where the brokers tell nothing at all, that is what is told.
        self.look_for_unidentified(!is_unknown, now);
        self.look_for_starving(if is_fresh { &known.offsets } else { &[] }, now);
    }

    /// Whether commits fail, or have no answer: the client library tries one again for minutes before it tells that it failed.
    /// Where nothing is left to commit, as the partitions have gone, none fails any more.
    fn commits_fail(&self, now: Instant) -> bool {
        let mut trouble = self.shared.progress.trouble();
        let since = trouble.commits_fail_since.or_else(|| self.commits.overdue_since(now));
        let since = since.filter(|_| self.lanes.iter().any(Lane::has_unconfirmed));
        trouble.commits_fail_since = since;
        since.is_some()
    }

    /// Looks for topics and partitions for which the brokers do not answer.
    fn look_for_unanswered(&mut self, unanswered: &[Unanswered], now: Instant) {
        for Unanswered { about: NoAnswer { topic, partition, reason }, .. } in unanswered {
            match (self.alarms.unanswered.look((topic.clone(), *partition), true, now), partition) {
                (None, _) => {}
                (Some(age), None) => tracing::warn!(
                    topic,
                    ?age,
                    %reason,
                    "the topic is missing; the source reads the others and waits for it"
                ),
                (Some(age), Some(partition)) => tracing::warn!(
                    topic,
                    partition,
                    ?age,
                    %reason,
                    "the brokers do not answer for the partition; the source reads the others and waits for it"
                ),
            }
        }
        let is_there =
            |(topic, partition): &(String, Option<i32>)| unanswered.iter().any(|it| it.about.is(topic, *partition));
        self.alarms.unanswered.keep(is_there);
    }

    /// Looks for topics whose ids the brokers do not tell, while they answer other questions: see `anew`.
    fn look_for_unidentified(&mut self, brokers_answer: bool, now: Instant) {
        let read: BTreeSet<&str> = self.lanes.iter().map(|lane| &*lane.topic).collect();
        {
            let told = self.shared.topic_ids.borrow();
            for &topic in &read {
                let is_known = told.get(topic).is_some_and(|told| now.duration_since(told.asked) < FRESH);
                if let Some(age) = self.alarms.unidentified.look(topic.to_owned(), brokers_answer && !is_known, now) {
                    tracing::warn!(
                        topic,
                        ?age,
                        "the brokers do not tell the id of the topic; if it is deleted and created anew, its first records \
                         may not be read (Kafka 2.8 and later tell ids to those who may describe the topic)"
                    );
                }
            }
        }
        self.alarms.unidentified.keep(|topic| read.contains(&**topic));
        let lasts = |topic: &str| self.alarms.unidentified.age(topic, now).is_some_and(|age| age >= Due::FIRST);
        let unidentified = read.iter().filter(|topic| lasts(topic)).map(|topic| (*topic).to_owned()).collect();
        self.shared.progress.trouble().unidentified = unidentified;
    }

    /// Looks for partitions that have records, have room for them, and get none. The client library tells of some reasons in
    /// its log only, and of others nowhere.
    fn look_for_starving(&mut self, known: &[PartitionOffsets], now: Instant) {
        let is_reading = matches!(self.rebalancing, Rebalancing::No);
        let ends = by_partition(known);
        let mut starving = Vec::new();
        {
            let assignment = self.shared.lock();
            // A source that holds all that it may hold waits for acks, and so do partitions that are paused because of it.
            let reads = is_reading && !assignment.is_draining() && assignment.room() > 0;
            for lane in &self.lanes {
                let tracker = assignment.tracker(lane.id).filter(|tracker| {
                    let has_room = if lane.paused { tracker.has_room_again() } else { tracker.room() > 0 };
                    reads && lane.has_begun() && has_room
                });
                let position = tracker.and_then(|tracker| tracker.position());
                let moved = self.alarms.positions.insert(lane.id, position).is_none_or(|before| before != position);
                let end = ends.get(&(&*lane.topic, lane.partition));
                let lacks = end.is_some_and(|known| position.or(known.committed).unwrap_or(known.start) < known.end);
                if tracker.is_some() && !moved && lacks {
                    starving.push((lane.id, end.map_or(0, |known| known.end)));
                }
            }
        }
        // What is left may be markers of transactions, which the client has passed over.
        if !starving.is_empty()
            && let Ok(positions) = self.consumer.position()
        {
            starving.retain(|(id, end)| {
                let lane = self.lanes.iter().find(|lane| lane.id == *id);
                let position = lane.and_then(|lane| positions.find_partition(&lane.topic, lane.partition));
                !position.is_some_and(|it| matches!(it.offset(), Offset::Offset(offset) if offset >= *end))
            });
        }
        let reason = self.consumer.context().last_error();
        let mut since = BTreeMap::new();
        let starving: HashSet<u16> = starving.into_iter().map(|(id, _)| id).collect();
        for lane in &self.lanes {
            let starves = starving.contains(&lane.id);
            let told = self.alarms.starving.look(lane.id, starves, now);
            since.extend(self.alarms.starving.age(&lane.id, now).map(|age| (lane.id, now - age)));
            if let Some(age) = told {
                tracing::warn!(
                    topic = lane.topic,
                    partition = lane.partition,
                    ?age,
                    last_error = reason,
                    "the partition has records that do not come; check the broker that leads it, and transactions that are \
                     left open"
                );
            }
        }
        // One or two may be chance, and are behind us.
        let is_flooded = self.consumer.context().take_unreadable() >= UNREADABLE;
        for place in 0..self.lanes.len() {
            let lane = &mut self.lanes[place];
            if !starving.contains(&lane.id) {
                lane.backoff.end();
            } else if is_flooded && lane.passing.is_none() && lane.broken.is_none() {
                self.back_off(place, now);
            }
        }
        let is_there = |id: &u16| self.lanes.iter().any(|lane| lane.id == *id);
        self.alarms.starving.keep(is_there);
        self.alarms.positions.retain(|id, _| is_there(id));
        self.shared.progress.trouble().starving = since;
    }
}
