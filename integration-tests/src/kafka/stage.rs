//! What a run has on the broker for itself: a topic, a topic of dead letters, a group, and clients for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_broker::{Broker, Cluster};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::Outcome;
use super::process::LOOK;

/// How long the broker may take for what an administrator asks.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a topic is kept by the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replication {
    /// By one: there are no others.
    Single,
    /// By three, of which two have to have a record.
    Safe,
    /// By three, of which one is enough. Where none is left that was in sync, a partition has no leader.
    Patient,
    /// By three, of which one is enough. Where none is left that was in sync, another one leads, and cuts the log.
    Unclean,
}

impl Replication {
    fn replicas(self) -> i32 {
        if self == Self::Single { 1 } else { 3 }
    }

    /// The topic's settings, by their names.
    pub(super) fn settings(self) -> [(&'static str, &'static str); 2] {
        let in_sync = if self == Self::Safe { "2" } else { "1" };
        let is_unclean = if self == Self::Unclean { "true" } else { "false" };
        [("min.insync.replicas", in_sync), ("unclean.leader.election.enable", is_unclean)]
    }
}

/// The brokers that a stage is on.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// Where the sources find them.
    pub(super) address: String,
    /// Where this program finds them, whatever is done to the sources' way.
    pub(super) direct: String,
    pub(super) replication: Replication,
}

impl Site {
    /// One broker.
    pub(super) fn of_broker(broker: &Broker) -> Self {
        Self { address: broker.address(), direct: broker.address(), replication: Replication::Single }
    }

    /// A cluster, with topics that it keeps like that.
    pub(super) fn of_cluster(cluster: &Cluster, replication: Replication) -> Self {
        Self { address: cluster.address(), direct: cluster.direct(), replication }
    }
}

/// A topic of the broker, and who reads it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) site: Site,
    pub(super) topic: String,
    pub(super) group: String,
    partitions: AtomicI32,
}

impl Stage {
    /// Makes the topics.
    pub(super) fn new(site: &Site, name: &str, partitions: i32) -> Outcome<Self> {
        let group = format!("{name}-readers");
        let stage = Self { site: site.clone(), topic: name.to_owned(), group, partitions: AtomicI32::new(partitions) };
        stage.create(&stage.topic, partitions, site.replication.replicas(), site.replication.settings())?;
        stage.create_dead_letters()?;
        stage.wait_for_topics()?;
        Ok(stage)
    }

    /// Deletes the topic, and waits until the brokers no longer know it.
    pub(super) fn delete_topic(&self) -> Outcome<()> {
        self.delete(&self.topic)
    }

