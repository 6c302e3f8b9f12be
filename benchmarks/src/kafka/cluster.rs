//! Apache Kafka for a run, and the topics in it.

use std::cell::Cell;
use std::error::Error;
use std::time::{Duration, Instant};

use kafka_broker::{Broker, Options};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::time::sleep;

use crate::Outcome;
use crate::reading::NUMBER;
use crate::serve::Topic;

/// How long Kafka may take for anything, or not get on with anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);
/// The key of every record, as the generated records have it.
const KEY: &str = "key";

/// A broker with its topics. Dropped, it is gone with all that is in it.
pub(super) struct Cluster {
    broker: Broker,
    admin: AdminClient<DefaultClientContext>,
    partitions: u16,
    numbers: Cell<u32>,
}

impl Cluster {
    /// Starts a broker whose topics are to have so many partitions.
    pub(super) async fn start(partitions: u16) -> Outcome<Self> {
        let options = Options::new().with_heap("1g").with_full_jit();
        let started = tokio::task::spawn_blocking(|| Broker::start(options)).await?;
        let broker = started.map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })?;
        let admin = ClientConfig::new().set("bootstrap.servers", broker.address()).create()?;
        Ok(Self { broker, admin, partitions, numbers: Cell::new(0) })
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A topic of this name for a group that has never been.
    pub(super) fn topic(&self, name: &str) -> Topic {
        Topic { broker: self.broker.address(), topic: name.to_owned(), group: format!("group-{}", self.number()) }
    }

    /// A topic that has never been, its name beginning like this, for a group that has never been.
    pub(super) fn new_topic(&self, name: &str) -> Topic {
        self.topic(&format!("{name}-{}", self.number()))
    }

    /// Another one every time.
    fn number(&self) -> u32 {
        self.numbers.replace(self.numbers.get() + 1)
    }

    /// Makes a topic, and something that writes to it. Records wait for `linger` milliseconds for others to go with.
    pub(super) async fn create(&self, name: &str, linger: &str) -> Outcome<Producer> {
        let topic = NewTopic::new(name, i32::from(self.partitions), TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        for created in self.admin.create_topics(&[topic], &options).await? {
            created.map_err(|(name, error)| format!("Kafka does not make the topic {name}: {error}"))?;
        }
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.address())
            .set("enable.idempotence", "true")
            .set("compression.type", "none")
            .set("linger.ms", linger)
            .create()?;
        let producer = Producer { producer, topic: name.to_owned(), partitions: i32::from(self.partitions), next: 0 };
        producer.until("have the topic", Producer::is_known).await?;
        Ok(producer)
    }

    /// Makes a topic with so many records of so many bytes, evenly over its partitions.
    pub(super) async fn fill(&self, name: &str, value_size: usize, records: u64) -> Outcome<()> {
        let mut producer = self.create(name, "20").await?;
        let mut value = vec![b'x'; value_size];
        for number in 0..records {
            value[..NUMBER].copy_from_slice(&number.to_le_bytes());
            while !producer.send(&value)? {
                // Nothing else is to be done meanwhile.
                producer.producer.poll(LOOK);
            }
        }
        producer.flush().await?;
        let found = producer.count()?;
        if found == records { Ok(()) } else { Err(format!("Kafka has {found} records of {records}").into()) }
    }
}

/// Writes to one topic, to its partitions in turn.
pub(super) struct Producer {
    producer: BaseProducer,
    topic: String,
    partitions: i32,
    /// The partition of the next record.
    next: i32,
}

impl Producer {
    /// Hands a record to the client library, unless its queue is full.
    pub(super) fn send(&mut self, value: &[u8]) -> Outcome<bool> {
        let record = BaseRecord::to(&self.topic).partition(self.next).key(KEY).payload(value);
        let sent = self.producer.send(record);
        match sent {
            Ok(()) => {
                self.next = (self.next + 1) % self.partitions;
                Ok(true)
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((error, _)) => Err(error.into()),
        }
    }

    /// Waits until the broker has all that was sent.
    pub(super) async fn flush(&self) -> Outcome<()> {
        self.until("take the records", |producer| {
            producer.producer.poll(LOOK);
            Ok(producer.producer.in_flight_count() == 0)
        })
        .await
    }

    /// How many records the topic has.
    fn count(&self) -> Outcome<u64> {
        let mut count = 0;
        for partition in 0..self.partitions {
            let (low, high) = self.producer.client().fetch_watermarks(&self.topic, partition, PATIENCE)?;
            count += u64::try_from(high - low)?;
        }
        Ok(count)
    }

    fn is_known(&self) -> Outcome<bool> {
        let metadata = self.producer.client().fetch_metadata(Some(&self.topic), PATIENCE)?;
        let topic = metadata.topics().first().filter(|topic| topic.error().is_none());
        let led = topic.map_or(0, |topic| topic.partitions().iter().filter(|part| part.leader() >= 0).count());
        Ok(led == usize::try_from(self.partitions)?)
    }

    async fn until(&self, what: &str, so: impl Fn(&Self) -> Outcome<bool>) -> Outcome<()> {
        let started = Instant::now();
        while !so(self)? {
            if started.elapsed() > PATIENCE {
                return Err(format!("Kafka does not {what} within {PATIENCE:?}").into());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}
