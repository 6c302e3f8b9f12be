//! Trying the way to the brokers, step by step, so that what does not work is told by the step that it fails in.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Serialize;
use tokio::time::Instant;

use super::address::Address;
use super::client;
use super::config::KafkaConfig;
use super::diagnosis::{Diagnosis, diagnose, told};
use super::members::{self, Membership};
use super::native::rights::{Resource, rights};
use super::selection::{Selection, is_pattern};

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
    /// It works, and something should be changed before it no longer does.
    Warning,
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

/// The addresses that a broker's name has.
fn resolve(broker: &str) -> io::Result<Vec<SocketAddr>> {
    let Address { host, port } = Address::parse(broker).map_err(io::Error::other)?;
    (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
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

/// Whether every topic is there and may be used: those that are read, and the one for dead letters.
fn topics(config: &KafkaConfig, consumer: &BaseConsumer<Errors>, metadata: &Metadata, tried: &mut Vec<Tried>) -> bool {
    let brokers: Vec<String> =
        metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
    tried.push(Tried::ok(Step::Metadata, format!("the brokers name themselves {}", brokers.join(", "))));
    let found = found(config, consumer);
    if let Some(found) = &found {
        tried.push(Tried::ok(Step::Metadata, format!("patterns find {} topics now", found.len())));
    }
    let named = config.topics().filter(|topic| !is_pattern(topic));
    let read: Vec<&str> = named.chain(found.iter().flatten().map(String::as_str)).collect();
    let before = tried.len();
    for topic in &read {
        tried.push(topic_line(config, consumer, topic, Use::Read));
    }
    if let Some(topic) = &config.dead_letter_topic {
        tried.push(topic_line(config, consumer, topic, Use::DeadLetters));
    }
    let all = tried[before..].iter().all(|line| line.outcome != Outcome::Failed);
    if let Some(topic) = config.dead_letter_topic.as_deref().filter(|_| all) {
        tried.extend(limits_line(config, topic, &read));
    }
    all
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    DeadLetters,
}

impl Use {
    fn right(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::DeadLetters => "WRITE",
        }
    }

    /// What the source does about a topic that is missing.
    fn wait(self) -> &'static str {
        match self {
            Self::Read => "; the source reads the other topics and waits for it as long as missing-topic-timeout",
            Self::DeadLetters => "",
        }
    }

    /// What a right that is missing comes to.
    fn missing(self, topic: &str) -> Tried {
        let right = self.right();
        let what = match self {
            Self::Read => "may not be read",
            Self::DeadLetters => "for dead letters may not be written",
        };
        Tried::failed(
            Step::Metadata,
            format!("the topic {topic} {what}: the right {right} on TOPIC {topic} is missing"),
            format!("allow {right} on TOPIC {topic} to this user"),
        )
    }
}

/// Whether a topic is there, with as many partitions as there are ids for where it is read, and may be used.
fn topic_line(config: &KafkaConfig, consumer: &BaseConsumer<Errors>, topic: &str, usage: Use) -> Tried {
    let timeout = config.brokers.connect_timeout();
    let leaders = match client::leaders(consumer, topic, timeout) {
        Ok(leaders) => leaders,
        Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            return Tried::failed(
                Step::Metadata,
                format!("there is no topic {topic}, or it may not be seen"),
                format!(
                    "create it, correct its name, or allow DESCRIBE and {} on TOPIC {topic}{}",
                    usage.right(),
                    usage.wait()
                ),
            );
        }
        Err(RDKafkaErrorCode::TopicAuthorizationFailed) => return usage.missing(topic),
        Err(code) => {
            return Tried::failed(Step::Metadata, format!("the topic {topic}: {code}"), "look at the broker's log");
        }
    };
    let count = i32::try_from(leaders.len()).unwrap_or(i32::MAX);
    // Of the topic for dead letters no partition is known to the platform, so its number is free.
    if usage == Use::Read
        && let Err(error) = client::check_ids(config, topic, count)
    {
        return Tried::failed(Step::Metadata, error.to_string(), "give it a source of its own");
    }
    let may = match rights(consumer, Resource::Topic(topic), timeout) {
        Ok(Some(rights)) => {
            let may = match usage {
                Use::Read => rights.read,
                Use::DeadLetters => rights.write,
            };
            if !may {
                return usage.missing(topic);
            }
            ""
        }
        Err(RDKafkaErrorCode::TopicAuthorizationFailed) => return usage.missing(topic),
        // Old brokers tell no rights.
        Ok(None) | Err(_) => "; the rights on it are not told",
    };
    let what = match usage {
        Use::Read => "the topic",
        Use::DeadLetters => "the topic for dead letters,",
    };
    let detail = format!("{what} {topic} has {}{may}", partitions(count));
    let without = leaders.into_iter().filter(|(_, leader)| leader.is_none());
    let leaderless: Vec<_> = without.map(|(partition, _)| format!("{topic}:{partition}")).collect();
    if leaderless.is_empty() {
        return Tried::ok(Step::Metadata, detail);
    }
    Tried {
        advice: Some(
            "start the brokers that have their replicas: until then the source reads the other partitions only"
                .to_owned(),
        ),
        ..Tried::new(Step::Metadata, Outcome::Warning, format!("{detail}; {} without a leader", leaderless.join(", ")))
    }
}

