//! The topic and the group that a demo has to itself.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::broker::{EmbeddedBroker, EmbeddedBrokerError};
use crate::kafka::{Brokers, Group, KafkaConfig, PartitionOffsets, StartError};

/// How many partitions a demo's topic has.
pub const PARTITIONS: i32 = 6;
/// How long the brokers have to make or remove something.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before they are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// A topic made for one run, and the name of the group that reads it.
pub struct DemoTopic {
    config: KafkaConfig,
    topic: String,
    group: Group,
    home: Home,
}

enum Home {
    /// Held for as long as the topic is needed.
    Embedded(#[expect(dead_code, reason = "it goes when it is dropped")] EmbeddedBroker),
    Real,
}

impl fmt::Debug for DemoTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoTopic").field("config", &self.config).finish_non_exhaustive()
    }
}

impl DemoTopic {
    /// Starts an embedded broker with the topic.
    ///
    /// # Errors
    ///
    /// The broker cannot start.
    pub fn embedded(topic: &str, group: &str) -> Result<Self, TopicError> {
        let broker = EmbeddedBroker::start(topic, PARTITIONS)?;
        // The embedded broker takes as long to form a group as a session may be silent, and accepts no shorter one.
        let brokers = Brokers::new(broker.addresses()).with_property("session.timeout.ms", "6000");
        let config = KafkaConfig::new(brokers, topic, group);
        let group = Group::connect_to_existing(&config)?;
        Ok(Self { config, topic: topic.to_owned(), group, home: Home::Embedded(broker) })
    }

    /// Makes the topic at real brokers. Blocks until they have it.
    ///
    /// # Errors
    ///
    /// The brokers do not answer or refuse us, or there is such a topic already: it is left alone.
    pub fn create(brokers: Brokers, topic: &str, group: &str) -> Result<Self, TopicError> {
        let config = KafkaConfig::new(brokers, topic, group);
        match Group::connect_to_existing(&config) {
            Ok(_) => return Err(TopicError::Exists { topic: topic.to_owned() }),
            Err(StartError::NoTopic { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let failed = |problem: String| TopicError::Create { topic: topic.to_owned(), problem };
        let new = [NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1))];
        match admin(&config, async |admin, options| admin.create_topics(&new, options).await) {
            Err(problem) => return Err(failed(problem)),
            Ok(results) => match results.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                    return Err(TopicError::Exists { topic: topic.to_owned() });
                }
                Some(Err((_, code))) => return Err(failed(code.to_string())),
                Some(Ok(_)) | None => {}
            },
        }
        // The broker that made it knows of it before the others do.
        let deadline = Instant::now() + TIMEOUT;
        let group = loop {
            match Group::connect_to_existing(&config) {
                Ok(group) => break group,
                Err(StartError::NoTopic { .. }) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(error) => {
                    // Nobody else knows that it is there.
                    delete_topic(&config, topic)?;
                    return Err(error.into());
                }
            }
        };
        Ok(Self { config, topic: topic.to_owned(), group, home: Home::Real })
    }

    /// What a source needs to read the topic.
    #[must_use]
    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.topic
    }

    /// Where each partition stands: what the group has committed, and the end.
    ///
    /// # Errors
    ///
    /// The brokers do not answer for some partition.
    pub fn offsets(&self) -> Result<Vec<PartitionOffsets>, TopicError> {
        let offsets = self.group.offsets().map_err(|source| TopicError::Offsets { source })?;
        match offsets.unanswered.first() {
            Some(about) => Err(TopicError::Offsets { source: KafkaError::OffsetFetch(about.reason.code()) }),
            None => Ok(offsets.known),
        }
    }

    /// What the group has committed of each partition.
    pub(super) fn committed(&self) -> Result<Vec<Option<i64>>, KafkaError> {
        self.group.committed()
    }

    /// Removes topic and group from real brokers; an embedded broker goes with this value. The group's members must have
    /// left.
    ///
    /// # Errors
    ///
    /// The brokers do not do it; both names are in the text.
    pub fn remove(&self) -> Result<(), TopicError> {
        match self.home {
            Home::Embedded(_) => Ok(()),
            Home::Real => {
                // The group goes also where the topic cannot be removed.
                let topic = delete_topic(&self.config, &self.topic);
                let group = delete_group_once_empty(&self.config);
                topic.and(group)
            }
        }
    }
}

