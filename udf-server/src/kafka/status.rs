//! What the source is doing at this moment: the page `/kafka`, and whether the source is ready.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::counters::Total;
use super::group::NoAnswer;
use super::latency::Values;
use super::pending::{Pending, by_partition};
use super::shared::Shared;
use super::statistics::BrokerFigures;
use super::waiting::Unread;

/// How long the thread may go without a poll. It polls every 20 ms; the group gives it up after `max.poll.interval.ms`,
/// five minutes by default.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// How long a partition may have records that do not come. A broker that restarts is back by then.
const LONGEST_STARVING: f64 = 60.0;

/// How long the brokers may leave an assigned partition without an answer. One that restarts is back by then.
const LONGEST_UNANSWERED: f64 = 60.0;

/// A look at the source. Ages are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Status {
    pub(super) group: String,
    pub(super) topics: Vec<String>,
    pub(super) state: State,
    /// For how long the thread has not polled.
    pub(super) last_poll_age: f64,
    /// The longest time that it ever did not, up to its last poll.
    pub(super) longest_poll_gap: f64,
    pub(super) last_broker_error: Option<LastError>,
    /// The right that the brokers deny.
    pub(super) denied_right: Option<String>,
    /// The change of the assignment that is not answered yet.
    pub(super) rebalancing: Option<Rebalancing>,
    /// Why files of secrets cannot be used: what was read of them before stays in use.
    pub(super) unusable_secrets: Option<String>,
    /// Why the source cannot go on: the process drains and ends.
    pub(super) failure: Option<String>,
    /// For how long commits have failed, with none that succeeded.
    pub(super) failing_commits_age: Option<f64>,
    /// Why the brokers refuse this source, and for how long they have, while they do.
    pub(super) refused: Option<LastError>,
    /// How many records the whole group has left, as the platform is told.
    pub(super) pending: Option<u64>,
    /// The age of what the brokers said of ends and of the group's commits.
    pub(super) end_age: Option<f64>,
    /// What the client library measures of the brokers.
    pub(super) brokers: Vec<BrokerFigures>,
    /// From the delivery of the first record of each ack to the ack.
    #[serde(skip)]
    pub(super) latency: Values,
    /// Records that are given up and not in the dead-letter topic yet.
    pub(super) dead_letters: Letters,
    /// Topics that are to be read and that the brokers do not have.
    pub(super) missing_topics: Vec<MissingTopic>,
    /// Topics that are read and whose ids the brokers do not tell.
    pub(super) unidentified_topics: BTreeSet<String>,
    /// Partitions for which the brokers do not answer, of the whole group.
    pub(super) unanswered_partitions: Vec<UnansweredPartition>,
    /// Partitions that are assigned here and cannot be read.
    pub(super) unread_partitions: Vec<Unread>,
    /// Those that are assigned here and can be read, in the order of their ids.
    pub(super) partitions: Vec<Partition>,
    #[serde(serialize_with = "by_name")]
    pub(super) totals: Vec<Total>,
}

/// A change of the assignment that is not answered yet. Nothing is read until it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rebalancing {
    pub(super) waits_for: &'static str,
    pub(super) age: f64,
}

/// Where the source stands in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// The group has not said yet which partitions are this member's, or has taken it back.
    Joining,
    /// It has, and the partitions are read.
    Assigned,
    /// A change of the partitions is being answered; the client reads nothing new meanwhile.
    Rebalancing,
    /// The program is to end: nothing new is read.
    Draining,
}

/// A topic that the brokers do not have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct MissingTopic {
    pub(super) topic: String,
    pub(super) reason: String,
    pub(super) age: f64,
}

/// A partition for which the brokers do not answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct UnansweredPartition {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) reason: String,
    pub(super) age: f64,
}

/// What went wrong with a broker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LastError {
    pub(super) reason: String,
    pub(super) age: f64,
}

/// Records on their way to the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Letters {
    pub(super) waiting: usize,
    /// How many of them the topic refuses.
    pub(super) refused: usize,
    /// Since the oldest of them was given up.
    pub(super) oldest_age: Option<f64>,
}

/// An assigned partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// What the platform knows it by.
    pub(super) id: u16,
    /// The offset after the last record that was read.
    pub(super) position: Option<i64>,
    /// What the group may commit: the offset of the first record that is not done.
    pub(super) commit_point: Option<i64>,
    /// What the brokers have confirmed of that.
    pub(super) committed: Option<i64>,
    /// The offset after the last record there is, as far as it is known.
    pub(super) end: Option<i64>,
    /// From the commit point to the end, in offsets.
    pub(super) lag: Option<u64>,
    /// Records that are kept, those included that are done behind one that isn't.
    pub(super) held_records: usize,
    pub(super) held_bytes: usize,
    /// Records that are with the platform.
    pub(super) in_flight: usize,
    pub(super) oldest_unacked: Option<Unacked>,
    /// For how long the partition has had records that do not come.
    pub(super) starving_age: Option<f64>,
    /// Why the partition is not read yet: it is not known where to begin.
    pub(super) waits: Option<String>,
    /// The record at which the partition stands still.
    pub(super) halted: Option<i64>,
    /// Why the dead-letter topic refuses that record, if it does. The log tells the other reasons.
    pub(super) refused: Option<String>,
}

