//! The broker that all share, a topic and a group for each test, and a client that plays the platform.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use kafka_broker::{Broker, Cluster, Listener, Options, Security};
use numaflow_sdk::NackOptions;
use numaflow_sdk::source::{Message, NackOffset, ReadRequest};
use numaflow_sdk::testing::{self, AckStream, ReadStream, SourceClient};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{OwnedMessage, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};
use tokio::task::block_in_place;
use tokio::time::Instant;
use udf_server::kafka::{Brokers, GroupProtocol, KafkaConfig, KafkaSource};

/// Longer than anything takes that is going to happen at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Started by the first test that runs; gone with the last.
#[derive(Debug, Default)]
pub(crate) struct SharedBroker(OnceLock<Result<Broker, String>>);

impl SharedBroker {
    pub(crate) fn address(&self) -> Result<String, String> {
        let start = || Broker::start(Options::new()).map_err(|error| error.to_string());
        self.0.get_or_init(start).as_ref().map(Broker::address).map_err(Clone::clone)
    }
}

/// A broker with a login for one user, `me`. The user has no rights at first.
pub(crate) struct Guarded(Broker);

impl Guarded {
    pub(crate) fn start() -> Self {
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required user_me=\"secret\";";
        let login = Listener::new("LOGIN", Security::Sasl)
            .with_property("sasl.enabled.mechanisms", "PLAIN")
            .with_property("plain.sasl.jaas.config", jaas);
        let options = Options::new()
            .with_property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .with_property("super.users", "User:ANONYMOUS")
            .with_listener(login);
        Self(Broker::start(options).unwrap())
    }

    /// A topic of the broker. Its own clients do not log in, and have all rights.
    pub(crate) fn stage(&self, topic: &str) -> Stage {
        Stage::new(self.0.address(), topic.to_owned())
    }

    /// Two topics that one group is to read, with five records in a partition each.
    pub(crate) async fn two_topics(&self) -> [Stage; 2] {
        let read = self.stage("read");
        let denied = Stage { topic: "denied".to_owned(), ..read.in_group(&read.group) };
        for stage in [&read, &denied] {
            stage.create_topic(1).await;
            stage.fill(1, 0, 5);
        }
        [read, denied]
    }

    /// The address of the listener that asks for a login.
    pub(crate) fn address(&self) -> String {
        self.0.listener("LOGIN").unwrap()
    }