fn delete_topic(config: &KafkaConfig, topic: &str) -> Result<(), TopicError> {
    let failed = |problem| TopicError::Remove { what: "topic", name: topic.to_owned(), problem };
    let results = admin(config, async |admin, options| admin.delete_topics(&[topic], options).await);
    for result in results.map_err(failed)? {
        result.map_err(|(_, code)| failed(code.to_string()))?;
    }
    Ok(())
}

/// A member that was killed belongs to the group until its session is over.
fn delete_group_once_empty(config: &KafkaConfig) -> Result<(), TopicError> {
    let failed = |problem| TopicError::Remove { what: "group", name: config.group().to_owned(), problem };
    let deadline = Instant::now() + TIMEOUT;
    while let Err(code) = delete_group(config).map_err(failed)? {
        if code != RDKafkaErrorCode::NonEmptyGroup || Instant::now() >= deadline {
            return Err(failed(code.to_string()));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn delete_group(config: &KafkaConfig) -> Result<Result<(), RDKafkaErrorCode>, String> {
    let group = [config.group()];
    let results = admin(config, async |admin, options| admin.delete_groups(&group, options).await)?;
    Ok(match results.into_iter().next() {
        // A group that never committed is gone with its last member.
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound))) => Ok(()),
        Some(Err((_, code))) => Err(code),
    })
}

/// Asks the brokers to do something, and waits for it.
fn admin<T>(
    config: &KafkaConfig,
    ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> Result<T, KafkaError>,
) -> Result<T, String> {
    let client: AdminClient<DefaultClientContext> =
        config.brokers().client([]).create().map_err(|error| error.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    runtime.block_on(ask(&client, &options)).map_err(|error| error.to_string())
}

/// Why a demo's topic cannot be made, looked at or removed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TopicError {
    /// The embedded broker cannot start.
    Broker(EmbeddedBrokerError),
    /// The brokers do not answer as they should.
    Contact(StartError),
    /// There is such a topic already.
    Exists {
        /// Its name.
        topic: String,
    },
    /// The topic cannot be made.
    Create {
        /// Its name.
        topic: String,
        /// What the brokers say.
        problem: String,
    },
    /// The offsets cannot be had.
    Offsets {
        /// What the client library says.
        source: KafkaError,
    },
    /// Topic or group is still there.
    Remove {
        /// Which of the two.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the brokers say.
        problem: String,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(error) => error.fmt(f),
            Self::Contact(error) => error.fmt(f),
            Self::Exists { topic } => {
                write!(f, "the topic {topic} exists already and is left alone: name one that the demo may make")
            }
            Self::Create { topic, problem } => write!(f, "the topic {topic} cannot be made: {problem}"),
            Self::Offsets { .. } => f.write_str("the brokers do not tell the group's offsets"),
            Self::Remove { what, name, problem } => {
                write!(f, "the {what} {name} cannot be removed: {problem}: remove it by hand")
            }
        }
    }
}

impl std::error::Error for TopicError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broker(error) => error.source(),
            Self::Contact(error) => error.source(),
            Self::Offsets { source } => Some(source),
            Self::Exists { .. } | Self::Create { .. } | Self::Remove { .. } => None,
        }
    }
}

impl From<EmbeddedBrokerError> for TopicError {
    fn from(error: EmbeddedBrokerError) -> Self {
        Self::Broker(error)
    }
}

impl From<StartError> for TopicError {
    fn from(error: StartError) -> Self {
        Self::Contact(error)
    }
}
