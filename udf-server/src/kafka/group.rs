//! What the group as a whole has committed, and how much there is: asked by a client of its own, which never joins.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::Instant;

use super::brokers::Brokers;
use super::client::{self, StartError};
use super::config::KafkaConfig;
use super::context::Context;
use super::identity::TopicId;
use super::lookup::{self, Answer, Unanswered};
use super::members::{self, Membership};
use super::native::topic_ids::topic_ids;
use super::secrets::take_renewed;
use super::selection::Selection;
use super::start::Start;
use super::token::Topics;

/// How long the brokers have to answer one question.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Events of the client served before each question, or they would pile up.
const EVENTS: usize = 100;

/// Where one partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionOffsets {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What the group has committed: the offset of the first record that is not done.
    pub committed: Option<i64>,
    /// Where the group starts as long as it has committed nothing.
    pub start: i64,
    /// The offset after the last record.
    pub end: i64,
}

impl PartitionOffsets {
    /// How many records wait, given how far this process itself has come.
    pub(super) fn lag(&self, own: Option<i64>) -> u64 {
        self.lag_to(self.end, own)
    }

    /// As [`PartitionOffsets::lag`], where the end is known to be another by now.
    pub(super) fn lag_to(&self, end: i64, own: Option<i64>) -> u64 {
        let done = self.committed.unwrap_or(self.start).max(own.unwrap_or(0));
        u64::try_from(end.saturating_sub(done)).unwrap_or(0)
    }
}

/// A partition, or a topic as a whole, for which the brokers do not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoAnswer {
    pub(crate) topic: String,
    /// `None` for the topic as a whole.
    pub(crate) partition: Option<i32>,
    pub(crate) reason: Unanswered,
}

impl NoAnswer {
    /// Whether it is about this partition, or about this topic as a whole.
    pub(super) fn is(&self, topic: &str, partition: Option<i32>) -> bool {
        self.partition == partition && self.topic == topic
    }
}

/// Where the partitions stand that are read. Each is in one of the lists; those of a topic without an answer are in none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) known: Vec<PartitionOffsets>,
    pub(crate) unanswered: Vec<NoAnswer>,
}

/// A client that looks at a group from outside.
pub(crate) struct Group {
    consumer: Arc<BaseConsumer<Context>>,
    config: KafkaConfig,
    /// The client is older than the configuration: one with renewed secrets could not be made yet.
    is_outdated: bool,
    name: String,
    start: Start,
    selection: Selection,
    ids: Topics,
    topics: Vec<Topic>,
    refresh_interval: Duration,
    refreshed: Instant,
}

/// A topic that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Topic {
    name: String,
    partitions: i32,
    /// It came after this process had started.
    is_new: bool,
    /// The brokers have told of it since this process started.
    is_met: bool,
    /// How many times in a row the brokers have not told of it, and why not the last time.
    missed: u32,
    reason: Unanswered,
}

/// How many times in a row the brokers have not told of a topic that is gone. A broker that has just started may not know
/// all of them yet.
const GONE: u32 = 2;

impl Topic {
    /// A topic as the first answer has it. One that is missing then is missing at once.
    fn first(name: String, partitions: Result<i32, Unanswered>) -> Self {
        let (is_met, reason) = (partitions.is_ok(), partitions.err().unwrap_or(Unanswered::NoTopic));
        let missed = if is_met { 0 } else { GONE };
        Self { name, partitions: partitions.unwrap_or(0), is_new: false, is_met, missed, reason }
    }

    fn is_missing(&self) -> bool {
        self.missed >= GONE
    }

    /// Takes over what the brokers tell of the topic now.
    fn take_over(&mut self, partitions: Result<i32, Unanswered>) {
        match partitions {
            Ok(partitions) => {
                if self.is_missing() {
                    tracing::info!(topic = self.name, partitions, "the topic exists now");
                }
                // One that this user could not see may have been there all the time.
                self.is_new |= !self.is_met && self.reason == Unanswered::NoTopic;
                (self.partitions, self.is_met, self.missed) = (partitions, true, 0);
            }
            Err(reason) => (self.missed, self.reason) = (self.missed.saturating_add(1), reason),
        }
    }
}

