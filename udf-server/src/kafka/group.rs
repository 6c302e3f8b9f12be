//! What the group as a whole has committed, and how much there is: asked by a client of its own, which never joins.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::Instant;

use super::brokers::Brokers;
use super::client::{self, StartError};
use super::config::KafkaConfig;
use super::context::Context;
use super::members::{self, Membership};
use super::secrets::renewed_client;
use super::selection::Selection;
use super::start::Start;

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

/// A client that looks at a group from outside.
pub(crate) struct Group {
    consumer: Arc<BaseConsumer<Context>>,
    config: KafkaConfig,
    name: String,
    start: Start,
    selection: Selection,
    topics: Vec<Topic>,
    refresh_interval: Duration,
    refreshed: Instant,
}

/// A topic that is read.
#[derive(Debug)]
struct Topic {
    name: String,
    partitions: i32,
    /// A pattern has found it after this process had started.
    is_new: bool,
    /// How many times in a row the brokers have not known it.
    missed: u32,
}

/// How many times in a row the brokers have not known a topic that is gone. A broker that has just started may not know
/// all of them yet.
const GONE: u32 = 2;

impl Group {
    /// Connects to the brokers.
    pub(crate) fn connect(config: &KafkaConfig) -> Result<Self, StartError> {
        let consumer = client::consumer(config)?;
        let selection = config.selection()?;
        let known = client::first_contact(config, &selection, &consumer)?;
        let topic = |(name, partitions)| Topic { name, partitions, is_new: false, missed: 0 };
        Ok(Self {
            consumer,
            config: config.clone(),
            name: config.group().to_owned(),
            start: config.start,
            selection,
            topics: known.into_iter().map(topic).collect(),
            refresh_interval: config.refresh_interval(),
            refreshed: Instant::now(),
        })
    }

    /// Asks with a new client from here on, if the files of secrets have changed.
    pub(super) fn renew(&mut self, renewed: &mut watch::Receiver<Option<Brokers>>) {
        if let Some(consumer) = renewed_client(&mut self.config, renewed) {
            self.consumer = consumer;
        }
    }

