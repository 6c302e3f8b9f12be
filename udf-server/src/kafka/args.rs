//! The flags of the Kafka source, and how they become its configuration.

use std::time::Duration;

use clap::Args;
use numaflow_sdk::{Settings, parse_duration, parse_size};

use super::brokers::{BrokerArgs, Brokers, not_empty};
use super::config::KafkaConfig;
use super::policy::choice;
use super::selection::{self, PartitionIds, is_pattern};
use super::start::Start;
use crate::config::Layers;

/// How long the broker waits for a poll of ours, where no property says otherwise.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// The part of it that giving partitions back may take at most: while it lasts no partition is read.
const REVOKE_SHARE: u32 = 10;
/// What the platform takes in one message.
const PLATFORM_LIMIT: usize = 64 << 20;

/// The flags of the Kafka source. Each can also be set by the environment variable of the same name with the prefix
/// `UDF_`, or by a key of the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kafka options (also UDF_... in the environment, or a key of the file)")]
pub struct KafkaArgs {
    /// The brokers.
    #[command(flatten)]
    pub brokers: BrokerArgs,
    /// Topics to read, with commas between; their order gives partitions their ids, so add new ones at the end. One that
    /// begins with ^ is a pattern, a regular expression
    #[arg(long, value_name = "NAME,..")]
    pub topics: Option<String>,
    /// What the platform knows partitions by: partition, ids of their own, or replica, that of whoever reads them [default:
    /// partition; replica with a pattern]
    #[arg(long, value_name = "WHICH")]
    pub partition_ids: Option<String>,
    /// The consumer group
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// The group's protocol: classic, consumer (that of Kafka 4), or auto, which is consumer where the brokers know it
    /// [default: classic]
    #[arg(long, value_name = "WHICH")]
    pub group_protocol: Option<String>,
    /// Where a group that has committed nothing yet starts: earliest, latest, at a time (2026-01-31T12:00:00Z), or so far
    /// back (6h) [default: earliest]
    #[arg(long, value_name = "WHERE")]
    pub start: Option<String>,
    /// How long topics that do not exist at the start are waited for, before the program ends with exit code 1; or off, without
    /// end. The others are read meanwhile [default: 5m]
    #[arg(long, value_name = "TIME|off")]
    pub missing_topic_timeout: Option<String>,
    /// How long a read that has something waits for more [default: 2ms]
    #[arg(long, value_name = "TIME")]
    pub linger: Option<String>,
    /// Deliver a record again that the platform has had for so long and neither acked nor nacked, such as 10m; or off
    /// [default: off]
    #[arg(long, value_name = "TIME|off")]
    pub inflight_timeout: Option<String>,
    /// How often a record that is nacked is delivered in all; a nack's own number wins [default: without end]
    #[arg(long, value_name = "N")]
    pub max_deliveries: Option<String>,
    /// The topic for records that are given up; none of those read
    #[arg(long, value_name = "NAME")]
    pub dead_letter_topic: Option<String>,
    /// What becomes of a record after its last delivery: redeliver, dead-letter, or halt its partition [default:
    /// dead-letter with --dead-letter-topic, else redeliver]
    #[arg(long, value_name = "WHAT")]
    pub on_exhausted: Option<String>,
    /// The largest record that is delivered, such as 60MiB [default: 60MiB, below the platform's 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_record_bytes: Option<String>,
    /// What becomes of a larger one: halt its partition, dead-letter, or skip [default: dead-letter with
    /// --dead-letter-topic, else halt]
    #[arg(long, value_name = "WHAT")]
    pub on_oversize: Option<String>,
    /// What becomes of records that cannot be read, as their checksum is wrong: halt their partition, or skip [default: halt]
    #[arg(long, value_name = "WHAT")]
    pub on_damaged: Option<String>,
    /// The most records of one partition that may be unfinished before it is read no further [default: 10000]
    #[arg(long, value_name = "N")]
    pub max_partition_records: Option<String>,
    /// The most bytes of them [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    pub max_partition_bytes: Option<String>,
    /// How long partitions that go to another member wait for acks of what is in flight; or off [default: 2s]
    #[arg(long, value_name = "TIME|off")]
    pub revoke_timeout: Option<String>,
    /// When an ack is answered: recorded, in memory, or committed, by the brokers [default: recorded]
    #[arg(long, value_name = "WHEN")]
    pub ack_durability: Option<String>,
    /// The properties of its record that a message carries beside key, value, headers and time: essential, only those
    /// without which the record could not be restored; position, also topic, partition and offset in one header; full, also
    /// topic, partition, offset, timestamp type and leader epoch in user metadata, which doubles the platform's cost of a
    /// message [default: essential]
    #[arg(long, value_name = "HOW MUCH")]
    pub record_metadata: Option<String>,
    /// Carry the topic's name in the header X-NF-Kafka-TopicName, as the platform's built-in source does: auto, with
    /// several topics or a pattern; always; or never [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub topic_header: Option<String>,
    /// Keep the place in the group over a restart, as the member GROUP-REPLICA [default: false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub static_member: Option<String>,
}

