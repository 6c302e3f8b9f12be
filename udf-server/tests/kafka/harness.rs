//! A broker, a topic with records, and a source with a client that plays the platform.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use numaflow_sdk::source::{Message, Offset, ReadRequest};
use numaflow_sdk::testing::{self, AckStream, ReadStream, SourceClient};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};
use tokio::time::Instant;
use udf_server::demo::EmbeddedBroker;
use udf_server::kafka::{Brokers, KafkaConfig, KafkaSource};

pub(crate) const TOPIC: &str = "numbers";
pub(crate) const GROUP: &str = "readers";
pub(crate) const PARTITIONS: i32 = 6;
/// Longer than anything takes that is going to happen at all. The embedded broker forms a group in six seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn broker() -> EmbeddedBroker {
    EmbeddedBroker::start(TOPIC, PARTITIONS).unwrap()
}

pub(crate) fn config(addresses: &str) -> KafkaConfig {
    // The embedded broker takes about a session timeout to form a group.
    let brokers = Brokers::new(addresses)
        .with_property("session.timeout.ms", "6000")
        .with_property("heartbeat.interval.ms", "200")
        .with_property("auto.commit.interval.ms", "100");
    KafkaConfig::new(brokers, TOPIC, GROUP)
}

pub(crate) async fn start(addresses: &str) -> KafkaSource {
    start_with(config(addresses)).await
}

pub(crate) async fn start_with(config: KafkaConfig) -> KafkaSource {
    tokio::task::spawn_blocking(move || KafkaSource::start(config)).await.unwrap().unwrap()
}

/// The platform, connected to a source.
pub(crate) struct Platform {
    pub(crate) client: SourceClient,
    pub(crate) reads: ReadStream,
    pub(crate) acks: AckStream,
}

impl Platform {
    pub(crate) async fn connect(source: &KafkaSource) -> Self {
        let client = testing::source(source.clone()).await.unwrap();
        let reads = client.read_stream().await.unwrap();
        let acks = client.ack_stream().await.unwrap();
        Self { client, reads, acks }
    }

    /// One read.
    pub(crate) async fn read(&mut self, count: usize, timeout: Duration) -> Vec<Message> {
        self.reads.read(ReadRequest::new(count, timeout)).await.unwrap()
    }

    /// Reads until there are `count` messages.
    pub(crate) async fn read_all(&mut self, count: usize) -> Vec<Message> {
        let deadline = Instant::now() + PATIENCE;
        let mut messages = Vec::new();
        while messages.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} messages came", messages.len());
            messages.extend(self.read(count - messages.len(), Duration::from_millis(500)).await);
        }
        messages
    }

    pub(crate) async fn ack<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) {
        let offsets = messages.into_iter().map(|message| message.offset().clone()).collect();
        self.acks.ack(offsets).await.unwrap();
    }
}

/// Produces `count` records to each partition, numbered from `first`; a value is `partition:number`.
pub(crate) fn fill(addresses: &str, first: i64, count: i64) {
    fill_partitions(addresses, 0..PARTITIONS, first, count);
}

/// As [`fill`], of these partitions.
pub(crate) fn fill_partitions(addresses: &str, partitions: Range<i32>, first: i64, count: i64) {
    let producer = producer(addresses);
    for number in first..first + count {
        for partition in partitions.clone() {
            let value = format!("{partition}:{number}");
            send(&producer, BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&value));
        }
    }
    producer.flush(PATIENCE).unwrap();
}

pub(crate) fn producer(addresses: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", addresses)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()
        .unwrap()
}

pub(crate) fn send<K, P>(producer: &BaseProducer, record: BaseRecord<'_, K, P>)
where
    K: rdkafka::message::ToBytes + ?Sized,
    P: rdkafka::message::ToBytes + ?Sized,
{
    assert!(producer.send(record).is_ok());
}

/// The partition and offset that a message's token says.
pub(crate) fn place(offset: &Offset) -> (i32, i64) {
    let text = str::from_utf8(offset.as_bytes()).unwrap();
    let mut parts = text.split(':');
    assert_eq!(parts.next(), Some(TOPIC));
    let place = (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap());
    assert_eq!(parts.next(), None);
    assert_eq!(offset.partition_id(), place.0);
    place
}

/// The smallest number of each partition that is not in `acked`; what the group may have committed at most.
pub(crate) fn prefixes(acked: &[(i32, i64)]) -> BTreeMap<i32, i64> {
    let prefix = |partition| (0..).find(|number| !acked.contains(&(partition, *number)));
    (0..PARTITIONS).map(|partition| (partition, prefix(partition).unwrap())).collect()
}

/// Looks at the group from outside, with a client of its own.
pub(crate) struct Sampler(BaseConsumer);

impl Sampler {
    pub(crate) fn new(addresses: &str) -> Self {
        let config = ClientConfig::new().set("bootstrap.servers", addresses).set("group.id", GROUP).clone();
        Self(config.create().unwrap())
    }

    /// What the group has committed; 0 for nothing.
    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(TOPIC, 0, PARTITIONS - 1);
        let committed = self.0.committed_offsets(partitions, PATIENCE).unwrap();
        let offset = |at| if let At::Offset(offset) = at { offset } else { 0 };
        committed.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect()
    }

    /// Samples until the group has committed this much. Each sample must be at most that.
    pub(crate) fn wait_for(&self, expected: &BTreeMap<i32, i64>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let committed = self.committed();
            for (partition, offset) in &committed {
                let most = expected[partition];
                assert!(*offset <= most, "partition {partition}: committed {offset} with {most} not acked");
            }
            if committed == *expected {
                return;
            }
            assert!(Instant::now() < deadline, "committed {committed:?}, expected {expected:?}");
        }
    }
}

/// All partitions at the same offset.
pub(crate) fn everywhere(offset: i64) -> BTreeMap<i32, i64> {
    (0..PARTITIONS).map(|partition| (partition, offset)).collect()
}
