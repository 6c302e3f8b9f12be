//! How the thread commits what may be committed, and what it makes of the brokers' answers.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::time::Instant;

use super::commit_scope::{self, Scope};
use super::context::{Committed, Context};
use super::lane::Lane;
use super::native::commit::commit;
use super::policy::Durability;
use super::rebalance::unstore;
use super::rights;
use super::thread::{TICK, Worker};

/// How long the answer to a commit is waited for before the group is left: well within the time that leaving may take.
const LAST_ANSWER: Duration = Duration::from_secs(2);

impl Worker {
    /// Stores the offsets that may be committed, where they have moved. The library commits what is stored, and refuses
    /// to store for a partition that is not ours: a late ack can't move another member's offset.
    pub(super) fn store(&mut self) {
        let mut moved = TopicPartitionList::new();
        {
            let assignment = self.shared.lock();
            for lane in &mut self.lanes {
                let Some(tracker) = assignment.tracker(lane.id) else { continue };
                if lane.store(assignment.commit_point(lane.id), &mut moved) {
                    let is_awaited = self.config.ack_durability == Durability::Committed;
                    self.commits.moved(tracker.is_idle() || is_awaited || lane.uncertain);
                }
            }
        }
        store(&self.consumer, &moved);
    }

    /// Commits what is stored.
    ///
    /// Of a topic that was made anew, the library would keep that to itself until it had passed the old offsets, which it
    /// may have of this process or of the group. So a partition's first commit is by name, and comes before the others.
    /// Where a commit was refused, it is by name too, for some of the topics: see `commit_scope`.
    pub(super) fn commit(&mut self, now: Instant) {
        self.commit_scopes.keep(|topic| self.lanes.iter().any(|lane| lane.topic == topic));
        let open = self.lanes.iter().filter(|lane| lane.has_unconfirmed()).map(|lane| &*lane.topic);
        let scope = self.commit_scopes.next(&open.collect());
        let uncertain = self.stored(|lane| lane.uncertain && scope.includes(&lane.topic));
        let are_uncertain = uncertain.count() > 0;
        let named = match scope {
            _ if are_uncertain => Some(uncertain),
            Scope::All => None,
            Scope::Without(_) | Scope::Only(_) => {
                Some(self.stored(|lane| lane.has_unconfirmed() && scope.includes(&lane.topic)))
            }
        };
        match commit(&self.consumer, named.as_ref()) {
            Ok(()) => {
                self.commits.sent(now);
                self.committing = self.lanes.iter().map(|lane| lane.id).collect();
            }
            Err(error) => tracing::debug!(%error, "nothing can be committed now"),
        }
        if named.is_some() {
            // The others come next. One that is refused waits for its turn.
            self.commits.moved(are_uncertain && !self.commit_scopes.any_refused());
        }
    }

    /// What is stored of these partitions.
    pub(super) fn stored(&self, which: impl Fn(&Lane) -> bool) -> TopicPartitionList {
        let mut stored = TopicPartitionList::new();
        for lane in self.lanes.iter().filter(|lane| which(lane)) {
            lane.add_stored(&mut stored);
        }
        stored
    }

    /// Tells what the brokers have answered to commits.
    pub(super) fn note_commits(&mut self) {
        for Committed { about, result } in self.consumer.context().take_commits() {
            let is_nothing = result == Err(RDKafkaErrorCode::NoOffset);
            let failed = result.err().filter(|_| !is_nothing);
            // The library commits by itself as partitions go, and its answer says nothing of the commit that is ours.
            let id = |(topic, partition, _): &(String, i32, _)| self.shared.topics.partition_id(topic, *partition);
            let is_ours = |place| id(place).is_some_and(|id| self.committing.contains(&id));
            if about.is_empty() || about.iter().any(is_ours) {
                self.commits.answered(failed.is_some());
            }
            if let Some(code) = failed {
                self.note_failed_commit(code, &about);
            } else if !is_nothing {
                self.note_committed(&about);
            }
            if failed.is_none() && !self.commit_scopes.any_refused() {
                self.shared.progress.trouble().commits_fail_since = None;
            }
        }
    }

    fn note_committed(&mut self, about: &[(String, i32, Option<i64>)]) {
        self.shared.counters.commits.add(1);
        self.consumer.context().note_served();
        self.commit_scopes.succeeded(&topics(about));
        self.shared.committed.send_modify(|committed| {
            for (topic, partition, offset) in about {
                let lane = self.lanes.iter_mut().find(|lane| lane.is(topic, *partition));
                if let (Some(lane), Some(offset)) = (lane, *offset)
                    && lane.note_committed(offset)
                {
                    committed.insert(lane.id, offset);
                    self.identities.note_committed(lane.id, offset);
                }
            }
        });
    }

    fn note_failed_commit(&mut self, code: RDKafkaErrorCode, about: &[(String, i32, Option<i64>)]) {
        self.shared.counters.failed_commits.add(1);
        self.shared.progress.trouble().commits_fail_since.get_or_insert_with(Instant::now);
        tracing::debug!(?code, "a commit did not succeed; it is tried again");
        let topics = topics(about);
        let mut is_named = true;
        if commit_scope::is_of_topic(code) {
            self.commit_scopes.refused(&topics);
            // The next commits find the refused topic among several.
            is_named = topics.len() == 1;
            self.commits.moved(!is_named);
        }
        // While a broker is away or a rebalance runs a failure is usual.
        let names = topics.into_iter().collect::<Vec<_>>().join(", ");
        if is_named && rights::missing(code, &names).is_some() {
            self.consumer.context().note_error(code, &format!("a commit of {names}"));
        }
    }

    /// Waits for the answer to the commit that is on its way, before the client library sends the last one as it leaves. Where
    /// none comes in time, the last one is left out: what was acked since then is delivered again.
    pub(super) fn await_commit(&mut self) {
        let deadline = Instant::now() + LAST_ANSWER;
        loop {
            self.note_commits();
            let now = Instant::now();
            if !self.commits.are_open(now) {
                return;
            }
            if now >= deadline || self.serve_events().is_err() {
                break;
            }
            self.shared.progress.poll(now);
            thread::park_timeout(TICK);
        }
        tracing::warn!(
            waited = ?LAST_ANSWER,
            "the brokers have not answered the last commit: what was acked since then is delivered again"
        );
        let mut partitions = TopicPartitionList::new();
        let ids: Vec<u16> = self.lanes.iter().map(|lane| lane.id).collect();
        for lane in &mut self.lanes {
            lane.unstore();
            partitions.add_partition(&lane.topic, lane.partition);
        }
        unstore(&self.consumer, &partitions);
        self.shared.lock().lose(&ids);
    }
}

/// Stores offsets, if there are any.
pub(super) fn store(consumer: &BaseConsumer<Context>, offsets: &TopicPartitionList) {
    if offsets.count() > 0
        && let Err(error) = consumer.store_offsets(offsets)
    {
        tracing::info!(%error, "offsets are not stored: a partition is not ours any more");
    }
}

/// The topics of these partitions.
fn topics(about: &[(String, i32, Option<i64>)]) -> BTreeSet<&str> {
    about.iter().map(|(topic, ..)| &**topic).collect()
}
