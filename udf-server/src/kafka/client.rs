//! Making clients, and the first contact with the brokers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use tokio::time::Instant;

use super::config::KafkaConfig;
use super::context::Context;
use super::lookup::{self, Leaders, Unanswered};
use super::selection::Selection;
use super::token::{STRIDE, Topics};

/// How long one question to the brokers may take before we look whether there is news of why it does.
const STEP: Duration = Duration::from_millis(500);

/// A client that can join the group, and does not yet.
pub(super) fn consumer(config: &KafkaConfig) -> Result<Arc<BaseConsumer<Context>>, StartError> {
    config
        .consumer()
        .create_with_context(Context::default())
        .map(Arc::new)
        .map_err(|error| StartError::Client { problem: config.brokers.without_values(&problem(&error)) })
}

/// A topic, and how many partitions it has or why that is not known.
pub(super) type Found = (String, Result<i32, Unanswered>);

/// Waits until the brokers have told how many partitions each topic has: those that are named, in their order, then those
/// that patterns find.
pub(super) fn first_contact(
    config: &KafkaConfig,
    selection: &Selection,
    consumer: &BaseConsumer<Context>,
) -> Result<Vec<Found>, StartError> {
    let deadline = Instant::now() + config.brokers.connect_timeout;
    let mut topics = Vec::new();
    for topic in selection.named() {
        let ask = |timeout| match partitions_of(consumer, topic, timeout) {
            // It holds up no other topic: it is waited for like one that does not exist yet.
            Err(DENIED) => Ok(Err(Unanswered::Code(DENIED))),
            answer => answer,
        };
        let count = first_answer(config, consumer, topic, deadline, ask)?;
        // A topic that has grown beyond the ids is read as far as they go: it must not end the process with the next start.
        if let Ok(count) = count {
            check_ids(config, topic, count.min(1))?;
        }
        topics.push((topic.to_owned(), count));
    }
    if !selection.has_patterns()
        && !topics.is_empty()
        && topics.iter().all(|(_, count)| *count == Err(Unanswered::Code(DENIED)))
    {
        let names: Vec<&str> = selection.named().collect();
        return Err(StartError::Refused {
            brokers: config.brokers.addresses.clone(),
            reason: format!("the topic {} may not be read", names.join(", ")),
        });
    }
    if selection.has_patterns() {
        let find = |timeout| found(consumer, selection, timeout);
        let found = first_answer(config, consumer, "of a pattern", deadline, find)?;
        topics.extend(found.into_iter().map(|(topic, count)| (topic, Ok(count))));
    }
    Ok(topics)
}

/// The brokers' answer about a topic that this user may not see.
const DENIED: RDKafkaErrorCode = RDKafkaErrorCode::TopicAuthorizationFailed;

/// Whether an error is about a topic: the brokers have answered, and asking them about other topics may have another answer.
fn is_of_topic(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::InvalidTopic
    )
}

fn first_answer<T>(
    config: &KafkaConfig,
    consumer: &BaseConsumer<Context>,
    topic: &str,
    deadline: Instant,
    ask: impl Fn(Duration) -> Result<T, RDKafkaErrorCode>,
) -> Result<T, StartError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(left.min(STEP)) {
            Ok(answer) => return Ok(answer),
            Err(code) => tracing::debug!(%code, topic, "no answer yet"),
        }
        // The reason of a failure comes by callback, and callbacks run in a poll.
        while consumer.poll(Duration::from_millis(20)).is_some() {}
        if let Some(refusal) = consumer.context().refused(Instant::now()) {
            return Err(StartError::Refused { brokers: config.brokers.addresses.clone(), reason: refusal.reason });
        }
        if Instant::now() >= deadline {
            return Err(StartError::Silent {
                brokers: config.brokers.addresses.clone(),
                waited: config.brokers.connect_timeout,
                last: consumer.context().last_error(),
            });
        }
    }
}

/// The topics that patterns find, with their numbers of partitions, by name.
pub(super) fn found<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    selection: &Selection,
    timeout: Duration,
) -> Result<Vec<(String, i32)>, RDKafkaErrorCode> {
    let unknown = |error: KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
    let metadata = consumer.fetch_metadata(None, timeout).map_err(unknown)?;
    let topics = metadata.topics().iter().filter(|topic| topic.error().is_none() && selection.finds(topic.name()));
    let count = |topic: &MetadataTopic| i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
    let mut topics: Vec<_> = topics.map(|topic| (topic.name().to_owned(), count(topic))).collect();
    topics.sort_unstable();
    Ok(topics)
}