/// The record at the commit point, while it is with the platform: everything behind it waits for its ack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Unacked {
    pub(super) offset: i64,
    pub(super) deliveries: u32,
    /// Since it was delivered last.
    pub(super) age: f64,
}

impl Status {
    pub(super) fn of(group: &str, shared: &Shared, pending: &Pending, now: Instant) -> Self {
        let count = pending.count(shared);
        let known = pending.last_answer();
        let asked = known.asked;
        let ends = by_partition(&known.offsets);
        let committed = shared.committed.borrow().clone();
        let backlog = shared.backlog.borrow().clone();
        let seconds_since = |then| now.saturating_duration_since(then).as_secs_f64();
        let progress = &shared.progress;
        let trouble = progress.trouble().clone();
        let assignment = shared.lock();
        let partition = |id: u16| {
            let tracker = assignment.tracker(id)?;
            let (topic, partition) = shared.topics.place(id)?;
            let known = ends.get(&(&*topic, partition)).copied();
            // What has come since the brokers were asked is there for certain.
            let end = known.map(|known| known.end.max(tracker.position().unwrap_or(0)));
            let commit_point = tracker.commit_point();
            Some(Partition {
                topic,
                partition,
                id: shared.topics.replica().unwrap_or(id),
                position: tracker.position(),
                commit_point,
                committed: committed.get(&id).copied().or_else(|| known?.committed),
                end,
                lag: known.zip(end).map(|(known, end)| known.lag_to(end, commit_point)),
                held_records: tracker.len(),
                held_bytes: tracker.bytes(),
                in_flight: tracker.in_flight(),
                oldest_unacked: tracker.front().and_then(|front| {
                    let age = seconds_since(front.sent?);
                    Some(Unacked { offset: front.offset, deliveries: front.deliveries, age })
                }),
                waits: trouble.waiting.get(&id).map(ToString::to_string),
                starving_age: trouble.starving.get(&id).copied().map(seconds_since),
                halted: tracker.halted(),
                refused: tracker.halted().and_then(|offset| backlog.refused.get(&(id, offset)).cloned()),
            })
        };
        let partitions = assignment.ids().filter_map(partition).collect();
        let state = if assignment.is_draining() || shared.stopped() {
            State::Draining
        } else if !progress.is_assigned() {
            State::Joining
        } else if trouble.rebalancing.is_some() {
            State::Rebalancing
        } else {
            State::Assigned
        };
        drop(assignment);
        let (mut missing_topics, mut unanswered_partitions) = (Vec::new(), Vec::new());
        for it in known.unanswered {
            let (age, NoAnswer { topic, partition, reason }) = (seconds_since(it.since), it.about);
            let reason = reason.to_string();
            match partition {
                None => missing_topics.push(MissingTopic { topic, reason, age }),
                Some(partition) => {
                    unanswered_partitions.push(UnansweredPartition { topic, partition, reason, age });
                }
            }
        }
        let last_error =
            |error: super::progress::BrokerError| LastError { age: seconds_since(error.noted), reason: error.reason };
        Self {
            group: group.to_owned(),
            topics: shared.subscription.borrow().clone(),
            state,
            last_poll_age: progress.silence(now).as_secs_f64(),
            longest_poll_gap: progress.longest_gap().as_secs_f64(),
            last_broker_error: progress.broker_error().map(last_error),
            denied_right: trouble.denied.filter(|denied| denied.holds(now)).map(|denied| denied.right),
            rebalancing: trouble
                .rebalancing
                .map(|(waits_for, since)| Rebalancing { waits_for, age: seconds_since(since) }),
            unusable_secrets: trouble.unusable_secrets,
            failure: shared.failure.borrow().clone(),
            failing_commits_age: trouble.commits_fail_since.map(seconds_since),
            refused: progress
                .refusal()
                .map(|refusal| LastError { age: seconds_since(refusal.since), reason: refusal.reason }),
            pending: count,
            end_age: asked.map(seconds_since),
            brokers: trouble.brokers,
            latency: shared.latency.values(),
            dead_letters: Letters {
                waiting: backlog.waiting,
                refused: backlog.refused.len(),
                oldest_age: backlog.since.map(seconds_since),
            },
            missing_topics,
            unidentified_topics: trouble.unidentified,
            unanswered_partitions,
            unread_partitions: trouble.unread,
            partitions,
            totals: shared.counters.totals(),
        }
    }

