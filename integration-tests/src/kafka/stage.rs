//! What a run has on the broker for itself: a topic, a topic of dead letters, a group, and clients for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use super::Outcome;
use super::process::LOOK;

/// How long the broker may take for what an administrator asks.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic of the broker, and who reads it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) address: String,
    pub(super) topic: String,
    pub(super) group: String,
    partitions: AtomicI32,
}

impl Stage {
    /// Makes the topics.
    pub(super) fn new(address: String, name: &str, partitions: i32) -> Outcome<Self> {
        let group = format!("{name}-readers");
        let stage = Self { address, topic: name.to_owned(), group, partitions: AtomicI32::new(partitions) };
        let dead_letters = stage.dead_letter_topic();
        let topics = [
            NewTopic::new(&stage.topic, partitions, TopicReplication::Fixed(1)),
            NewTopic::new(&dead_letters, 1, TopicReplication::Fixed(1)),
        ];
        let created = wait_for(stage.admin()?.create_topics(&topics, &options()))?;
        each_is_ok(created)?;
        stage.wait_for_topics()?;
        Ok(stage)
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
        let wanted = NewPartitions::new(&self.topic, usize::try_from(partitions)?);
        each_is_ok(wait_for(self.admin()?.create_partitions([&wanted], &options()))?)?;
        self.partitions.store(partitions, Ordering::Relaxed);
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
        client.set("bootstrap.servers", &self.address).set("reconnect.backoff.max.ms", "500").set("log_level", "0");
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

    fn admin(&self) -> Outcome<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

fn each_is_ok(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Outcome<()> {
    for result in results {
        result.map_err(|(topic, error)| format!("the broker refuses what was asked for the topic {topic}: {error}"))?;
    }
    Ok(())
}

fn wait_for<T>(asked: impl Future<Output = rdkafka::error::KafkaResult<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(asked)?)
}