    /// The properties that log in as `me`.
    pub(crate) fn login() -> [(&'static str, &'static str); 4] {
        [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "me"),
            ("sasl.password", "secret"),
        ]
    }

    /// A source that logs in as `me`, is told of changes soon, and commits often.
    pub(crate) fn config(&self, stage: &Stage, topics: &[&str]) -> KafkaConfig {
        let brokers = Brokers::new(self.address())
            .with_property("auto.commit.interval.ms", "100")
            .with_property("topic.metadata.refresh.interval.ms", "2000");
        let login = Self::login().into_iter();
        let brokers = login.fold(brokers, |brokers, (name, value)| brokers.with_property(name, value));
        KafkaConfig::new(brokers, &stage.topic, &stage.group).with_topics(topics.iter().copied())
    }

    /// Gives `me` rights.
    pub(crate) fn allow(&self, rights: &[&str]) {
        self.change_rights(&["--add", "--allow-principal", "User:me"], rights);
    }

    /// Takes rights from `me`, whatever else gives them.
    pub(crate) fn deny(&self, rights: &[&str]) {
        self.change_rights(&["--add", "--deny-principal", "User:me"], rights);
    }

    /// Undoes [`Guarded::deny`].
    pub(crate) fn deny_no_more(&self, rights: &[&str]) {
        self.change_rights(&["--remove", "--force", "--deny-principal", "User:me"], rights);
    }

    fn change_rights(&self, change: &[&str], rights: &[&str]) {
        let server = self.0.address();
        let arguments = [&["--bootstrap-server", &*server], change, rights].concat();
        let output = self.0.tool("org.apache.kafka.tools.AclCommand", arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// A cluster that may go while async code runs: its proxy waits for its own threads.
pub(crate) struct Nodes(Option<Cluster>);

impl Nodes {
    pub(crate) fn start(count: u32) -> Self {
        Self(Some(block_in_place(|| Cluster::start(count, &Options::new()).unwrap())))
    }

    pub(crate) fn cluster(&mut self) -> &mut Cluster {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        block_in_place(|| drop(self.0.take()));
    }
}

/// Where a partition and an offset are.
pub(crate) type Place = (i32, i64);

/// What one test has for itself.
pub(crate) struct Stage {
    pub(crate) address: String,
    pub(crate) topic: String,
    pub(crate) group: String,
}

impl Stage {
    pub(crate) fn new(address: String, topic: String) -> Self {
        let group = format!("readers of {topic}");
        Self { address, topic, group }
    }

    /// The same with another topic, which does not exist yet.
    pub(crate) fn beside(&self, name: &str) -> Self {
        Self { topic: format!("{}.{name}", self.topic), address: self.address.clone(), group: self.group.clone() }
    }

    /// The same with another group.
    pub(crate) fn in_group(&self, name: &str) -> Self {
        Self { group: name.to_owned(), address: self.address.clone(), topic: self.topic.clone() }
    }

    /// A source that is told of changes soon, and commits often.
    pub(crate) fn config(&self) -> KafkaConfig {
        self.config_with_interval("100")
    }

    /// As [`Stage::config`], but it commits after so many milliseconds.
    pub(crate) fn config_with_interval(&self, millis: &str) -> KafkaConfig {
        let brokers = Brokers::new(&self.address)
            .with_property("session.timeout.ms", "6000")
            .with_property("heartbeat.interval.ms", "200")
            .with_property("topic.metadata.refresh.interval.ms", "2000")
            .with_property("auto.commit.interval.ms", millis);
        // A test that leaves records unacked does not want to wait for them.
        KafkaConfig::new(brokers, &self.topic, &self.group).with_revoke_timeout(Duration::from_millis(100))
    }

    /// A source with the defaults, but for the group's protocol, to which what [`Stage::config`] sets may mean nothing.
    pub(crate) fn config_by(&self, protocol: GroupProtocol) -> KafkaConfig {
        KafkaConfig::new(Brokers::new(&self.address), &self.topic, &self.group).with_group_protocol(protocol)
    }

    pub(crate) async fn start(&self) -> KafkaSource {
        start(self.config()).await
    }

    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::new().set("bootstrap.servers", &self.address).clone()
    }

    pub(crate) async fn create_topic(&self, partitions: i32) {
        self.create_topic_with(partitions, &[]).await;
    }

    /// Creates the topic with settings of its own.
    pub(crate) async fn create_topic_with(&self, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let created = self.admin().create_topics([&topic], &options()).await.unwrap();
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        // The brokers tell of it a moment later.
        let (consumer, deadline): (BaseConsumer, _) = (self.client().create().unwrap(), deadline());
        let is_there = || {
            let metadata = answer(|| consumer.fetch_metadata(Some(&self.topic), PATIENCE));
            metadata.topics().iter().any(|topic| topic.partitions().len() == usize::try_from(partitions).unwrap())
        };
        while !is_there() {
            assert!(Instant::now() < deadline);
        }
    }

    /// Changes settings of the topic; those that are not named go back to their defaults.
    pub(crate) async fn set_topic(&self, settings: &[(&str, &str)]) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(&self.topic));
        let config = settings.iter().fold(config, |config, (name, value)| config.set(name, value));
        let changed = self.admin().alter_configs([&config], &options()).await.unwrap();
        assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    }

    pub(crate) async fn delete_topic(&self) {
        let deleted = self.admin().delete_topics(&[&self.topic], &options()).await.unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Adds partitions until there are so many.
    pub(crate) async fn grow_topic(&self, partitions: usize) {
        let partitions = NewPartitions::new(&self.topic, partitions);
        let grown = self.admin().create_partitions([&partitions], &options()).await.unwrap();
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    }

    /// Removes what a partition has before an offset, as retention does.
    pub(crate) async fn delete_records(&self, partition: i32, before: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.topic, partition, At::Offset(before)).unwrap();
        let deleted = self.admin().delete_records(&offsets, &options()).await.unwrap();
        assert_eq!(deleted.elements()[0].offset(), At::Offset(before), "{deleted:?}");
    }

    /// The first records of partition 0, read by a client of its own.
    pub(crate) fn records(&self, count: usize) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer = self.client().set("group.id", "onlookers").create().unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(&self.topic, 0, At::Beginning).unwrap();
        consumer.assign(&partitions).unwrap();
        let next = |_| consumer.poll(PATIENCE).unwrap().unwrap().detach();
        (0..count).map(next).collect()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    pub(crate) fn producer(&self) -> BaseProducer {
        self.client().set("enable.idempotence", "true").set("linger.ms", "0").create().unwrap()
    }

    /// A producer whose records are part of transactions.
    pub(crate) fn transactions(&self) -> BaseProducer {
        let mut config = self.client();
        let producer: BaseProducer =
            config.set("transactional.id", &self.topic).set("linger.ms", "0").create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer
    }

    /// Produces a record to a partition.
    pub(crate) fn send(&self, producer: &BaseProducer, partition: i32, value: &str) {
        send(producer, BaseRecord::<(), str>::to(&self.topic).partition(partition).payload(value));
    }

    /// Produces records to the partitions 0 to `partitions`, numbered from `first`; a value is `partition:number`.
    pub(crate) fn fill(&self, partitions: i32, first: i64, count: i64) {
        let producer = self.producer();
        for number in first..first + count {
            for partition in 0..partitions {
                self.send(&producer, partition, &format!("{partition}:{number}"));
            }
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// The partition and offset that a message's token says.
    pub(crate) fn place(&self, message: &Message) -> Place {
        let text = str::from_utf8(message.offset().as_bytes()).unwrap();
        let mut parts = text.split(':');
        assert_eq!(parts.next(), Some(&*self.topic));
        let place: Place = (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap());
        assert_eq!(parts.next(), None);
        assert_eq!(message.offset().partition_id(), place.0);
        place
    }

    /// Where messages are, in order.
    pub(crate) fn places<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) -> Vec<Place> {
        let mut places: Vec<_> = messages.into_iter().map(|message| self.place(message)).collect();
        places.sort_unstable();
        places
    }

    pub(crate) fn sampler(&self, partitions: i32) -> Sampler {
        let consumer = self.client().set("group.id", &self.group).create().unwrap();
        Sampler { consumer, topic: self.topic.clone(), partitions }
    }
}