    fn delete(&self, topic: &str) -> Outcome<()> {
        each_is_ok(wait_for(self.admin()?.delete_topics(&[topic], &options()))?)?;
        let onlooker = self.onlooker()?;
        let deadline = Instant::now() + PATIENCE;
        while onlooker.fetch_metadata(None, PATIENCE)?.topics().iter().any(|known| known.name() == topic) {
            if Instant::now() > deadline {
                return Err(format!("the brokers have deleted the topic {topic} and still know it").into());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Limits what a record of the dead-letter topic may have, in bytes, or lets it have as much as the brokers allow.
    pub(super) fn limit_dead_letters(&self, bytes: Option<u32>) -> Outcome<()> {
        let (topic, limit) = (self.dead_letter_topic(), bytes.map(|bytes| bytes.to_string()));
        let config = AlterConfig::new(ResourceSpecifier::Topic(&topic));
        let config = self.dead_letter_settings().fold(config, |config, (name, value)| config.set(name, value));
        let config = limit.iter().fold(config, |config, limit| config.set("max.message.bytes", limit));
        for altered in wait_for(self.admin()?.alter_configs([&config], &options()))? {
            altered.map_err(|(_, error)| format!("the brokers refuse settings of {topic}: {error}"))?;
        }
        Ok(())
    }

    /// Deletes the dead-letter topic.
    pub(super) fn delete_dead_letters(&self) -> Outcome<()> {
        self.delete(&self.dead_letter_topic())
    }

    /// Makes the dead-letter topic again.
    pub(super) fn make_dead_letters(&self) -> Outcome<()> {
        self.create_dead_letters()?;
        self.wait_for_topics()
    }

    fn create_dead_letters(&self) -> Outcome<()> {
        let replicas = self.dead_letter_replication().replicas();
        self.create(&self.dead_letter_topic(), 1, replicas, self.dead_letter_settings())
    }

    /// The settings of the dead-letter topic. Brokers note when they have written a letter, by which the verdict goes.
    fn dead_letter_settings(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.dead_letter_replication().settings().into_iter().chain([("message.timestamp.type", "LogAppendTime")])
    }

    /// A letter that was confirmed is never lost: what the source gave up is known by it.
    fn dead_letter_replication(&self) -> Replication {
        if self.site.replication == Replication::Single { Replication::Single } else { Replication::Safe }
    }

    /// Makes the topic again that was deleted, with as many partitions.
    pub(super) fn make_topic_again(&self) -> Outcome<()> {
        let replication = self.site.replication;
        self.create(&self.topic, self.partitions(), replication.replicas(), replication.settings())?;
        self.wait_for_topics()
    }

    /// Makes a topic.
    fn create<'a>(
        &self,
        name: &str,
        partitions: i32,
        replicas: i32,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Outcome<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let topic = settings.into_iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        each_is_ok(wait_for(self.admin()?.create_topics([&topic], &options()))?)
    }

    /// Waits until the broker tells clients of the topics, which is a little later than it has made them.
    fn wait_for_topics(&self) -> Outcome<()> {
        let onlooker = self.onlooker()?;
        let deadline = Instant::now() + PATIENCE;
        for topic in [&self.topic, &self.dead_letter_topic()] {
            while onlooker
                .fetch_metadata(Some(topic), PATIENCE)?
                .topics()
                .iter()
                .all(|known| known.partitions().is_empty())
            {
                if Instant::now() > deadline {
                    return Err(format!("the broker has made the topic {topic} and does not know it").into());
                }
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Makes another topic, of one partition and without records, for sources that read several.
    pub(super) fn make_beside(&self) -> Outcome<()> {
        let replication = self.site.replication;
        self.create(&self.topic_beside(), 1, replication.replicas(), replication.settings())
    }

    /// Deletes that topic.
    pub(super) fn delete_beside(&self) -> Outcome<()> {
        self.delete(&self.topic_beside())
    }

    /// The topic beside the one that has the records.
    pub(super) fn topic_beside(&self) -> String {
        format!("{}-beside", self.topic)
    }

    /// Where records go that are given up; it has one partition.
    pub(super) fn dead_letter_topic(&self) -> String {
        format!("{}-dead", self.topic)
    }

    /// How many partitions the topic has by now.
    pub(super) fn partitions(&self) -> i32 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Adds partitions.
    pub(super) fn grow(&self, by: i32) -> Outcome<()> {
        let partitions = self.partitions() + by;
        self.grow_without_records(partitions)?;
        self.partitions.store(partitions, Ordering::Relaxed);
        Ok(())
    }

    /// Adds partitions, up to so many in all, that get no records.
    pub(super) fn grow_without_records(&self, partitions: i32) -> Outcome<()> {
        let wanted = NewPartitions::new(&self.topic, usize::try_from(partitions)?);
        each_is_ok(wait_for(self.admin()?.create_partitions([&wanted], &options()))?)
    }

    /// Removes the records of the topic that are before these offsets, by partition.
    pub(super) fn remove_before(&self, offsets: &BTreeMap<i32, i64>) -> Outcome<()> {
        let mut partitions = TopicPartitionList::new();
        for (partition, offset) in offsets {
            partitions.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        for removed in wait_for(self.admin()?.delete_records(&partitions, &options()))?.elements() {
            removed.error()?;
        }
        Ok(())
    }

    /// Removes the topics, so that many runs on one broker do not fill the disk.
    pub(super) fn remove(&self) -> Outcome<()> {
        let dead_letters = self.dead_letter_topic();
        each_is_ok(wait_for(self.admin()?.delete_topics(&[&self.topic, &dead_letters], &options()))?)
    }

    /// What every client begins with. The log of the library is not ours: what matters comes as an error.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.site.direct).set("reconnect.backoff.max.ms", "500").set("log_level", "0");
        client
    }

    /// A client that asks about the group without being a member.
    pub(super) fn onlooker(&self) -> Outcome<BaseConsumer> {
        Ok(self.client().set("group.id", &self.group).set("enable.auto.commit", "false").create()?)
    }

    /// What the group has committed, by partition; partitions without a commit are missing.
    pub(super) fn committed(&self, onlooker: &BaseConsumer, patience: Duration) -> Outcome<BTreeMap<i32, i64>> {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(&self.topic, 0, self.partitions() - 1);
        let committed = onlooker.committed_offsets(partitions, patience)?;
        let mut offsets = BTreeMap::new();
        for element in committed.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }

    pub(super) fn admin(&self) -> Outcome<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

fn each_is_ok(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Outcome<()> {
    for result in results {
        result.map_err(|(topic, error)| format!("the broker refuses what was asked for the topic {topic}: {error}"))?;
    }
    Ok(())
}

pub(super) fn wait_for<T>(asked: impl Future<Output = rdkafka::error::KafkaResult<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(asked)?)
}