    /// Whether records are read. A broker that is away is no reason against it: what is to be done then is done.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        if self.state == State::Draining {
            let reason = self.failure.as_ref().map(|reason| format!(", as the source cannot go on: {reason}"));
            return Err(format!("draining{}", reason.unwrap_or_default()));
        }
        if self.last_poll_age > LONGEST_SILENCE.as_secs_f64() {
            return Err(format!("the thread that reads from Kafka has not polled for {:.0} s", self.last_poll_age));
        }
        if let Some(right) = &self.denied_right {
            return Err(format!("the brokers deny this user a right: {right}"));
        }
        if let Some(LastError { reason, age }) = &self.refused {
            return Err(format!("the brokers have refused this source for {age:.0} s: {reason}"));
        }
        let missing: Vec<_> = self.missing_topics.iter().map(MissingTopic::sentence).collect();
        if !missing.is_empty() {
            return Err(missing.join("; "));
        }
        if self.state == State::Joining {
            let trouble = self.last_broker_error.as_ref();
            let trouble = trouble.map(|error| format!("; last trouble with a broker: {}", error.reason));
            let trouble = trouble.unwrap_or_default();
            return Err(format!("the group {} has not assigned partitions to this member yet{trouble}", self.group));
        }
        if let Some(Rebalancing { waits_for, age }) = self.rebalancing.as_ref().filter(|it| it.age > LONGEST_UNANSWERED)
        {
            return Err(format!(
                "a change of the assignment has not been answered for {age:.0} s; it waits for {waits_for}"
            ));
        }
        let halted = |partition: &Partition| {
            let offset = partition.halted?;
            let reason = partition.refused.as_deref().unwrap_or("the log says why");
            Some(format!("{}:{} stands still at offset {offset}: {reason}", partition.topic, partition.partition))
        };
        let waits = |partition: &Partition| {
            let reason = partition.waits.as_deref()?;
            Some(format!("{}:{} is not read yet: {reason}", partition.topic, partition.partition))
        };
        let unread = |it: &Unread| format!("{}:{} is not read: {}", it.topic, it.partition, it.reason);
        let unanswered = |partition: &Partition| {
            let is = |it: &&UnansweredPartition| it.topic == partition.topic && it.partition == partition.partition;
            let it = self.unanswered_partitions.iter().find(is)?;
            let is_told = partition.waits.is_some() || it.age <= LONGEST_UNANSWERED;
            (!is_told)
                .then(|| format!("{}:{} has no answer for {:.0} s: {}", it.topic, it.partition, it.age, it.reason))
        };
        let starving = |partition: &Partition| {
            let age = partition.starving_age.filter(|age| *age > LONGEST_STARVING)?;
            let trouble =
                self.last_broker_error.as_ref().map(|error| format!(": {}", error.reason)).unwrap_or_default();
            let (topic, number) = (&partition.topic, partition.partition);
            Some(format!("{topic}:{number} has had records for {age:.0} s that do not come{trouble}"))
        };
        let partitions = || self.partitions.iter();
        let mut reasons: Vec<_> = partitions().filter_map(halted).chain(partitions().filter_map(starving)).collect();
        reasons.extend(partitions().filter_map(waits).chain(self.unread_partitions.iter().map(unread)));
        reasons.extend(partitions().filter_map(unanswered));
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }
}

impl MissingTopic {
    fn sentence(&self) -> String {
        let Self { topic, reason, age } = self;
        format!("the topic {topic} has been missing for {age:.0} s: {reason}; create it, or correct --topics")
    }
}

