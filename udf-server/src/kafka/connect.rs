//! Trying the way to the brokers, step by step, so that what does not work is told by the step that it fails in.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Serialize;
use tokio::time::Instant;

use super::client;
use super::config::KafkaConfig;
use super::diagnosis::{Diagnosis, diagnose, told};
use super::members::{self, Membership};
use super::selection::{Selection, is_pattern};

/// The port of an address that names none.
const PORT: u16 = 9092;
/// How long one question may take before we look whether there is news of why it does.
const QUESTION: Duration = Duration::from_millis(500);

/// A step on the way to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// A broker's name has addresses.
    Resolve,
    /// Something listens there.
    Connect,
    /// It speaks TLS with us, where it should.
    Tls,
    /// It lets us in, where it asks who we are.
    Sasl,
    /// It tells of the topics.
    Metadata,
    /// The group's coordinator tells what the group has committed.
    Group,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    Failed,
    /// Not needed, or an earlier one failed.
    Skipped,
}

/// One line of the trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Tried {
    pub(crate) step: Step,
    pub(crate) outcome: Outcome,
    /// What was tried, and what came of it.
    pub(crate) detail: String,
    /// What to do about a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Tried {
    fn new(step: Step, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { step, outcome, detail: detail.into(), advice: None }
    }

    fn ok(step: Step, detail: impl Into<String>) -> Self {
        Self::new(step, Outcome::Ok, detail)
    }

    fn skipped(step: Step, detail: impl Into<String>) -> Self {
        Self::new(step, Outcome::Skipped, detail)
    }

    fn failed(step: Step, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..Self::new(step, Outcome::Failed, detail) }
    }
}

/// Tries the way to the brokers. Blocks for up to the connect timeout a step, and changes nothing anywhere.
pub(crate) fn try_connection(config: &KafkaConfig) -> Vec<Tried> {
    let mut tried = Vec::new();
    if !reach(config, &mut tried) {
        for step in [Step::Tls, Step::Sasl, Step::Metadata, Step::Group] {
            tried.push(Tried::skipped(step, "no broker is reached"));
        }
        return tried;
    }
    let consumer: BaseConsumer<Errors> = match config.consumer().create_with_context(Errors::default()) {
        Ok(consumer) => consumer,
        Err(error) => {
            let detail =
                format!("the client library does not take the properties together: {}", client::problem(&error));
            tried.push(Tried::failed(Step::Tls, detail, "correct the properties that it names"));
            return tried;
        }
    };
    match introduce(config, &consumer) {
        Ok(metadata) => {
            tried.extend([Step::Tls, Step::Sasl].into_iter().filter_map(|step| introduced(config, step)));
            if topics(config, &consumer, &metadata, &mut tried) {
                group(config, &consumer, &mut tried);
            } else {
                tried.push(Tried::skipped(Step::Group, "not all topics can be read"));
            }
        }
        Err(diagnosis) => blame(config, diagnosis, &mut tried),
    }
    tried
}

/// Whether all steps that were needed went well.
pub(crate) fn works(tried: &[Tried]) -> bool {
    tried.iter().all(|tried| tried.outcome != Outcome::Failed)
        // One broker that answers is enough: it names the others.
        || tried.iter().any(|tried| tried.step == Step::Group && tried.outcome == Outcome::Ok)
            && tried.iter().all(|tried| {
                tried.outcome != Outcome::Failed || matches!(tried.step, Step::Resolve | Step::Connect)
            })
}

/// Resolves each broker and connects to it; `true` where one was reached.
fn reach(config: &KafkaConfig, tried: &mut Vec<Tried>) -> bool {
    let mut resolved = Vec::new();
    for broker in config.brokers.addresses().split(',').map(str::trim).filter(|broker| !broker.is_empty()) {
        match resolve(broker) {
            Ok(addresses) => {
                let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                tried.push(Tried::ok(Step::Resolve, format!("{broker} is {}", list.join(", "))));
                resolved.push((broker, addresses));
            }
            Err(error) => tried.push(Tried::failed(
                Step::Resolve,
                format!("{broker} has no address: {error}"),
                "check the name in --brokers, and that this container's DNS knows it",
            )),
        }
    }
    let mut reached = false;
    for (broker, addresses) in resolved {
        let timeout = config.brokers.connect_timeout() / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let began = Instant::now();
        let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for address in &addresses {
            result = TcpStream::connect_timeout(address, timeout).map(|_| *address);
            if result.is_ok() {
                break;
            }
        }
        tried.push(match result {
            Ok(address) => {
                reached = true;
                Tried::ok(Step::Connect, format!("{broker} at {address} in {} ms", began.elapsed().as_millis()))
            }
            Err(error) => Tried::failed(
                Step::Connect,
                format!("{broker}: {error}"),
                "check the port, that the broker runs, and that no network policy is between",
            ),
        });
    }
    if tried.iter().all(|tried| tried.step != Step::Connect) {
        tried.push(Tried::skipped(Step::Connect, "no broker has an address"));
    }
    reached
}