/// How many partitions a topic has.
pub(super) fn partition_count<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    timeout: Duration,
) -> Result<i32, RDKafkaErrorCode> {
    leaders(consumer, topic, timeout).map(|leaders| i32::try_from(leaders.len()).unwrap_or(i32::MAX))
}

/// How many partitions a topic has, or why the brokers do not tell of it.
///
/// # Errors
///
/// The code of an error that is not about the topic: asking again may have an answer.
pub(super) fn partitions_of<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Result<i32, Unanswered>, RDKafkaErrorCode> {
    match partition_count(consumer, topic, timeout) {
        Err(code) if is_of_topic(code) => Ok(Err(Unanswered::of(code))),
        count => count.map(Ok),
    }
}

/// The leader of each partition of a topic.
pub(super) fn leaders<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Leaders, RDKafkaErrorCode> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout).map_err(|error| lookup::code(&error))?;
    lookup::leaders(&metadata, topic).map_err(Unanswered::code)
}

/// Refuses more partitions than there are ids for.
pub(super) fn check_ids(config: &KafkaConfig, topic: &str, count: i32) -> Result<i32, StartError> {
    match config.ids() {
        Topics::Listed(_) if config.ids().partition_id(topic, count.saturating_sub(1)).is_some() => Ok(count),
        Topics::OfReplica { .. } => Ok(count),
        Topics::Listed(_) => Err(StartError::TooManyPartitions {
            topic: topic.to_owned(),
            partitions: count,
            topics: config.topics().count(),
        }),
    }
}

/// What the client library has against its configuration.
pub(super) fn problem(error: &KafkaError) -> String {
    if let KafkaError::ClientConfig(_, problem, name, _) = error {
        return format!("{name}: {problem}");
    }
    error.to_string()
}

/// Why the Kafka source cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The client library does not take the configuration as a whole.
    Client {
        /// What it says.
        problem: String,
    },
    /// The topics make no sense.
    Topics {
        /// Why not.
        problem: String,
    },
    /// No broker answered.
    Silent {
        /// Those that were asked.
        brokers: String,
        /// How long they had.
        waited: Duration,
        /// The last thing that went wrong with one.
        last: Option<String>,
    },
    /// The brokers answer, and refuse us.
    Refused {
        /// Those that were asked.
        brokers: String,
        /// Why.
        reason: String,
    },
    /// There is no such topic.
    NoTopic {
        /// The topic.
        topic: String,
        /// The brokers that do not have it.
        brokers: String,
    },
    /// The partitions do not fit into the ids that the platform has for them.
    TooManyPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        partitions: i32,
        /// How many topics share the ids.
        topics: usize,
    },
    /// The system does not give us a thread.
    Thread {
        /// What the system says.
        source: std::io::Error,
    },
}

impl StartError {
    /// The client library does not take its configuration.
    pub(super) fn client(error: &KafkaError) -> Self {
        Self::Client { problem: problem(error) }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { problem } => write!(f, "the Kafka client does not take its configuration: {problem}"),
            Self::Topics { problem } => write!(f, "--topics cannot be read: {problem}"),
            Self::Silent { brokers, waited, last } => {
                let waited = waited.as_secs_f64();
                write!(f, "no broker of {brokers} answered within {waited} s")?;
                if let Some(last) = last {
                    write!(f, " ({last})")?;
                }
                f.write_str(
                    ": check --brokers, that they can be reached from here, and whether they want TLS or SASL; udf-server \
                     check-config --connect tells the step that fails",
                )
            }
            Self::Refused { brokers, reason } => {
                write!(f, "the brokers {brokers} refuse us: {reason}: check the sasl.* and ssl.* properties and rights")
            }
            Self::NoTopic { topic, brokers } => {
                write!(f, "there is no topic {topic} at {brokers}: create it, or correct --topics")
            }
            Self::TooManyPartitions { topic, partitions, topics: 1 } => write!(
                f,
                "the topic {topic} has {partitions} partitions, and the platform tells apart no more than 65536: give --partition-ids replica"
            ),
            Self::TooManyPartitions { topic, partitions, topics } => write!(
                f,
                "the topic {topic} has {partitions} partitions among {topics} topics, and several topics may have \
                 {STRIDE} each, in at most 64 topics: read it with a source of its own, or give --partition-ids replica"
            ),
            Self::Thread { .. } => f.write_str("a thread for the Kafka client cannot be started"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread { source } => Some(source),
            Self::Client { .. }
            | Self::Topics { .. }
            | Self::Silent { .. }
            | Self::Refused { .. }
            | Self::NoTopic { .. }
            | Self::TooManyPartitions { .. } => None,
        }
    }
}