impl Group {
    /// Connects to the brokers. Topics that do not exist are no error.
    pub(crate) fn connect(config: &KafkaConfig) -> Result<Self, StartError> {
        let consumer = client::consumer(config)?;
        let selection = config.selection()?;
        let known = client::first_contact(config, &selection, &consumer)?;
        let topic = |(name, partitions)| Topic::first(name, partitions);
        Ok(Self {
            consumer,
            config: config.clone(),
            is_outdated: false,
            name: config.group().to_owned(),
            start: config.start,
            selection,
            ids: config.ids(),
            topics: known.into_iter().map(topic).collect(),
            refresh_interval: config.refresh_interval(),
            refreshed: Instant::now(),
        })
    }

    /// As [`Group::connect`], where all topics that are named must exist.
    pub(crate) fn connect_to_existing(config: &KafkaConfig) -> Result<Self, StartError> {
        let group = Self::connect(config)?;
        let missing = group.topics.iter().find(|topic| topic.is_missing()).map(|topic| topic.name.clone());
        match missing {
            Some(topic) => Err(StartError::NoTopic { topic, brokers: config.brokers.addresses.clone() }),
            None => Ok(group),
        }
    }

    /// Asks with a new client from here on, if the files of secrets have changed.
    pub(super) fn renew(&mut self, renewed: &mut watch::Receiver<Option<Brokers>>) {
        self.is_outdated |= take_renewed(&mut self.config, renewed);
        if !self.is_outdated {
            return;
        }
        match client::consumer(&self.config) {
            Ok(consumer) => (self.consumer, self.is_outdated) = (consumer, false),
            Err(error) => tracing::error!(%error, "the client that asks for offsets cannot be made anew"),
        }
    }

    /// The addresses of the brokers.
    pub(super) fn brokers(&self) -> &str {
        self.config.brokers.addresses()
    }