impl KafkaArgs {
    /// What flags, environment and file say; `None` where something is missing or wrong, which is noted in `layers`.
    /// `server` is what they say of the server: its bytes in flight are the source's budget, and its replica names a
    /// static member.
    pub fn config(&self, layers: &mut Layers<'_>, server: &Settings) -> Option<KafkaConfig> {
        let brokers = self.brokers.required_brokers(layers);
        let topics = layers.required_list("topics", self.topics.as_deref(), name_or_pattern);
        let replica_id = self.replica_id(layers, topics.as_deref().unwrap_or_default(), server);
        let group = layers.required("group", self.group.as_deref(), not_empty);
        // Set and wrong is noted; what comes of it is never used.
        let mut config = KafkaConfig {
            topics: topics.clone().unwrap_or_default(),
            replica_id,
            ..KafkaConfig::new(
                brokers.clone().unwrap_or_else(|| Brokers::new("")),
                "",
                group.clone().unwrap_or_default(),
            )
        };
        self.delivery(layers, &mut config);
        self.membership(layers, &mut config, server);
        if let Some(budget) = server.max_in_flight_bytes {
            config.budget = budget;
        }
        brokers.and(topics).and(group).map(|_| config)
    }

    /// The id that the platform is to know all partitions by, if it is.
    fn replica_id(&self, layers: &mut Layers<'_>, topics: &[String], server: &Settings) -> Option<u16> {
        let has_pattern = topics.iter().any(|topic| is_pattern(topic));
        match layers.parsed("partition-ids", self.partition_ids.as_deref(), choice) {
            Some(PartitionIds::Partition) if has_pattern => layers.problem(
                "partition-ids is partition, and topics has a pattern: which topics it finds changes, and so would the ids. \
                 Give replica, or the topics by their names",
            ),
            Some(PartitionIds::Partition) => {}
            None if !has_pattern => {}
            Some(PartitionIds::Replica) | None if server.replica.is_some() => return server.replica,
            Some(PartitionIds::Replica) | None => layers.problem(
                "partition-ids is replica, which a pattern in topics needs, and NUMAFLOW_REPLICA does not tell the number of \
                 the replica: the platform sets it; outside, set it to a number that no other replica has",
            ),
        }
        None
    }