pub(crate) async fn start(config: KafkaConfig) -> KafkaSource {
    tokio::task::spawn_blocking(move || KafkaSource::start(config)).await.unwrap().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE))
}

pub(crate) fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(producer: &BaseProducer, record: BaseRecord<'_, K, P>) {
    producer.send(record).map_err(|(error, _)| error).unwrap();
}

/// The platform, connected to a source.
pub(crate) struct Platform {
    pub(crate) client: SourceClient,
    pub(crate) reads: ReadStream,
    pub(crate) acks: AckStream,
}

impl Platform {
    pub(crate) async fn connect(source: &KafkaSource) -> Self {
        Self::over(testing::source(source.clone()).await.unwrap()).await
    }

    pub(crate) async fn over(client: SourceClient) -> Self {
        let reads = client.read_stream().await.unwrap();
        let acks = client.ack_stream().await.unwrap();
        Self { client, reads, acks }
    }

    /// One read.
    pub(crate) async fn read(&mut self, count: usize, timeout: Duration) -> Vec<Message> {
        self.reads.read(ReadRequest::new(count, timeout)).await.unwrap()
    }

    /// What a short read brings, acked.
    pub(crate) async fn read_and_ack(&mut self) -> Vec<Message> {
        let messages = self.read(500, Duration::from_millis(100)).await;
        self.ack(&messages).await;
        messages
    }