/// The addresses of `host`, `host:port`, `[ipv6]:port` or `protocol://host:port`.
fn resolve(broker: &str) -> io::Result<Vec<SocketAddr>> {
    let place = broker.split_once("://").map_or(broker, |(_, place)| place);
    let has_port = place
        .rsplit_once(':')
        .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
    let addresses =
        if has_port { place.to_socket_addrs() } else { (place.trim_matches(['[', ']']), PORT).to_socket_addrs() };
    addresses.map(Iterator::collect)
}

/// Whether there is TLS, and whether there is SASL.
fn protocol(config: &KafkaConfig) -> (bool, bool) {
    let protocol = config.brokers.property("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
    (protocol.ends_with("ssl"), protocol.starts_with("sasl"))
}

/// The first answer of the brokers. Why there is none is told by callback only, in a poll.
fn introduce(config: &KafkaConfig, consumer: &BaseConsumer<Errors>) -> Result<Metadata, Diagnosis> {
    let deadline = Instant::now() + config.brokers.connect_timeout();
    loop {
        // Of all topics' names only the count would be of use, so one is asked for; the others come later.
        let topic = config.topics().find(|topic| !is_pattern(topic));
        let result = consumer.fetch_metadata(topic, QUESTION);
        while consumer.poll(Duration::from_millis(20)).is_some() {}
        let error = match result {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        let (tls, sasl) = protocol(config);
        let diagnosis = diagnose(&consumer.context().all(), tls, sasl);
        match diagnosis {
            Some(diagnosis) if diagnosis.certain || Instant::now() >= deadline => return Err(diagnosis),
            None if Instant::now() >= deadline => {
                return Err(Diagnosis {
                    step: Step::Metadata,
                    reason: format!("no answer within {:?}: {error}", config.brokers.connect_timeout()),
                    advice: "give --connect-timeout more time, or look at the broker's log".to_owned(),
                    certain: true,
                });
            }
            Some(_) | None => {}
        }
    }
}

/// Steps before the one to blame went well, those after it were not reached.
fn blame(config: &KafkaConfig, diagnosis: Diagnosis, tried: &mut Vec<Tried>) {
    let Diagnosis { step: failed, reason, advice, .. } = diagnosis;
    let mut failure = Some(Tried::failed(failed, reason, advice));
    for step in [Step::Tls, Step::Sasl, Step::Metadata, Step::Group] {
        let line = if step != failed && failure.is_some() { introduced(config, step) } else { failure.take() };
        tried.push(line.unwrap_or_else(|| Tried::skipped(step, "not reached")));
    }
}

/// A step of the introduction that went well or was not asked for.
fn introduced(config: &KafkaConfig, step: Step) -> Option<Tried> {
    let (tls, sasl) = protocol(config);
    Some(match (step, tls, sasl) {
        (Step::Tls, true, _) => Tried::ok(step, "the broker's certificate is accepted"),
        (Step::Tls, false, _) => Tried::skipped(step, "security.protocol is without TLS"),
        (Step::Sasl, _, true) => Tried::ok(step, "logged in"),
        (Step::Sasl, _, false) => Tried::skipped(step, "security.protocol is without a login"),
        (Step::Resolve | Step::Connect | Step::Metadata | Step::Group, ..) => return None,
    })
}

/// Whether every topic is there and may be read.
fn topics(config: &KafkaConfig, consumer: &BaseConsumer<Errors>, metadata: &Metadata, tried: &mut Vec<Tried>) -> bool {
    let brokers: Vec<String> =
        metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
    tried.push(Tried::ok(Step::Metadata, format!("the brokers name themselves {}", brokers.join(", "))));
    let mut all = true;
    let found = found(config, consumer);
    if let Some(found) = &found {
        tried.push(Tried::ok(Step::Metadata, format!("patterns find {} topics now", found.len())));
    }
    let named = config.topics().filter(|topic| !is_pattern(topic)).chain(config.dead_letter_topic.as_deref());
    for topic in named.chain(found.iter().flatten().map(String::as_str)) {
        let line = match client::partition_count(consumer, topic, config.brokers.connect_timeout()) {
            Ok(count) => match client::check_ids(config, topic, count) {
                Ok(_) => Tried::ok(Step::Metadata, format!("the topic {topic} has {}", partitions(count))),
                Err(error) => Tried::failed(Step::Metadata, error.to_string(), "give it a source of its own"),
            },
            Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Tried::failed(
                Step::Metadata,
                format!("there is no topic {topic}, or it may not be seen"),
                "create it, correct its name, or allow DESCRIBE and READ on it",
            ),
            Err(RDKafkaErrorCode::TopicAuthorizationFailed) => Tried::failed(
                Step::Metadata,
                format!("the topic {topic} may not be read"),
                "allow DESCRIBE and READ on it to this user",
            ),
            Err(code) => {
                Tried::failed(Step::Metadata, format!("the topic {topic}: {code}"), "look at the broker's log")
            }
        };
        all &= line.outcome == Outcome::Ok;
        tried.push(line);
    }
    all
}

/// The topics that patterns find; `None` where there are no patterns, or the brokers do not tell.
fn found(config: &KafkaConfig, consumer: &BaseConsumer<Errors>) -> Option<Vec<String>> {
    let selection = config.selection().ok().filter(Selection::has_patterns)?;
    let found = client::found(consumer, &selection, config.brokers.connect_timeout()).ok()?;
    Some(found.into_iter().map(|(topic, _)| topic).collect())
}

fn partitions(count: i32) -> String {
    if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") }
}

/// Asks the group's coordinator what the group has committed, and who is in it.
fn group(config: &KafkaConfig, consumer: &BaseConsumer<Errors>, tried: &mut Vec<Tried>) {
    let name = config.group();
    let timeout = config.brokers.connect_timeout();
    let mut list = TopicPartitionList::new();
    let found = found(config, consumer);
    let named = config.topics().filter(|topic| !is_pattern(topic));
    for topic in named.chain(found.iter().flatten().map(String::as_str)) {
        let count = client::partition_count(consumer, topic, timeout).unwrap_or(0);
        if count > 0 {
            list.add_partition_range(topic, 0, count - 1);
        }
    }
    let committed = match consumer.committed_offsets(list, timeout) {
        Ok(committed) => committed,
        Err(error) => {
            while consumer.poll(Duration::ZERO).is_some() {}
            let reasons = consumer.context().all();
            let last = reasons.last().map(|(_, reason)| format!(" ({})", told(reason))).unwrap_or_default();
            let advice = match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::GroupAuthorizationFailed) => "allow READ on the group to this user",
                _ => "the names that the brokers give themselves (advertised.listeners) must be reached from here too",
            };
            tried.push(Tried::failed(Step::Group, format!("{name}: {error}{last}"), advice));
            return;
        }
    };
    let elements = committed.elements();
    let has = elements.iter().filter(|element| matches!(element.offset(), Offset::Offset(_))).count();
    let members = match members::membership(consumer, name, timeout) {
        Ok(Membership::Empty) => "nobody is in it".to_owned(),
        Ok(Membership::Members(members)) => match members.len() {
            1 => "1 member is in it".to_owned(),
            count => format!("{count} members are in it"),
        },
        Ok(Membership::Unknown) | Err(_) => "who is in it is not told".to_owned(),
    };
    let detail = format!("{name} has committed offsets of {has} of {} partitions; {members}", elements.len());
    tried.push(Tried::ok(Step::Group, detail));
}