    /// How records are delivered, and what becomes of those that cannot be.
    fn delivery(&self, layers: &mut Layers<'_>, config: &mut KafkaConfig) {
        if let Some(start) = layers.parsed("start", self.start.as_deref(), Start::parse) {
            config.start = start;
        }
        let timeout = layers.parsed("missing-topic-timeout", self.missing_topic_timeout.as_deref(), time_or_off);
        if let Some(timeout) = timeout {
            config.missing_topic_timeout = timeout;
        }
        if let Some(linger) = layers.parsed("linger", self.linger.as_deref(), parse_duration) {
            config.linger = linger;
        }
        config.inflight_timeout =
            layers.parsed("inflight-timeout", self.inflight_timeout.as_deref(), time_or_off).flatten();
        config.max_deliveries = layers.parsed("max-deliveries", self.max_deliveries.as_deref(), deliveries);
        if let Some(metadata) = layers.parsed("record-metadata", self.record_metadata.as_deref(), choice) {
            config.record_metadata = metadata;
        }
        if let Some(header) = layers.parsed("topic-header", self.topic_header.as_deref(), choice) {
            config.topic_header = header;
        }
        let dead_letter_topic = layers.parsed("dead-letter-topic", self.dead_letter_topic.as_deref(), topic);
        if let Some(topic) = dead_letter_topic {
            if config.topics.contains(&topic) {
                layers.problem("dead-letter-topic is one of the topics that are read: give another");
            }
            *config = config.clone().with_dead_letter_topic(topic);
        }
        if let Some(exhausted) = layers.parsed("on-exhausted", self.on_exhausted.as_deref(), choice) {
            config.exhausted = exhausted;
        }
        if let Some(bytes) = layers.parsed("max-record-bytes", self.max_record_bytes.as_deref(), record_bytes) {
            config.max_record_bytes = bytes;
        }
        if let Some(oversize) = layers.parsed("on-oversize", self.on_oversize.as_deref(), choice) {
            config.on_oversize = oversize;
        }
        if let Some(damaged) = layers.parsed("on-damaged", self.on_damaged.as_deref(), choice) {
            config.on_damaged = damaged;
        }
        let most = &mut config.most_of_one;
        if let Some(records) = layers.parsed("max-partition-records", self.max_partition_records.as_deref(), records) {
            most.records = records;
        }
        if let Some(bytes) = layers.parsed("max-partition-bytes", self.max_partition_bytes.as_deref(), parse_size) {
            most.bytes = bytes;
        }
        // A topic that was given and is wrong has been told already.
        if layers.found("dead-letter-topic").is_none() {
            for setting in config.needs_dead_letter_topic() {
                layers.problem(format!(
                    "{setting} is dead-letter, and there is no topic for it: give --dead-letter-topic"
                ));
            }
        }
    }

    /// How the source is a member of its group.
    fn membership(&self, layers: &mut Layers<'_>, config: &mut KafkaConfig, server: &Settings) {
        if let Some(timeout) = layers.parsed("revoke-timeout", self.revoke_timeout.as_deref(), time_or_off) {
            config.revoke_timeout = timeout.unwrap_or_default();
        }
        let interval = config.brokers.property("max.poll.interval.ms").and_then(|text| text.parse().ok());
        let most = interval.map_or(MAX_POLL_INTERVAL, Duration::from_millis) / REVOKE_SHARE;
        if config.revoke_timeout > most {
            layers.problem(format!(
                "revoke-timeout is longer than a tenth of max.poll.interval.ms, here {most:?}: no partition is read \
                 meanwhile, and the broker takes a member for dead at the end of that interval"
            ));
        }
        if let Some(durability) = layers.parsed("ack-durability", self.ack_durability.as_deref(), choice) {
            config.ack_durability = durability;
        }
        if let Some(protocol) = layers.parsed("group-protocol", self.group_protocol.as_deref(), choice) {
            config.group_protocol = protocol;
        }
        if layers.parsed("static-member", self.static_member.as_deref(), yes_or_no) == Some(true) {
            match server.replica {
                _ if config.brokers.property("group.instance.id").is_some() => layers
                    .problem("static-member and the property group.instance.id both name the member: give one of them"),
                Some(replica) => config.instance_id = Some(format!("{}-{replica}", config.group)),
                None => layers.problem(
                    "static-member needs the number of the replica, and NUMAFLOW_REPLICA does not tell it: the platform \
                     sets it; outside, give the property group.instance.id instead",
                ),
            }
        }
    }
}