/// What a dead letter has more than its record: the headers that say where it was and why it is there.
const LETTER_HEADERS: u64 = 2 << 10;
/// The setting of a topic that bounds its records.
const TOPIC_LIMIT: &str = "max.message.bytes";

/// Compares what the topic for dead letters takes with what the others hold.
fn limits_line(config: &KafkaConfig, dead_letters: &str, read: &[&str]) -> Option<Tried> {
    let (dead_letter_limit, largest) = match limits(config, dead_letters, read) {
        Ok(told) => told,
        Err(reason) => {
            let detail = format!("{TOPIC_LIMIT} of {dead_letters} and the topics that are read is not told: {reason}");
            return Some(Tried::skipped(Step::Metadata, detail));
        }
    };
    if dead_letter_limit >= largest.saturating_add(LETTER_HEADERS) {
        return None;
    }
    Some(Tried {
        advice: Some(format!(
            "set {TOPIC_LIMIT} of {dead_letters} to {} or more: a dead letter is its record with up to {LETTER_HEADERS} bytes \
             of headers, and one that the topic refuses halts its partition",
            largest.saturating_add(LETTER_HEADERS)
        )),
        ..Tried::new(
            Step::Metadata,
            Outcome::Warning,
            format!(
                "the topic {dead_letters} takes records of {dead_letter_limit} bytes, and one that is read holds records of up to {largest}"
            ),
        )
    })
}

/// The limit of the topic for dead letters, and the largest one of the others.
fn limits(config: &KafkaConfig, dead_letters: &str, read: &[&str]) -> Result<(u64, u64), String> {
    let admin: AdminClient<Errors> =
        config.brokers.client([]).create_with_context(Errors::default()).map_err(|error| client::problem(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let topics: Vec<_> =
        std::iter::once(dead_letters).chain(read.iter().copied()).map(ResourceSpecifier::Topic).collect();
    let options = AdminOptions::new().request_timeout(Some(config.brokers.connect_timeout()));
    let answers = runtime.block_on(admin.describe_configs(&topics, &options)).map_err(|error| error.to_string())?;
    let mut limits = Vec::with_capacity(answers.len());
    for answer in answers {
        let topic = answer.map_err(|code| format!("{code}; allow DESCRIBE_CONFIGS on the topics to this user"))?;
        let limit = topic.get(TOPIC_LIMIT).and_then(|entry| entry.value.as_deref()).and_then(|text| text.parse().ok());
        limits.push((topic.specifier == OwnedResourceSpecifier::Topic(dead_letters.to_owned()), limit));
    }
    let of =
        |wanted| move |(is_dead_letters, limit): &(bool, Option<u64>)| limit.filter(|_| *is_dead_letters == wanted);
    let told = limits.iter().find_map(of(true)).zip(limits.iter().filter_map(of(false)).max());
    told.ok_or_else(|| "the brokers give no number".to_owned())
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
    // The library waits for the coordinator, and says no more than that it does, where the right is missing.
    let is_refused = |code| matches!(code, Some(RDKafkaErrorCode::GroupAuthorizationFailed));
    let may_read = || match rights(consumer, Resource::Group(name), timeout) {
        Ok(rights) => rights.map(|rights| rights.read),
        Err(code) => is_refused(Some(code)).then_some(false),
    };
    let right = may_read();
    if right == Some(false) {
        return tried.push(no_group_right(name));
    }
    let committed = match consumer.committed_offsets(list, timeout) {
        Ok(committed) => committed,
        Err(error) => {
            let mut codes = vec![error.rdkafka_error_code()];
            while let Some(polled) = consumer.poll(Duration::ZERO) {
                codes.push(polled.err().and_then(|error| error.rdkafka_error_code()));
            }
            let reasons = consumer.context().all();
            codes.extend(reasons.iter().map(|(code, _)| Some(*code)));
            if codes.into_iter().any(is_refused) {
                return tried.push(no_group_right(name));
            }
            let last = reasons.last().map(|(_, reason)| format!(" ({})", told(reason))).unwrap_or_default();
            let advice =
                "the names that the brokers give themselves (advertised.listeners) must be reached from here too";
            return tried.push(Tried::failed(Step::Group, format!("{name}: {error}{last}"), advice));
        }
    };
    // A coordinator that has just begun may not have told.
    let right = right.or_else(may_read);
    if right == Some(false) {
        return tried.push(no_group_right(name));
    }
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
    let rights = if right.is_none() { "; the rights on it are not told" } else { "" };
    let detail = format!("{name} has committed offsets of {has} of {} partitions; {members}{rights}", elements.len());
    tried.push(Tried::ok(Step::Group, detail));
}

fn no_group_right(name: &str) -> Tried {
    Tried::failed(
        Step::Group,
        format!("the group {name} may not be joined: the right READ on GROUP {name} is missing"),
        format!("allow READ on GROUP {name} to this user"),
    )
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
            ("[::1]:9093", "[::1]:9093"),
            ("[::1]", "[::1]:9092"),
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