/// Keeps what the client library says that goes wrong.
#[derive(Debug, Default)]
struct Errors(Mutex<Vec<(RDKafkaErrorCode, String)>>);

/// How much of it is kept: the first errors tell the cause.
const KEPT: usize = 64;

impl Errors {
    fn all(&self) -> Vec<(RDKafkaErrorCode, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Errors {
    fn log(&self, _level: RDKafkaLogLevel, _fac: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let mut errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < KEPT {
            errors.push((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Errors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_resolved() {
        for (broker, address) in [
            ("127.0.0.1:9093", "127.0.0.1:9093"),
            ("127.0.0.1", "127.0.0.1:9092"),
            ("SSL://127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:9093", "[::1]:9093"),
            ("[::1]", "[::1]:9092"),
            ("::1", "[::1]:9092"),
        ] {
            assert_eq!(resolve(broker).unwrap(), [address.parse().unwrap()], "{broker}");
        }
        assert!(resolve("no-such-host.invalid:1").is_err());
    }

    #[test]
    fn one_broker_is_enough() {
        let failed = |step| Tried::failed(step, "", "");
        let ok = |step| Tried::ok(step, "");
        assert!(works(&[ok(Step::Connect), Tried::skipped(Step::Tls, ""), ok(Step::Group)]));
        assert!(works(&[failed(Step::Resolve), failed(Step::Connect), ok(Step::Connect), ok(Step::Group)]));
        assert!(!works(&[failed(Step::Connect), Tried::skipped(Step::Group, "")]));
        assert!(!works(&[ok(Step::Connect), failed(Step::Metadata), ok(Step::Group)]));
    }
}