/// A time, `off` or nothing at all.
fn time_or_off(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" | "0" | "0s" | "0ms" => Ok(None),
        _ => parse_duration(text).map(Some).map_err(|problem| format!("{problem}, or off")),
    }
}

fn deliveries(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(deliveries) if deliveries > 0 => Ok(deliveries),
        _ => Err(format!("is {text:?}; give the deliveries in all, 1 for no other than the first")),
    }
}

fn records(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(records) if records > 0 => Ok(records),
        _ => Err(format!("is {text:?}; give a number of records, 1 for one after the other")),
    }
}

fn record_bytes(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        bytes if bytes < PLATFORM_LIMIT => Ok(bytes),
        _ => Err(format!("is {text:?}; the platform takes less than 64MiB in one message")),
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    text.to_ascii_lowercase().parse().map_err(|_| format!("is {text:?}; give true or false"))
}

/// The name of a topic, or a pattern.
fn name_or_pattern(text: &str) -> Result<String, String> {
    let checked = if is_pattern(text) { selection::check(text) } else { check_topic(text) };
    checked.map(|()| text.to_owned())
}

fn topic(text: &str) -> Result<String, String> {
    check_topic(text).map(|()| text.to_owned())
}

fn check_topic(name: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 249 || matches!(name, "." | "..") || !name.bytes().all(legal) {
        return Err(format!(
            "is {name:?}; a topic's name is 1 to 249 letters, digits, dots, underscores and hyphens, and a pattern begins \
             with ^"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::policy::{Damaged, Durability, Exhausted, Oversize, RecordMetadata, TopicHeader};
    use super::super::protocol::GroupProtocol;
    use super::*;
    use crate::config::tests::{Variables, file};

    fn args(brokers: Option<&str>) -> KafkaArgs {
        let brokers = BrokerArgs { brokers: brokers.map(str::to_owned), ..BrokerArgs::default() };
        KafkaArgs { brokers, ..KafkaArgs::default() }
    }

    /// The configuration of a file, beside what must be set; or the mistakes.
    fn of(text: &str) -> Result<KafkaConfig, String> {
        of_server(text, &Settings::default())
    }

    fn of_server(text: &str, server: &Settings) -> Result<KafkaConfig, String> {
        let file = file(&format!("brokers: b:9092\ntopics: t\ngroup: g\n{text}\n"));
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        let config = KafkaArgs::default().config(&mut layers, server);
        layers.finish().map_err(|failure| failure.to_string())?;
        Ok(config.unwrap())
    }

    #[test]
    fn flags_environment_and_file_come_together() {
        let file = file("topics: [x, y]\ngroup: of-file\nlinger: 5ms\nstart: latest\n");
        let environment = Variables::from([("UDF_GROUP", "of-environment")]);
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        let config = args(Some("b:9092")).config(&mut layers, &Settings::default()).unwrap();
        layers.finish().unwrap();
        assert_eq!(config.topics().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(config.group(), "of-environment");
        assert_eq!(config.linger, Duration::from_millis(5));
        let client = config.consumer();
        assert_eq!(client.get("auto.offset.reset"), Some("earliest"), "what is left is never passed over");
        assert_eq!(client.get("enable.auto.offset.store"), Some("false"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let file = file("topics: [x, x]\nstart: yesterday\n");
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        assert!(args(None).config(&mut layers, &Settings::default()).is_none());
        let error = layers.finish().unwrap_err().to_string();
        assert!(error.contains("brokers is not set"), "{error}");
        assert!(error.contains("group is not set"), "{error}");
        assert!(error.contains("item 2, line 1: give each item of the list once"), "{error}");
        assert!(error.contains("line 2: give earliest, latest"), "{error}");
        assert!(!error.contains("topics is not set"), "it is set, and wrong: {error}");
        assert_eq!(error.lines().count(), 4, "{error}");
    }

    #[test]
    fn every_setting_can_be_given() {
        let text = "inflight-timeout: 10m\nmax-deliveries: 5\ndead-letter-topic: dead\non-exhausted: halt\n\
                    revoke-timeout: 5s\nack-durability: committed\non-oversize: skip\non-damaged: skip\nmax-record-bytes: 1MiB\n\
                    static-member: true\ngroup-protocol: auto\nmax-partition-records: 7\nmax-partition-bytes: 8MiB\nstart: 6h\n\
                    record-metadata: position\ntopic-header: never";
        let mut server = Settings::default();
        server.replica = Some(3);
        server.max_in_flight_bytes = Some(1 << 27);
        let config = of_server(text, &server).unwrap();
        assert_eq!(config.inflight_timeout, Some(Duration::from_secs(600)));
        assert_eq!((config.max_deliveries, config.dead_letter_topic.as_deref()), (Some(5), Some("dead")));
        assert_eq!((config.exhausted, config.on_oversize), (Exhausted::Halt, Oversize::Skip));
        assert_eq!(config.on_damaged, Damaged::Skip);
        assert_eq!((config.most_of_one.records, config.most_of_one.bytes), (7, 8 << 20));
        assert_eq!(config.revoke_timeout, Duration::from_secs(5));
        assert_eq!(config.ack_durability, Durability::Committed);
        assert_eq!(config.group_protocol, GroupProtocol::Auto);
        assert_eq!((config.max_record_bytes, config.budget), (1 << 20, 1 << 27));
        assert_eq!(config.instance_id.as_deref(), Some("g-3"));
        assert_eq!(config.consumer().get("group.instance.id"), Some("g-3"));
        assert_eq!(config.start, Start::Ago(Duration::from_secs(6 * 3600)));
        assert_eq!((config.record_metadata, config.topic_header), (RecordMetadata::Position, TopicHeader::Never));
    }

    #[test]
    fn topics_of_a_pattern_have_the_ids_of_replicas() {
        let of = |text: &str, replica| {
            let mut server = Settings::default();
            server.replica = replica;
            let brokers = "brokers: b:9092\ngroup: g\n";
            let file = file(&format!("{brokers}{text}\n"));
            let environment = Variables::default();
            let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
            let config = KafkaArgs::default().config(&mut layers, &server);
            layers.finish().map_err(|failure| failure.to_string())?;
            Ok::<_, String>(config.unwrap().replica_id)
        };
        assert_eq!(of("topics: a", Some(3)), Ok(None));
        assert_eq!(of("topics: [a, ^b]", Some(3)), Ok(Some(3)));
        assert_eq!(of("topics: a\npartition-ids: replica", Some(3)), Ok(Some(3)));
        for (text, replica, problem) in [
            ("topics: ^b", None, "NUMAFLOW_REPLICA does not tell"),
            ("topics: a\npartition-ids: replica", None, "NUMAFLOW_REPLICA does not tell"),
            ("topics: ^b\npartition-ids: partition", Some(3), "which topics it finds changes"),
            ("topics: ^b(", Some(3), "line 3: this is not a regular expression: unclosed group"),
        ] {
            let error = of(text, replica).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn several_topics_are_told_apart_by_a_header() {
        let has_header = |topics: &str, header: &str| {
            let file = file(&format!("brokers: b:9092\ngroup: g\ntopics: {topics}\n{header}"));
            let environment = Variables::default();
            let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
            let mut server = Settings::default();
            server.replica = Some(0);
            KafkaArgs::default().config(&mut layers, &server).unwrap().form().topic_header
        };
        assert!(!has_header("a", ""));
        assert!(has_header("[a, b]", "") && has_header("^a", ""));
        assert!(has_header("a", "topic-header: always\n") && !has_header("[a, b]", "topic-header: never\n"));
    }

    #[test]
    fn without_a_word_nothing_is_given_up() {
        let config = of("").unwrap();
        assert_eq!((config.inflight_timeout, config.max_deliveries), (None, None));
        assert_eq!((config.exhausted, config.on_oversize), (Exhausted::Redeliver, Oversize::Halt));
        assert_eq!((config.revoke_timeout, config.instance_id), (Duration::from_secs(2), None));
        assert_eq!((config.ack_durability, config.start), (Durability::Recorded, Start::Earliest));
        assert_eq!((config.record_metadata, config.topic_header), (RecordMetadata::Essential, TopicHeader::Auto));
        assert_eq!(config.max_record_bytes, 60 << 20);
        assert_eq!(config.budget, numaflow_sdk::default_max_in_flight_bytes());
    }

    #[test]
    fn a_dead_letter_topic_is_used_once_it_is_named() {
        let config = of("dead-letter-topic: dead").unwrap();
        assert_eq!((config.exhausted, config.on_oversize), (Exhausted::DeadLetter, Oversize::DeadLetter));
        let config = of("dead-letter-topic: dead\non-exhausted: redeliver\non-oversize: halt").unwrap();
        assert_eq!((config.exhausted, config.on_oversize), (Exhausted::Redeliver, Oversize::Halt));
    }

    #[test]
    fn dead_letters_need_a_topic_of_their_own() {
        let error = of("on-exhausted: dead-letter\non-oversize: dead-letter").unwrap_err();
        assert!(error.contains("on-exhausted is dead-letter, and there is no topic for it"), "{error}");
        assert!(error.contains("on-oversize is dead-letter, and there is no topic for it"), "{error}");
        let error = of("dead-letter-topic: t").unwrap_err();
        assert!(error.contains("dead-letter-topic is one of the topics that are read"), "{error}");
        let error = of("on-exhausted: dead-letter\ndead-letter-topic: 'a b'").unwrap_err();
        assert!(error.contains("line 5: a topic's name is") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn times_can_be_off() {
        for off in ["off", "0", "0s", "0ms"] {
            let config = of(&format!("inflight-timeout: {off}\nrevoke-timeout: {off}")).unwrap();
            assert_eq!((config.inflight_timeout, config.revoke_timeout), (None, Duration::ZERO));
        }
        assert!(of("revoke-timeout: never").unwrap_err().contains("line 4: give a time"));
    }

    #[test]
    fn giving_partitions_back_may_not_take_long() {
        assert!(of("revoke-timeout: 30s").is_ok());
        let error = of("revoke-timeout: 31s").unwrap_err();
        assert!(error.contains("revoke-timeout is longer than a tenth of max.poll.interval.ms, here 30s"), "{error}");
        let error = of("revoke-timeout: 3s\nproperties: {max.poll.interval.ms: 20000}").unwrap_err();
        assert!(error.contains("here 2s"), "{error}");
    }

    #[test]
    fn numbers_have_their_bounds() {
        let error = of("max-deliveries: 0\nmax-record-bytes: 64MiB\nack-durability: soon").unwrap_err();
        assert!(error.contains("line 4: give the deliveries in all"), "{error}");
        assert!(error.contains("line 5: the platform takes less"), "{error}");
        assert!(error.contains("line 6: give recorded or committed"), "{error}");
    }

    #[test]
    fn a_static_member_needs_its_number() {
        let error = of("static-member: true").unwrap_err();
        assert!(error.contains("NUMAFLOW_REPLICA does not tell it"), "{error}");
        assert!(of("static-member: maybe").unwrap_err().contains("line 4: give true or false"));
        assert!(of("static-member: False").is_ok());
        let mut server = Settings::default();
        server.replica = Some(0);
        assert_eq!(of_server("static-member: false", &server).unwrap().instance_id, None);
        let error = of_server("static-member: true\nproperties: {group.instance.id: me}", &server).unwrap_err();
        assert!(error.contains("both name the member"), "{error}");
    }

    #[test]
    fn names_of_topics_are_checked() {
        for name in ["", "a:b", "a b", ".", "..", "ä", "a,"] {
            assert!(name_or_pattern(name).is_err(), "{name:?}");
        }
    }
}