    /// Reads until there are `count` messages.
    pub(crate) async fn read_all(&mut self, count: usize) -> Vec<Message> {
        let deadline = deadline();
        let mut messages = Vec::new();
        while messages.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} messages came", messages.len());
            messages.extend(self.read(count - messages.len(), Duration::from_millis(500)).await);
        }
        messages
    }

    pub(crate) async fn ack<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) {
        let offsets: Vec<_> = messages.into_iter().map(|message| message.offset().clone()).collect();
        if !offsets.is_empty() {
            self.acks.ack(offsets).await.unwrap();
        }
    }

    pub(crate) async fn nack<'a>(&self, messages: impl IntoIterator<Item = &'a Message>, options: NackOptions) {
        let nack = |message: &Message| NackOffset::new(message.offset().clone(), options.clone());
        self.client.nack(messages.into_iter().map(nack).collect()).await.unwrap();
    }

    /// How many partitions the source has.
    pub(crate) async fn assigned(&self) -> usize {
        self.client.partitions().await.unwrap().active.len()
    }

    /// Waits until the source has so many partitions. Nothing is to come meanwhile.
    pub(crate) async fn wait_for_partitions(&mut self, count: usize) {
        let deadline = deadline();
        while self.assigned().await != count {
            assert!(Instant::now() < deadline, "{} partitions", self.assigned().await);
            assert!(self.read(1, Duration::from_millis(50)).await.is_empty());
        }
    }
}

/// When something that waits gives up.
pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// What brokers answer. They are asked again while they do not: a coordinator or a leader may only just have been chosen.
pub(crate) fn answer<T>(ask: impl Fn() -> KafkaResult<T>) -> T {
    let deadline = deadline();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// The least and the most that a group may have committed of a partition.
pub(crate) type Bounds = BTreeMap<i32, (i64, i64)>;

/// What a group may have committed that was delivered `delivered`, in order, and of which `acked` is done: everything up to
/// the first record that isn't, with or without the offsets between that hold no records.
pub(crate) fn bounds(delivered: &[Place], acked: &[Place]) -> Bounds {
    let mut bounds = Bounds::new();
    for place @ (partition, offset) in delivered {
        let (least, most) = bounds.entry(*partition).or_insert((0, i64::MAX));
        if *most < i64::MAX {
            continue;
        }
        if acked.contains(place) {
            *least = offset + 1;
        } else {
            *most = *offset;
        }
    }
    bounds
}

/// Partitions 0 to `partitions`, each at the same offset.
pub(crate) fn everywhere(partitions: i32, offset: i64) -> Bounds {
    (0..partitions).map(|partition| (partition, (offset, offset))).collect()
}

/// Looks at the group from outside, with a client of its own that is no member.
pub(crate) struct Sampler {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Sampler {
    /// What the group has committed; 0 for nothing.
    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = answer(|| self.consumer.committed_offsets(partitions.clone(), PATIENCE));
        let offset = |at| if let At::Offset(offset) = at { offset } else { 0 };
        committed.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect()
    }

    /// Samples until the group has committed this much. No sample may be more.
    pub(crate) fn wait_for(&self, bounds: &Bounds) {
        let deadline = deadline();
        loop {
            let committed = self.committed();
            for (partition, (_, most)) in bounds {
                let offset = committed[partition];
                assert!(offset <= *most, "partition {partition}: committed {offset}, and {most} is not acked");
            }
            if bounds.iter().all(|(partition, (least, _))| committed[partition] >= *least) {
                return;
            }
            assert!(Instant::now() < deadline, "committed {committed:?}, expected {bounds:?}");
        }
    }
}