    /// The client that asks.
    pub(super) fn client(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// How many partitions all topics have together.
    pub(crate) fn total(&self) -> u32 {
        self.topics.iter().map(|topic| u32::try_from(topic.partitions).unwrap_or(0)).sum()
    }

    /// Whether topics are found by patterns.
    pub(super) fn has_patterns(&self) -> bool {
        self.selection.has_patterns()
    }

    /// The topics that are read, as far as they are known.
    pub(super) fn topics(&self) -> Vec<String> {
        self.topics.iter().map(|topic| topic.name.clone()).collect()
    }

    /// Whether a topic came after this process had started.
    pub(super) fn is_new(&self, topic: &str) -> bool {
        self.topics.iter().any(|known| known.name == topic && known.is_new)
    }

    /// Where every partition stands, beside the offsets that the brokers name for a question.
    pub(crate) fn resolved(&self, question: Offset) -> KafkaResult<Vec<(PartitionOffsets, Option<i64>)>> {
        let answers = self.ask(question)?;
        Ok(self.offsets()?.into_iter().zip(answers).collect())
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

    /// Asks which topics and partitions there are now, if that was not asked of late.
    pub(super) fn refresh_in_turn(&mut self, now: Instant) {
        if now.duration_since(self.refreshed) >= self.refresh_interval {
            self.refresh();
        }
    }

    /// Asks which topics and partitions there are now.
    pub(super) fn refresh(&mut self) {
        self.serve_events();
        self.refreshed = Instant::now();
        for topic in &mut self.topics {
            if self.selection.finds(&topic.name) {
                continue;
            }
            match client::partition_count(&self.consumer, &topic.name, TIMEOUT) {
                Ok(now) => topic.partitions = now,
                Err(code) => tracing::debug!(%code, topic = topic.name, "the number of partitions is not known"),
            }
        }
        if self.selection.has_patterns() {
            match client::found(&self.consumer, &self.selection, TIMEOUT) {
                Ok(found) => take_over(&mut self.topics, &self.selection, found),
                Err(code) => tracing::debug!(%code, "which topics there are is not known"),
            }
        }
    }

    /// What the group has committed of every partition.
    pub(crate) fn committed(&self) -> KafkaResult<Vec<Option<i64>>> {
        self.serve_events();
        each(&self.consumer.committed_offsets(self.partitions(), TIMEOUT)?)
    }

    /// Where every partition stands: two questions to the brokers, a third as long as some partition has no commit.
    pub(crate) fn offsets(&self) -> KafkaResult<Vec<PartitionOffsets>> {
        let committed = self.committed()?;
        let ends = self.ask(Offset::End)?;
        let starts = match self.start {
            Start::Earliest | Start::At(_) | Start::Ago(_) if committed.contains(&None) => {
                self.ask(self.start.question(SystemTime::now()))?
            }
            // Not looked at where everything is committed.
            Start::Latest | Start::Earliest | Start::At(_) | Start::Ago(_) => ends.clone(),
        };
        let partitions = self.partitions();
        let offsets = partitions.elements().into_iter().zip(committed).zip(ends.into_iter().zip(starts));
        Ok(offsets
            .map(|((element, committed), (end, start))| PartitionOffsets {
                topic: element.topic().to_owned(),
                partition: element.partition(),
                committed,
                // After the last record there is none of that time.
                start: start.or(end).unwrap_or(0),
                end: end.unwrap_or(0),
            })
            .collect())
    }

    fn ask(&self, which: Offset) -> KafkaResult<Vec<Option<i64>>> {
        let mut partitions = self.partitions();
        partitions.set_all_offsets(which)?;
        each(&self.consumer.offsets_for_times(partitions, TIMEOUT)?)
    }

    /// All partitions of all topics.
    pub(super) fn partitions(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for Topic { name, partitions, .. } in &self.topics {
            if *partitions > 0 {
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
    }
}

/// Takes over what patterns have found now.
fn take_over(topics: &mut Vec<Topic>, selection: &Selection, found: Vec<(String, i32)>) {
    for topic in topics.iter_mut().filter(|topic| selection.finds(&topic.name)) {
        topic.missed += 1;
    }
    for (name, partitions) in found {
        match topics.iter_mut().find(|topic| topic.name == name) {
            Some(topic) => (topic.partitions, topic.missed) = (partitions, 0),
            None => {
                tracing::info!(topic = name, partitions, "a topic is found");
                topics.push(Topic { name, partitions, is_new: true, missed: 0 });
            }
        }
    }
    for topic in topics.extract_if(.., |topic| topic.missed >= GONE) {
        tracing::info!(topic = topic.name, "a topic is gone");
    }
}

/// The offsets of a list, `None` where there is none; the first error of any partition.
fn each(list: &TopicPartitionList) -> KafkaResult<Vec<Option<i64>>> {
    list.elements()
        .iter()
        .map(|element| {
            element.error()?;
            match element.offset() {
                Offset::Offset(offset) => Ok(Some(offset)),
                Offset::Invalid | Offset::Stored | Offset::Beginning | Offset::End => Ok(None),
                Offset::OffsetTail(_) => Err(KafkaError::Canceled),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_when_they_are_found_and_go_when_they_are_missed_twice() {
        let selection = Selection::new(&["named".to_owned(), "^a".to_owned()], None).unwrap();
        let known = |name: &str| Topic { name: name.to_owned(), partitions: 1, is_new: false, missed: 0 };
        let mut topics = vec![known("named"), known("a1")];
        let mut find = |names: &[&str]| {
            take_over(&mut topics, &selection, names.iter().map(|name| ((*name).to_owned(), 3)).collect());
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
}