    /// The client that asks.
    pub(super) fn client(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// How many partitions that can be read all topics have together.
    pub(crate) fn total(&self) -> u32 {
        let there = self.topics.iter().filter(|topic| !topic.is_missing());
        there.map(|topic| self.ids.readable(&topic.name, topic.partitions)).sum()
    }

    /// Whether there may be more topics than are known now.
    pub(super) fn may_grow(&self) -> bool {
        self.selection.has_patterns() || self.topics.iter().any(|topic| !topic.is_met)
    }

    /// The topics to subscribe to: those that exist, or did since this process started.
    pub(super) fn topics(&self) -> Vec<String> {
        self.topics.iter().filter(|topic| topic.is_met).map(|topic| topic.name.clone()).collect()
    }

    /// Topics that the brokers have not told of since this process started, and why not.
    pub(super) fn never_met(&self) -> impl Iterator<Item = (&str, Unanswered)> {
        self.topics.iter().filter(|topic| !topic.is_met).map(|topic| (topic.name.as_str(), topic.reason))
    }

    /// Whether a topic came after this process had started.
    pub(super) fn is_new(&self, topic: &str) -> bool {
        self.topics.iter().any(|known| known.name == topic && known.is_new)
    }

    /// Where the partitions stand, each beside the offset that the brokers name for a question.
    pub(super) fn resolved(&self, question: Offset) -> KafkaResult<(Offsets, Vec<Answer>)> {
        let offsets = self.offsets()?;
        let mut partitions = TopicPartitionList::new();
        for known in &offsets.known {
            partitions.add_partition_offset(&known.topic, known.partition, question)?;
        }
        Ok((offsets, lookup::offsets(&*self.consumer, &partitions)))
    }

    /// Who is in the group.
    pub(crate) fn members(&self) -> KafkaResult<Membership> {
        self.serve_events();
        members::membership(&self.consumer, &self.name, TIMEOUT)
    }

    /// Where the group starts as long as it has committed nothing.
    pub(super) fn start(&self) -> Start {
        self.start
    }

    /// Commits as somebody who is not in the group, which the brokers refuse while anybody is.
    pub(super) fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()> {
        self.serve_events();
        self.consumer.commit(offsets, CommitMode::Sync)
    }

    /// The ids of the topics that the brokers tell one of.
    pub(super) fn topic_ids(&self) -> Result<Vec<(String, TopicId)>, RDKafkaErrorCode> {
        self.serve_events();
        topic_ids(&self.consumer, self.topics.iter().map(|topic| &topic.name), TIMEOUT)
    }

    /// Asks which topics and partitions there are now, if that was not asked of late, or some had no answer the last time.
    pub(super) fn refresh_in_turn(&mut self, has_unanswered: bool, now: Instant) {
        if has_unanswered || now.duration_since(self.refreshed) >= self.refresh_interval {
            self.refresh();
        }
    }

    /// Asks which topics and partitions there are now.
    pub(super) fn refresh(&mut self) {
        self.serve_events();
        self.refreshed = Instant::now();
        let ask = |topic: &str| client::partitions_of(&self.consumer, topic, TIMEOUT);
        let named = self.topics.iter_mut().filter(|topic| !self.selection.finds(&topic.name));
        if !ask_by_name(named, ask) {
            return;
        }
        if self.selection.has_patterns() {
            match client::found(&self.consumer, &self.selection, TIMEOUT) {
                Ok(found) => take_over(&mut self.topics, &self.selection, found, ask),
                Err(code) => tracing::debug!(%code, "which topics there are is not known"),
            }
        }
    }

    /// What the group has committed of every partition.
    pub(crate) fn committed(&self) -> KafkaResult<Vec<Option<i64>>> {
        let committed = self.committed_list()?;
        Ok(committed.elements().iter().map(|element| lookup::offset(element).ok().flatten()).collect())
    }

    fn committed_list(&self) -> KafkaResult<TopicPartitionList> {
        self.serve_events();
        let partitions = self.partitions();
        // The library takes an empty list for a mistake.
        if partitions.count() == 0 {
            return Ok(partitions);
        }
        self.consumer.committed_offsets(partitions, TIMEOUT)
    }

    /// Where the partitions stand: two questions to the brokers, a third as long as some partition has no commit.
    pub(crate) fn offsets(&self) -> KafkaResult<Offsets> {
        let committed = self.committed_list()?;
        let committed: Vec<_> = committed.elements().iter().map(Answer::of).collect();
        let mut partitions = self.partitions();
        partitions.set_all_offsets(Offset::End)?;
        let ends = lookup::offsets(&*self.consumer, &partitions);
        let starts = match self.start {
            // No record is later than the last one: `together` starts at the end.
            Start::Latest => Vec::new(),
            Start::Earliest | Start::At(_) | Start::Ago(_) => {
                let question = self.start.question(SystemTime::now());
                let mut partitions = TopicPartitionList::new();
                for answer in committed.iter().filter(|answer| answer.offset == Ok(None)) {
                    partitions.add_partition_offset(&answer.topic, answer.partition, question)?;
                }
                lookup::offsets(&*self.consumer, &partitions)
            }
        };
        let mut offsets = together(&committed, &ends, &starts);
        let missing = self.topics.iter().filter(|topic| topic.is_missing());
        offsets.unanswered.extend(missing.map(|topic| NoAnswer {
            topic: topic.name.clone(),
            partition: None,
            reason: topic.reason,
        }));
        Ok(offsets)
    }

    /// All partitions of the topics that exist.
    pub(super) fn partitions(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for topic @ Topic { name, partitions, .. } in &self.topics {
            if *partitions > 0 && !topic.is_missing() {
                list.add_partition_range(name, 0, partitions - 1);
            }
        }
        list
    }

    fn serve_events(&self) {
        for _ in 0..EVENTS {
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                tracing::debug!(%error, "while looking at the group");
            }
        }
        self.consumer.context().bootstrap.repeat_if_due(self.consumer.client(), &self.config.brokers);
    }
}

