//! What the Kafka source can be told.

use std::time::Duration;

use numaflow_sdk::default_max_in_flight_bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaResult;

use super::brokers::Brokers;
use super::budget::{BYTES, Budget, RECORDS};
use super::client::StartError;
use super::policy::{Damaged, Durability, Exhausted, Oversize, RecordMetadata, TopicHeader};
use super::protocol::GroupProtocol;
use super::record::Form;
use super::selection::Selection;
use super::selection::is_pattern;
use super::start::Start;
use super::token::Topics;
use super::tracker::Limits;

/// How long a read that has something waits for more: little beside what the platform takes for a batch.
const LINGER: Duration = Duration::from_millis(2);
/// How long partitions that are revoked wait for acks: most batches are acked by then, and the other members wait.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often offsets are committed: what a crash can deliver a second time, besides what is in flight, is the acks of that
/// time.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The property that says otherwise.
pub(super) const COMMIT_INTERVAL_PROPERTY: &str = "auto.commit.interval.ms";
/// How often the brokers are asked which topics and partitions there are.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// The property that says otherwise.
const REFRESH_INTERVAL_PROPERTY: &str = "topic.metadata.refresh.interval.ms";
/// The property that says the largest batch that the client library takes.
pub(super) const LARGEST_BATCH_PROPERTY: &str = "receive.message.max.bytes";
/// The largest record: the platform takes 64 MiB in one message, metadata and headers included.
const MAX_RECORD_BYTES: usize = 60 << 20;

/// How long topics that do not exist at the start are waited for: as long as for brokers that refuse us, which is time to
/// create one.
const MISSING_TOPIC_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What the client library may fetch of a partition at once where nothing is known of the partitions.
const FETCH_BYTES: usize = 1 << 20;

/// Properties that the source sets unless the user does.
const DEFAULTS: [(&str, &str); 11] = [
    // Once a queue is full the library waits this long before it looks again; its own default is a second.
    ("fetch.queue.backoff.ms", "1"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.min.bytes", "1"),
    // A limit of each partition's queue, as are the bytes below. They bound memory, because the queue of a partition that
    // may not be read on stays as it is.
    ("queued.min.messages", "2000"),
    ("reconnect.backoff.max.ms", "1000"),
    (REFRESH_INTERVAL_PROPERTY, "30000"),
    ("max.poll.interval.ms", "300000"),
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    ("socket.nagle.disable", "true"),
];

/// Whether a property has a default of the source's own.
pub(super) fn is_default(name: &str) -> bool {
    name == "client.id" || GroupProtocol::has_default(name) || DEFAULTS.into_iter().any(|(known, _)| known == name)
}

/// What the source is told, checked.
///
/// Made by [`KafkaArgs::config`](super::KafkaArgs::config) from flags, environment and file; a test says what it needs by
/// the methods.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    pub(super) brokers: Brokers,
    /// Names and patterns, as they were given.
    pub(super) topics: Vec<String>,
    /// The id that the platform knows all partitions by; `None` where each has its own.
    pub(super) replica_id: Option<u16>,
    pub(super) group: String,
    pub(super) group_protocol: GroupProtocol,
    pub(super) start: Start,
    /// How long topics that do not exist at the start are waited for; `None` for without end.
    pub(super) missing_topic_timeout: Option<Duration>,
    pub(super) linger: Duration,
    /// The age in flight at which a record is delivered again.
    pub(super) inflight_timeout: Option<Duration>,
    /// How often a record is delivered in all, unless a nack says otherwise.
    pub(super) max_deliveries: Option<u32>,
    /// `Some` wherever `exhausted` or `on_oversize` says dead letter.
    pub(super) dead_letter_topic: Option<String>,
    pub(super) exhausted: Exhausted,
    /// Of a record as the platform gets it.
    pub(super) max_record_bytes: usize,
    pub(super) on_oversize: Oversize,
    pub(super) on_damaged: Damaged,
    /// How long revoked partitions wait for acks; zero for not at all.
    pub(super) revoke_timeout: Duration,
    pub(super) ack_durability: Durability,
    pub(super) record_metadata: RecordMetadata,
    pub(super) topic_header: TopicHeader,
    /// The most bytes of all records in memory, the client library's queues included.
    pub(super) budget: usize,
    /// The most that one partition may have unfinished.
    pub(super) most_of_one: Limits,
    /// What the client library may fetch of a partition at once, and keep of it.
    pub(super) fetch_bytes: usize,
    /// The name of a static member.
    pub(super) instance_id: Option<String>,
}

