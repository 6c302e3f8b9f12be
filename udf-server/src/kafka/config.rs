//! What the Kafka source can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};
use numaflow_sdk::parse_duration;
use rdkafka::ClientConfig;

use super::brokers::{BrokerArgs, Brokers, not_empty};
use super::token::Topics;
use crate::config::Layers;

/// How long a read that has something waits for more.
const LINGER: Duration = Duration::from_millis(2);

/// Properties that the source sets unless the user does.
const DEFAULTS: [(&str, &str); 14] = [
    // Once a queue is full the library waits this long before it looks again; its own default is a second.
    ("fetch.queue.backoff.ms", "1"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.min.bytes", "1"),
    ("fetch.message.max.bytes", "1048576"),
    // These two are limits of each partition's queue. They bound memory, because the queue of a partition that may not be
    // read on stays as it is.
    ("queued.min.messages", "2000"),
    ("queued.max.messages.kbytes", "1024"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("max.poll.interval.ms", "300000"),
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
    ("auto.commit.interval.ms", "1000"),
    ("allow.auto.create.topics", "false"),
    ("socket.nagle.disable", "true"),
];

/// Defaults that only the classic group protocol knows: with `group.protocol=consumer` the library refuses them.
const CLASSIC_DEFAULTS: [(&str, &str); 3] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "45000"),
    ("heartbeat.interval.ms", "1000"),
];

/// Where a group that has committed nothing yet starts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Start {
    /// With the oldest record there is.
    #[default]
    Earliest,
    /// With the first record that comes.
    Latest,
}

impl Start {
    fn parse(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false).map_err(|_| format!("is {text:?}; give earliest or latest"))
    }
}

/// The flags of the Kafka source. Each can also be set by the environment variable of the same name with the prefix
/// `UDF_`, or by a key of the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kafka options (also UDF_... in the environment, or a key of the file)")]
pub struct KafkaArgs {
    /// The brokers.
    #[command(flatten)]
    pub brokers: BrokerArgs,
    /// Topics to read, with commas between; their order gives partitions their ids, so add new ones at the end
    #[arg(long, value_name = "NAME,..")]
    pub topics: Option<String>,
    /// The consumer group
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// How long a read that has something waits for more [default: 2ms]
    #[arg(long, value_name = "TIME")]
    pub linger: Option<String>,
    /// Where a group that has committed nothing yet starts: earliest or latest [default: earliest]
    #[arg(long, value_name = "WHERE")]
    pub start: Option<String>,
}

impl KafkaArgs {
    /// What flags, environment and file say; `None` where something is missing or wrong, which is noted in `layers`.
    pub fn config(&self, layers: &mut Layers<'_>) -> Option<KafkaConfig> {
        let brokers = self.brokers.required_brokers(layers);
        let topics = layers.required("topics", self.topics.as_deref(), topics);
        let group = layers.required("group", self.group.as_deref(), not_empty);
        let linger = layers.parsed("linger", self.linger.as_deref(), parse_duration);
        let start = layers.parsed("start", self.start.as_deref(), Start::parse);
        Some(KafkaConfig {
            brokers: brokers?,
            topics: topics?,
            group: group?,
            linger: linger.unwrap_or(LINGER),
            start: start.unwrap_or_default(),
        })
    }
}

/// What the source is told, checked.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    pub(super) brokers: Brokers,
    pub(super) topics: Topics,
    pub(super) group: String,
    pub(super) linger: Duration,
    pub(super) start: Start,
}

impl KafkaConfig {
    /// A member of `group` that reads one topic, with all else at its default.
    #[must_use]
    pub fn new(brokers: Brokers, topic: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            brokers,
            topics: Topics::new(vec![topic.into()]),
            group: group.into(),
            linger: LINGER,
            start: Start::default(),
        }
    }

    /// The brokers.
    #[must_use]
    pub fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// The topics, in the order that was configured.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.names()
    }

    /// The consumer group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// What the client library is to know of a member of the group.
    pub(super) fn consumer(&self) -> ClientConfig {
        let classic = self.brokers.property("group.protocol").is_none_or(|protocol| protocol != "consumer");
        let classic_defaults = CLASSIC_DEFAULTS.into_iter().filter(|_| classic);
        let mut client = self.brokers.client(DEFAULTS.into_iter().chain(classic_defaults));
        client
            .set("group.id", &self.group)
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "false")
            .set(
                "auto.offset.reset",
                match self.start {
                    Start::Earliest => "earliest",
                    Start::Latest => "latest",
                },
            );
        client
    }
}

fn topics(text: &str) -> Result<Topics, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    for (place, name) in names.iter().enumerate() {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 249 || matches!(&**name, "." | "..") || !name.bytes().all(legal) {
            return Err(format!(
                "has {name:?}; a topic's name is 1 to 249 letters, digits, dots, underscores and hyphens"
            ));
        }
        if names[..place].contains(name) {
            return Err(format!("has {name:?} twice"));
        }
    }
    Ok(Topics::new(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{Variables, file};

    fn args(brokers: Option<&str>) -> KafkaArgs {
        let brokers = BrokerArgs { brokers: brokers.map(str::to_owned), ..BrokerArgs::default() };
        KafkaArgs { brokers, ..KafkaArgs::default() }
    }

    #[test]
    fn the_library_accepts_every_default() {
        KafkaConfig::new(Brokers::new("b:9092"), "t", "g").consumer().create_native_config().unwrap();
    }

    #[test]
    fn the_new_group_protocol_gets_no_setting_that_it_refuses() {
        let brokers = Brokers::new("b:9092").with_property("group.protocol", "consumer");
        let client = KafkaConfig::new(brokers, "t", "g").consumer();
        assert_eq!(client.get("session.timeout.ms"), None);
        client.create::<rdkafka::consumer::BaseConsumer>().unwrap();
    }

    #[test]
    fn flags_environment_and_file_come_together() {
        let file = file("topics: [x, y]\ngroup: of-file\nlinger: 5ms\nstart: latest\n");
        let environment = Variables::from([("UDF_GROUP", "of-environment")]);
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        let config = args(Some("b:9092")).config(&mut layers).unwrap();
        layers.finish().unwrap();
        assert_eq!(config.topics().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(config.group(), "of-environment");
        assert_eq!(config.linger, Duration::from_millis(5));
        let client = config.consumer();
        assert_eq!(client.get("auto.offset.reset"), Some("latest"));
        assert_eq!(client.get("enable.auto.offset.store"), Some("false"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let file = file("topics: [x, x]\nstart: yesterday\n");
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        assert!(args(None).config(&mut layers).is_none());
        let error = layers.finish().unwrap_err().to_string();
        assert!(error.contains("brokers is not set"), "{error}");
        assert!(error.contains("group is not set"), "{error}");
        assert!(error.contains("has \"x\" twice"), "{error}");
        assert!(error.contains("is \"yesterday\"; give earliest or latest"), "{error}");
        assert!(!error.contains("topics is not set"), "it is set, and wrong: {error}");
    }

    #[test]
    fn names_of_topics_are_checked() {
        for name in ["", "a:b", "a b", ".", "..", "ä", "a,"] {
            assert!(topics(name).is_err(), "{name:?}");
        }
    }
}