/// Asks the brokers for each of these topics; `false` if they do not answer, so that the rest was not asked for.
fn ask_by_name<'a>(
    topics: impl Iterator<Item = &'a mut Topic>,
    ask: impl Fn(&str) -> Result<Result<i32, Unanswered>, RDKafkaErrorCode>,
) -> bool {
    for topic in topics {
        match ask(&topic.name) {
            Ok(now) => topic.take_over(now),
            Err(code) => {
                tracing::debug!(%code, topic = topic.name, "the number of partitions is not known");
                if lookup::is_of_broker(code) {
                    return false;
                }
            }
        }
    }
    true
}

/// Takes over what patterns have found now. A topic that they found before and not now is asked for by its name: brokers leave out
/// a topic that this user may no longer see, and say so only to that question. Such a topic stays.
fn take_over(
    topics: &mut Vec<Topic>,
    selection: &Selection,
    found: Vec<(String, i32)>,
    ask: impl Fn(&str) -> Result<Result<i32, Unanswered>, RDKafkaErrorCode>,
) {
    let is_found: HashSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let absent = topics.iter_mut().filter(|topic| selection.finds(&topic.name) && !is_found.contains(&*topic.name));
    ask_by_name(absent, ask);
    for (name, partitions) in found {
        match topics.iter_mut().find(|topic| topic.name == name) {
            Some(topic) => (topic.partitions, topic.missed) = (partitions, 0),
            None => {
                tracing::info!(topic = name, partitions, "a topic is found");
                topics.push(Topic { is_new: true, ..Topic::first(name, Ok(partitions)) });
            }
        }
    }
    for topic in topics.extract_if(.., |topic| topic.is_missing() && selection.finds(&topic.name)) {
        tracing::info!(topic = topic.name, "a topic is gone");
    }
}