fn by_name<S: serde::Serializer>(totals: &[Total], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(totals.iter().map(|total| (total.name, total.value)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A source that reads one partition of a topic.
    pub(in crate::kafka) fn reading() -> Status {
        Status {
            group: "readers".to_owned(),
            topics: vec!["numbers".to_owned()],
            state: State::Assigned,
            last_poll_age: 0.01,
            longest_poll_gap: 0.05,
            last_broker_error: None,
            denied_right: None,
            rebalancing: None,
            unusable_secrets: None,
            failure: None,
            failing_commits_age: None,
            refused: None,
            pending: Some(30),
            end_age: Some(2.5),
            brokers: vec![BrokerFigures { id: 1, round_trip: 0.025, throttle: 0.5, received_bytes: 1234 }],
            latency: Values::default(),
            dead_letters: Letters { waiting: 0, refused: 0, oldest_age: None },
            missing_topics: Vec::new(),
            unidentified_topics: BTreeSet::new(),
            unanswered_partitions: Vec::new(),
            unread_partitions: Vec::new(),
            partitions: vec![Partition {
                topic: "numbers".to_owned(),
                partition: 3,
                id: 3,
                position: Some(20),
                commit_point: Some(10),
                committed: Some(9),
                end: Some(40),
                lag: Some(30),
                held_records: 10,
                held_bytes: 1000,
                in_flight: 4,
                oldest_unacked: Some(Unacked { offset: 10, deliveries: 2, age: 1.5 }),
                starving_age: Some(7.5),
                waits: None,
                halted: None,
                refused: None,
            }],
            totals: super::super::counters::Counters::default().totals(),
        }
    }

    fn reason(change: impl FnOnce(&mut Status)) -> String {
        let mut status = reading();
        change(&mut status);
        status.ready().unwrap_err()
    }

    #[test]
    fn whoever_is_assigned_and_polls_is_ready() {
        reading().ready().unwrap();
        Status { state: State::Rebalancing, partitions: Vec::new(), last_poll_age: 5.0, ..reading() }.ready().unwrap();
    }

    #[test]
    fn whoever_is_not_ready_says_why() {
        assert_eq!(reason(|status| status.state = State::Draining), "draining");
        let failure = Some("a thread has panicked".to_owned());
        assert_eq!(
            reason(|status| (status.state, status.failure) = (State::Draining, failure)),
            "draining, as the source cannot go on: a thread has panicked"
        );
        let change = |age| Some(Rebalancing { waits_for: "the brokers' answer to a commit", age });
        assert_eq!(
            reason(|status| status.rebalancing = change(LONGEST_UNANSWERED + 1.0)),
            "a change of the assignment has not been answered for 61 s; it waits for the brokers' answer to a commit"
        );
        Status { rebalancing: change(LONGEST_UNANSWERED), ..reading() }.ready().unwrap();
        assert_eq!(
            reason(|status| status.last_poll_age = 6.6),
            "the thread that reads from Kafka has not polled for 7 s"
        );
        let wrong = Some(LastError { reason: "wrong password".to_owned(), age: 4.4 });
        assert_eq!(
            reason(|status| status.refused = wrong),
            "the brokers have refused this source for 4 s: wrong password"
        );
        let yet = "the group readers has not assigned partitions to this member yet";
        assert_eq!(reason(|status| status.state = State::Joining), yet);
        let refused = Some(LastError { reason: "connection refused".to_owned(), age: 1.0 });
        assert_eq!(
            reason(|status| (status.state, status.last_broker_error) = (State::Joining, refused)),
            format!("{yet}; last trouble with a broker: connection refused")
        );
        assert_eq!(
            reason(|status| status.partitions[0].halted = Some(12)),
            "numbers:3 stands still at offset 12: the log says why"
        );
        assert_eq!(
            reason(|status| status.denied_right = Some("READ on the group (readers)".to_owned())),
            "the brokers deny this user a right: READ on the group (readers)"
        );
        assert_eq!(
            reason(|status| status.partitions[0].starving_age = Some(61.5)),
            "numbers:3 has had records for 62 s that do not come"
        );
        let refused = "the dead-letter topic dead refuses the record (too large): raise its limit";
        assert_eq!(
            reason(|status| {
                status.partitions[0].halted = Some(12);
                status.partitions[0].refused = Some(refused.to_owned());
            }),
            format!("numbers:3 stands still at offset 12: {refused}")
        );
    }

    #[test]
    fn what_the_brokers_do_not_have_is_named() {
        let no_leader = "the partition has no leader: all its replicas are away";
        let missing =
            MissingTopic { topic: "orders".to_owned(), reason: "the topic does not exist".to_owned(), age: 12.0 };
        assert_eq!(
            reason(|status| (status.state, status.missing_topics) = (State::Joining, vec![missing])),
            "the topic orders has been missing for 12 s: the topic does not exist; create it, or correct --topics"
        );
        assert_eq!(
            reason(|status| status.partitions[0].waits = Some(no_leader.to_owned())),
            format!("numbers:3 is not read yet: {no_leader}")
        );
        let unread = Unread { topic: "numbers".to_owned(), partition: 1024, reason: "there is no id" };
        assert_eq!(
            reason(|status| status.unread_partitions = vec![unread]),
            "numbers:1024 is not read: there is no id"
        );
        let unanswered = |partition, age| UnansweredPartition {
            topic: "numbers".to_owned(),
            partition,
            reason: no_leader.to_owned(),
            age,
        };
        assert_eq!(
            reason(|status| status.unanswered_partitions = vec![unanswered(3, 61.0)]),
            format!("numbers:3 has no answer for 61 s: {no_leader}")
        );
        // A broker that restarts, and a partition of another member.
        let unanswered_partitions = vec![unanswered(3, 60.0), unanswered(4, 61.0)];
        Status { unanswered_partitions, ..reading() }.ready().unwrap();
    }
}