impl KafkaConfig {
    /// A member of `group` that reads one topic, with all else at its default.
    #[must_use]
    pub fn new(brokers: Brokers, topic: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            brokers,
            topics: vec![topic.into()],
            replica_id: None,
            group: group.into(),
            group_protocol: GroupProtocol::default(),
            start: Start::default(),
            missing_topic_timeout: Some(MISSING_TOPIC_TIMEOUT),
            linger: LINGER,
            inflight_timeout: None,
            max_deliveries: None,
            dead_letter_topic: None,
            exhausted: Exhausted::default(),
            max_record_bytes: MAX_RECORD_BYTES,
            on_oversize: Oversize::default(),
            on_damaged: Damaged::default(),
            revoke_timeout: REVOKE_TIMEOUT,
            ack_durability: Durability::default(),
            record_metadata: RecordMetadata::default(),
            topic_header: TopicHeader::default(),
            budget: default_max_in_flight_bytes(),
            most_of_one: Limits { records: RECORDS, bytes: BYTES },
            fetch_bytes: FETCH_BYTES,
            instance_id: None,
        }
    }

    /// Reads these topics; their order gives partitions their ids. One that begins with `^` is a pattern, which needs
    /// [`KafkaConfig::with_replica_id`].
    #[must_use]
    pub fn with_topics(mut self, topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Has the platform know all partitions by this id, which must differ between replicas. By default each has an id of
    /// its own.
    #[must_use]
    pub fn with_replica_id(mut self, replica: u16) -> Self {
        self.replica_id = Some(replica);
        self
    }

    /// Sets the protocol of the group; [`GroupProtocol::Classic`] by default.
    #[must_use]
    pub fn with_group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.group_protocol = protocol;
        self
    }

    /// Sets where the group starts as long as it has committed nothing; [`Start::Earliest`] by default.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets how long topics that do not exist when the source starts are waited for before the source fails; five minutes by
    /// default, and without end for `None`. The topics that exist are read meanwhile.
    #[must_use]
    pub fn with_missing_topic_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.missing_topic_timeout = timeout;
        self
    }

    /// Sets the age in flight at which a record is delivered again. By default there is none: the platform answers for
    /// everything it was given, and a slow answer is no reason for a second delivery.
    #[must_use]
    pub fn with_inflight_timeout(mut self, timeout: Duration) -> Self {
        self.inflight_timeout = Some(timeout);
        self
    }

    /// Sets how often a record that is nacked is delivered in all; without end by default. What a nack says itself wins.
    #[must_use]
    pub fn with_max_deliveries(mut self, deliveries: u32) -> Self {
        self.max_deliveries = Some(deliveries);
        self
    }

    /// Names the topic for records that are given up, and gives them up to it: after their last delivery, and where they
    /// are too large. There is none by default.
    #[must_use]
    pub fn with_dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter_topic = Some(topic.into());
        self.exhausted = Exhausted::DeadLetter;
        self.on_oversize = Oversize::DeadLetter;
        self
    }

    /// Sets what becomes of a record after its last delivery. [`Exhausted::DeadLetter`] needs
    /// [`KafkaConfig::with_dead_letter_topic`].
    #[must_use]
    pub fn with_exhausted(mut self, exhausted: Exhausted) -> Self {
        self.exhausted = exhausted;
        self
    }

    /// Sets the largest record that is delivered, in bytes as the platform gets it, and what becomes of a larger one; 60
    /// MiB by default, because the platform takes 64 MiB. [`Oversize::DeadLetter`] needs
    /// [`KafkaConfig::with_dead_letter_topic`].
    #[must_use]
    pub fn with_max_record_bytes(mut self, bytes: usize, otherwise: Oversize) -> Self {
        self.max_record_bytes = bytes;
        self.on_oversize = otherwise;
        self
    }

    /// Sets how long a read that has something waits for more; 2 ms by default. One that had to wait longer than that for
    /// its first record ends with it.
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets what becomes of records that cannot be read; [`Damaged::Halt`] by default.
    #[must_use]
    pub fn with_damaged(mut self, damaged: Damaged) -> Self {
        self.on_damaged = damaged;
        self
    }

    /// Sets how long partitions that go to another member wait for acks of what is in flight; 2 s by default, zero for
    /// not at all. What is not acked by then is delivered again by the other member.
    #[must_use]
    pub fn with_revoke_timeout(mut self, timeout: Duration) -> Self {
        self.revoke_timeout = timeout;
        self
    }

    /// Sets when an ack is answered; [`Durability::Recorded`] by default.
    #[must_use]
    pub fn with_ack_durability(mut self, durability: Durability) -> Self {
        self.ack_durability = durability;
        self
    }

    /// Sets the properties of its record that a message carries; [`RecordMetadata::Essential`] by default.
    #[must_use]
    pub fn with_record_metadata(mut self, metadata: RecordMetadata) -> Self {
        self.record_metadata = metadata;
        self
    }

    /// Sets whether messages carry the name of their topic in a header; [`TopicHeader::Auto`] by default.
    #[must_use]
    pub fn with_topic_header(mut self, header: TopicHeader) -> Self {
        self.topic_header = header;
        self
    }

    /// The form of the messages that records become.
    pub(super) fn form(&self) -> Form {
        let several = || self.topics.len() > 1 || self.topics.iter().any(|topic| is_pattern(topic));
        let topic_header = match self.topic_header {
            TopicHeader::Auto => several(),
            TopicHeader::Always => true,
            TopicHeader::Never => false,
        };
        Form { metadata: self.record_metadata, topic_header }
    }

    /// Sets the most bytes of all records in memory, the client library's queues included; by default what the server
    /// allows in flight.
    #[must_use]
    pub fn with_budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Sets how many records, and bytes of them, one partition may have unfinished before it is read no further: 10,000 and
    /// 16 MiB by default. The last record may pass the bytes.
    #[must_use]
    pub fn with_partition_limits(mut self, records: usize, bytes: usize) -> Self {
        self.most_of_one = Limits { records, bytes };
        self
    }

    /// Makes the member a static one of this name, which keeps its partitions over a restart within the session timeout.
    #[must_use]
    pub fn with_instance_id(mut self, name: impl Into<String>) -> Self {
        self.instance_id = Some(name.into());
        self
    }

    /// For a client that never joins the group: it has no name there.
    #[must_use]
    pub(crate) fn without_instance(mut self) -> Self {
        self.instance_id = None;
        self.brokers.remove("group.instance.id");
        self
    }

    /// The brokers.
    #[must_use]
    pub fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// The topics, by name or by pattern, in the order that was configured.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str)
    }

    /// Which topics these are.
    pub(super) fn selection(&self) -> Result<Selection, StartError> {
        let unusable = |problem: String| StartError::Topics { problem };
        let selection = Selection::new(&self.topics, self.dead_letter_topic.as_deref()).map_err(unusable)?;
        if selection.has_patterns() && self.replica_id.is_none() {
            return Err(unusable("partitions of topics that a pattern finds have no ids of their own".to_owned()));
        }
        Ok(selection)
    }

    /// The ids of partitions.
    pub(super) fn ids(&self) -> Topics {
        self.replica_id.map_or_else(|| Topics::Listed(self.topics.clone()), Topics::of_replica)
    }

    /// The consumer group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Where the group starts as long as it has committed nothing.
    #[must_use]
    pub fn start(&self) -> Start {
        self.start
    }

    /// What becomes of records that are not acked, in a sentence for the log.
    #[must_use]
    pub fn given_up(&self) -> String {
        let topic = self.dead_letter_topic.as_deref().unwrap_or_default();
        let exhausted = match (self.exhausted, self.max_deliveries) {
            (Exhausted::Redeliver, _) => "what is nacked is delivered again without end".to_owned(),
            (Exhausted::DeadLetter, Some(most)) => format!("what is nacked {most} times goes to the topic {topic}"),
            (Exhausted::DeadLetter, None) => {
                format!("what is nacked as often as its nack says goes to the topic {topic}")
            }
            (Exhausted::Halt, Some(most)) => format!("what is nacked {most} times halts its partition"),
            (Exhausted::Halt, None) => "what is nacked as often as its nack says halts its partition".to_owned(),
        };
        let oversize = match self.on_oversize {
            Oversize::Halt => "halts its partition".to_owned(),
            Oversize::DeadLetter => format!("goes to the topic {topic}"),
            Oversize::Skip => "is skipped".to_owned(),
        };
        let damaged = match self.on_damaged {
            Damaged::Halt => "halts its partition",
            Damaged::Skip => "is skipped",
        };
        let unanswered = match self.inflight_timeout {
            Some(age) => format!("again after {age:?}"),
            None => "once".to_owned(),
        };
        format!(
            "{exhausted}; what is larger than {} bytes {oversize}; what is damaged {damaged}; what is never answered is delivered {unanswered}",
            self.max_record_bytes
        )
    }

    /// Whether the client library takes the properties together, which it says only when a client is made. This one knows
    /// no broker, so that it asks none.
    pub(crate) fn accepted(&self) -> Result<(), String> {
        let mut client = self.consumer();
        client.remove("bootstrap.servers");
        let made: KafkaResult<BaseConsumer> = client.create();
        made.map(drop).map_err(|error| self.brokers.without_values(&StartError::client(&error).to_string()))
    }

    /// The settings that give records up to a topic.
    pub(super) fn needs_dead_letter_topic(&self) -> impl Iterator<Item = &'static str> {
        let exhausted = (self.exhausted == Exhausted::DeadLetter).then_some("on-exhausted");
        let oversize = (self.on_oversize == Oversize::DeadLetter).then_some("on-oversize");
        exhausted.into_iter().chain(oversize)
    }

    /// Sets what the client library may fetch of a partition at once, and keep of it.
    pub(super) fn with_fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch_bytes = bytes;
        self
    }

    /// How often the brokers are asked which topics and partitions there are, which the library's property says.
    pub(super) fn refresh_interval(&self) -> Duration {
        let millis = self.brokers.property(REFRESH_INTERVAL_PROPERTY).and_then(|millis| millis.parse().ok());
        millis.map_or(REFRESH_INTERVAL, Duration::from_millis)
    }

    /// How often the group is told how far it has come, which the library's property says.
    pub(super) fn commit_interval(&self) -> Duration {
        let millis = self.brokers.property(COMMIT_INTERVAL_PROPERTY).and_then(|millis| millis.parse().ok());
        millis.map_or(COMMIT_INTERVAL, Duration::from_millis)
    }

    /// The largest batch of records that the client library takes from a broker, as it comes and decompressed: half of the
    /// budget, unless a property says otherwise.
    pub(super) fn largest_batch(&self) -> usize {
        let number = |name: &str| self.brokers.property(name).and_then(|text| text.parse::<usize>().ok());
        number(LARGEST_BATCH_PROPERTY).unwrap_or_else(|| {
            // The library refuses less than what it is to ask for, and the head of an answer.
            let asked = ["fetch.max.bytes", "message.max.bytes"].into_iter().filter_map(number).max();
            let least = asked.map_or(0, |asked| asked.saturating_add(512));
            Budget::new(self.budget).largest_batch().max(least)
        })
    }

    /// What the client library is to know of a member of the group.
    pub(super) fn consumer(&self) -> ClientConfig {
        let fetch = self.fetch_bytes.to_string();
        let queue = (self.fetch_bytes >> 10).to_string();
        let largest = self.largest_batch().to_string();
        let of_budget = [
            ("fetch.message.max.bytes", &*fetch),
            ("queued.max.messages.kbytes", &*queue),
            (LARGEST_BATCH_PROPERTY, &*largest),
            // A broker's answer is not larger than one partition's share, or a few of its records would keep all of it in
            // memory. The library takes this property, which is of a producer otherwise, for the least of an answer.
            ("message.max.bytes", &*fetch),
        ];
        let of_protocol = self.group_protocol.defaults().iter().copied();
        let mut client = self.brokers.client(DEFAULTS.into_iter().chain(of_budget).chain(of_protocol));
        self.group_protocol.apply(&mut client);
        client
            .set("group.id", &self.group)
            // For the commit of what is stored when partitions or the member leave. All others are ours to time, one at a
            // time (`commits`), so the library's own clock is set to a day.
            .set("enable.auto.commit", "true")
            .set(COMMIT_INTERVAL_PROPERTY, "86400000")
            .set("enable.auto.offset.store", "false")
            // Where the group begins is looked up (`positions`), but for the oldest record. What is left for the library
            // are offsets whose records are gone: then it is to go on with the oldest of those that are there.
            .set("auto.offset.reset", "earliest");
        if let Some(instance_id) = &self.instance_id {
            client.set("group.instance.id", instance_id);
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_accepts_every_default() {
        KafkaConfig::new(Brokers::new("b:9092"), "t", "g").consumer().create_native_config().unwrap();
    }

    #[test]
    fn the_largest_batch_is_half_of_the_budget_or_what_a_property_says() {
        let of = |properties: &[(&str, &str)], budget: usize| {
            let brokers = Brokers::new("b:9092");
            let brokers =
                properties.iter().fold(brokers, |brokers, (name, value)| brokers.with_property(*name, *value));
            let config = KafkaConfig::new(brokers, "t", "g").with_budget(budget);
            config.consumer().create::<BaseConsumer>().unwrap();
            config.largest_batch()
        };
        assert_eq!(of(&[], 64 << 20), 32 << 20);
        assert_eq!(of(&[], 0), 2 << 20);
        assert_eq!(of(&[], usize::MAX), 0x7fff_ffff);
        assert_eq!(of(&[("fetch.max.bytes", "100000000")], 64 << 20), 100_000_512);
        assert_eq!(of(&[("receive.message.max.bytes", "60000000")], 256 << 20), 60_000_000);
    }

    #[test]
    fn the_start_says_what_becomes_of_records() {
        let config = KafkaConfig::new(Brokers::new("b:9092"), "t", "g");
        assert_eq!(
            config.given_up(),
            "what is nacked is delivered again without end; what is larger than 62914560 bytes halts its partition; what \
             is damaged halts its partition; what is never answered is delivered once"
        );
        let config = config.with_dead_letter_topic("dead").with_max_deliveries(3);
        let config = config.with_inflight_timeout(Duration::from_secs(600)).with_max_record_bytes(7, Oversize::Skip);
        let config = config.with_damaged(Damaged::Skip);
        assert_eq!(
            config.given_up(),
            "what is nacked 3 times goes to the topic dead; what is larger than 7 bytes is skipped; what is damaged is \
             skipped; what is never answered is delivered again after 600s"
        );
    }

    #[test]
    fn the_new_group_protocol_gets_no_setting_that_it_refuses() {
        let config = KafkaConfig::new(Brokers::new("b:9092"), "t", "g").with_instance_id("g-1");
        let client = config.with_group_protocol(GroupProtocol::Consumer).consumer();
        assert_eq!(client.get("session.timeout.ms"), None);
        client.create::<BaseConsumer>().unwrap();
    }

    #[test]
    fn what_only_the_classic_protocol_takes_is_kept_for_it() {
        let brokers = Brokers::new("b:9092").with_property("session.timeout.ms", "6000");
        let mut config = KafkaConfig::new(brokers, "t", "g").with_group_protocol(GroupProtocol::Auto);
        config.consumer().create::<BaseConsumer>().unwrap();
        config.group_protocol = GroupProtocol::Classic;
        assert_eq!(config.consumer().get("session.timeout.ms"), Some("6000"));
    }
}