/// What is known of each partition, from what is committed, the ends and the starts of those that have no commit.
fn together(committed: &[Answer], ends: &[Answer], starts: &[Answer]) -> Offsets {
    let by_place = |answers: &[Answer]| -> BTreeMap<(String, i32), Result<Option<i64>, Unanswered>> {
        answers.iter().map(|answer| ((answer.topic.clone(), answer.partition), answer.offset)).collect()
    };
    let (ends, starts) = (by_place(ends), by_place(starts));
    let mut offsets = Offsets::default();
    for Answer { topic, partition, offset: committed } in committed {
        let place = (topic.clone(), *partition);
        let known = || {
            let end = ends.get(&place).copied().unwrap_or(Ok(None))?.unwrap_or(0);
            // Without an answer the start is the end: a partition with a commit was not asked for, and no record may be as late
            // as the time that was.
            let start = starts.get(&place).copied().unwrap_or(Ok(None))?.unwrap_or(end);
            let (topic, partition) = place.clone();
            Ok(PartitionOffsets { topic, partition, committed: (*committed)?, start, end })
        };
        match known() {
            Ok(known) => offsets.known.push(known),
            Err(reason) => {
                offsets.unanswered.push(NoAnswer { topic: topic.clone(), partition: Some(*partition), reason });
            }
        }
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_when_they_are_found_and_go_when_they_are_missed_twice() {
        let selection = Selection::new(&["named".to_owned(), "^a".to_owned()], None).unwrap();
        let known = |name: &str| Topic::first(name.to_owned(), Ok(1));
        let mut topics = vec![known("named"), known("a1")];
        let mut find = |names: &[&str]| {
            let found = names.iter().map(|name| ((*name).to_owned(), 3)).collect();
            take_over(&mut topics, &selection, found, |_| Ok(Err(Unanswered::NoTopic)));
            topics
                .iter()
                .map(|topic| format!("{} {} {}", topic.name, topic.partitions, topic.is_new))
                .collect::<Vec<_>>()
        };
        assert_eq!(find(&["a2"]), ["named 1 false", "a1 1 false", "a2 3 true"]);
        assert_eq!(find(&["a1"]), ["named 1 false", "a1 3 false", "a2 3 true"]);
        assert_eq!(find(&["a1"]), ["named 1 false", "a1 3 false"]);
        assert_eq!(find(&["a1", "a2"]), ["named 1 false", "a1 3 false", "a2 3 true"]);
    }

    #[test]
    fn a_topic_that_may_no_longer_be_seen_is_not_gone() {
        let selection = Selection::new(&["^a".to_owned()], None).unwrap();
        let mut topics = vec![Topic::first("a1".to_owned(), Ok(3)), Topic::first("a2".to_owned(), Ok(3))];
        let before = topics.clone();
        for _ in 0..3 {
            take_over(&mut topics, &selection, vec![("a1".to_owned(), 3)], |topic| {
                assert_eq!(topic, "a2");
                Err(RDKafkaErrorCode::TopicAuthorizationFailed)
            });
            assert_eq!(topics, before);
        }
    }

    #[test]
    fn a_topic_that_is_missing_at_the_start_is_new_when_it_comes() {
        let mut topic = Topic::first("t".to_owned(), Err(Unanswered::NoTopic));
        assert!(topic.is_missing() && !topic.is_met);
        topic.take_over(Ok(3));
        assert!(!topic.is_missing() && topic.is_met && topic.is_new);
        assert_eq!(topic.partitions, 3);
    }

    #[test]
    fn a_topic_that_is_deleted_is_missing_after_two_looks_and_not_new_when_it_comes_again() {
        let mut topic = Topic::first("t".to_owned(), Ok(3));
        topic.take_over(Err(Unanswered::NoTopic));
        assert!(!topic.is_missing(), "a broker that has just started does not know all topics");
        topic.take_over(Err(Unanswered::NoTopic));
        assert!(topic.is_missing() && topic.is_met);
        topic.take_over(Ok(2));
        assert!(!topic.is_missing() && !topic.is_new);
    }

    #[test]
    fn each_partition_is_known_by_itself() {
        let answer = |topic: &str, partition, offset| Answer { topic: topic.to_owned(), partition, offset };
        let no_leader = Err(Unanswered::NoLeader);
        let failed = Err(Unanswered::Code(RDKafkaErrorCode::TopicAuthorizationFailed));
        let committed = [
            answer("a", 0, Ok(Some(7))),
            answer("a", 1, Ok(Some(7))),
            answer("b", 0, Ok(None)),
            answer("b", 1, Ok(None)),
            answer("b", 2, failed),
        ];
        let ends = [
            answer("a", 1, no_leader),
            answer("a", 0, Ok(Some(10))),
            answer("b", 0, Ok(Some(20))),
            answer("b", 1, Ok(Some(20))),
            answer("b", 2, Ok(Some(20))),
        ];
        let starts = [answer("b", 0, Ok(Some(5))), answer("b", 1, no_leader)];
        let offsets = together(&committed, &ends, &starts);
        let known = |topic: &str, partition, committed, start, end| PartitionOffsets {
            topic: topic.to_owned(),
            partition,
            committed,
            start,
            end,
        };
        assert_eq!(offsets.known, [known("a", 0, Some(7), 10, 10), known("b", 0, None, 5, 20)]);
        let reasons: Vec<_> = offsets.unanswered.iter().map(|it| (&*it.topic, it.partition, it.reason)).collect();
        let denied = Unanswered::Code(RDKafkaErrorCode::TopicAuthorizationFailed);
        let no_leader = Unanswered::NoLeader;
        assert_eq!(reasons, [("a", Some(1), no_leader), ("b", Some(1), no_leader), ("b", Some(2), denied)]);
    }
}
