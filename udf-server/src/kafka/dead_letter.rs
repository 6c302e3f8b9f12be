//! Records that are given up: produced to a topic of their own, and done once the brokers have confirmed them there.
//!
//! Each letter has a time of its own for its next attempt, so that one that fails does not delay the others. One that the
//! topic refuses stops its partition, visibly, and is tried again at a slow pace: when the topic has been repaired, the
//! partition goes on by itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use numaflow_sdk::source::EncodedMessage;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use tokio::time::Instant;

use self::backlog::Backlog;
use self::refusal::{Verdict, remedy, verdict};
use self::waiting::{Waiting, pause};
use super::bootstrap::Bootstrap;
use super::brokers::Brokers;
use super::record::{self, Form, Original};
use super::statistics;
use super::throttle::Throttle;

pub(super) mod backlog;
mod refusal;
mod waiting;

/// How long a letter waits that the topic refused. Somebody has to act first, and then it should not take minutes.
const SLOW_PACE: Duration = Duration::from_secs(10);
/// How long a letter waits for which the client had no room. It has some as soon as the brokers answer.
const NO_ROOM: Duration = Duration::from_millis(100);
/// What may be on its way to the brokers at a time. The client keeps a copy of each letter, beside the one in the tracker.
const ON_THEIR_WAY: usize = 16 * 1024 * 1024;
/// The most that the client library lets be set: how large a letter may be is the topic's decision.
const LARGEST: &str = "1000000000";
/// A record above this size goes alone, compressed. Brokers close the connection to a request above
/// `socket.request.max.bytes` (100 MiB), so it would never be refused, and would break the connection of the others.
const LARGE: usize = 32 << 20;
/// How often the client asks for the topic. Until it does, it refuses by itself what goes to a topic that was refused before.
const LOOK_AGAIN_MILLIS: &str = "5000";

/// The most bytes of a nack's reason that go into a letter. One nack may give up many records, and each has its own letter.
const LONGEST_REASON: usize = 4 << 10;

/// A record that is given up.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// The partition's id with the platform, and the record's offset: where its tracker finds it.
    pub(super) id: u16,
    pub(super) offset: i64,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) record: EncodedMessage,
    pub(super) deliveries: u32,
    /// What its tracker tells it from another record of the same offset by.
    pub(super) cuts: u32,
    /// Why it is given up, for whoever reads the topic.
    pub(super) reason: String,
}

impl Letter {
    /// The reason of a letter whose record was nacked with this one.
    pub(super) fn reason_of(nack: Option<&str>) -> String {
        let reason = nack.unwrap_or("nacked");
        reason[..reason.floor_char_boundary(LONGEST_REASON)].to_owned()
    }
}

/// A letter on its way.
#[derive(Debug)]
struct Envelope {
    letter: Letter,
    /// Letters have ascending numbers, in the order in which they are posted.
    number: u64,
    /// How often it failed in a way that may pass.
    failures: u32,
    /// It is large, or was refused for its size among others, and goes alone since then.
    alone: bool,
}

/// The way to the dead-letter topic.
pub(super) struct DeadLetters {
    topic: String,
    /// The form of the messages that are read back into records.
    form: Form,
    brokers: Brokers,
    /// Sends letters that come together in one batch.
    together: BaseProducer<Receipts>,
    /// Sends each letter in a batch of its own, as small as it gets. It is made with the first one that needs it.
    alone: Option<BaseProducer<Receipts>>,
    /// The producers have the secrets of before: when new ones are to be made.
    outdated: Option<Instant>,
    waiting: Waiting<Box<Envelope>>,
    /// Bytes of letters that were sent and have no receipt.
    on_their_way: usize,
    /// Since when each letter that is not written waits.
    unwritten: BTreeMap<u64, Instant>,
    /// Why the topic refuses a letter: by its partition's id and its offset.
    refused: BTreeMap<(u16, i64), String>,
    posted: u64,
    /// Receipts of producers that have come to an end.
    late: Vec<Receipt>,
    changed: bool,
    log: Throttle<String>,
    log_of_written: Throttle<()>,
    /// Letters that were written since the log told of them.
    untold: usize,
}

/// What came of letters.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// What the brokers have confirmed.
    pub(super) written: Vec<Letter>,
    /// What the topic refuses, and did not before: partitions by their ids, and offsets.
    pub(super) refused: Vec<(u16, i64)>,
    /// How many attempts failed.
    pub(super) failures: usize,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl DeadLetters {
    /// A producer of its own for the topic; it connects when there is something to send.
    pub(super) fn new(brokers: &Brokers, topic: &str, form: Form) -> Result<Self, KafkaError> {
        Ok(Self {
            topic: topic.to_owned(),
            form,
            brokers: brokers.clone(),
            together: producer(brokers, false)?,
            alone: None,
            outdated: None,
            waiting: Waiting::default(),
            on_their_way: 0,
            unwritten: BTreeMap::new(),
            refused: BTreeMap::new(),
            posted: 0,
            late: Vec::new(),
            changed: false,
            log: Throttle::default(),
            log_of_written: Throttle::default(),
            untold: 0,
        })
    }

    /// Sends with new producers as soon as they can be made. What the old ones have not confirmed is sent again.
    pub(super) fn renew(&mut self, brokers: &Brokers, now: Instant) {
        self.brokers = brokers.clone();
        self.outdated = Some(now);
        self.renew_if_due(now);
    }

    fn renew_if_due(&mut self, now: Instant) {
        if self.outdated.is_none_or(|due| now < due) {
            return;
        }
        let together = match producer(&self.brokers, false) {
            Ok(together) => together,
            Err(error) => {
                tracing::error!(%error, "the dead-letter producer keeps its old secrets");
                self.outdated = Some(now + SLOW_PACE);
                return;
            }
        };
        self.outdated = None;
        let old = std::mem::replace(&mut self.together, together);
        for old in [Some(old), self.alone.take()].into_iter().flatten() {
            self.late.append(&mut end(&old));
        }
    }

    /// Takes letters.
    pub(super) fn post(&mut self, letters: Vec<Letter>, now: Instant) {
        for letter in letters {
            let number = self.posted;
            self.posted += 1;
            self.unwritten.insert(number, now);
            let alone = letter.record.len() > LARGE;
            self.waiting.add(number, now, Box::new(Envelope { letter, number, failures: 0, alone }));
            self.changed = true;
        }
    }

    /// Sends what is due, and says what came of what was sent.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        let mut turn = Turn::default();
        self.renew_if_due(now);
        self.take_receipts(now, &mut turn);
        while self.on_their_way < ON_THEIR_WAY
            && let Some(envelope) = self.waiting.next(now)
        {
            let bytes = envelope.letter.record.len();
            match self.send(envelope) {
                Ok(()) => self.on_their_way += bytes,
                Err((error, envelope)) => self.put_off(envelope, &error, now, &mut turn),
            }
        }
        self.tell_written(now);
        turn
    }

    /// Keeps only letters that are still awaited. A letter whose partition went to another member is not: the new owner
    /// delivers the record again.
    pub(super) fn keep(&mut self, is_awaited: impl Fn(&Letter) -> bool) {
        for envelope in self.waiting.remove(|envelope| !is_awaited(&envelope.letter)) {
            self.close(&envelope);
        }
    }

    /// The letters that are not written; `None` if that is the same as at the last call.
    pub(super) fn news(&mut self) -> Option<Backlog> {
        std::mem::take(&mut self.changed).then(|| Backlog {
            waiting: self.unwritten.len(),
            since: self.unwritten.first_key_value().map(|(_, posted)| *posted),
            refused: self.refused.clone(),
        })
    }

    fn take_receipts(&mut self, now: Instant, turn: &mut Turn) {
        let mut receipts = std::mem::take(&mut self.late);
        for producer in [Some(&self.together), self.alone.as_ref()].into_iter().flatten() {
            producer.poll(Duration::ZERO);
            receipts.append(&mut producer.context().take());
            producer.context().bootstrap.repeat_if_due(producer.client(), &self.brokers);
        }
        for (envelope, result) in receipts {
            self.on_their_way = self.on_their_way.saturating_sub(envelope.letter.record.len());
            match result {
                Ok(()) => {
                    self.close(&envelope);
                    self.untold += 1;
                    turn.written.push(envelope.letter);
                }
                Err(error) => self.put_off(envelope, &error, now, turn),
            }
        }
    }

    fn send(&mut self, envelope: Box<Envelope>) -> Result<(), (KafkaError, Box<Envelope>)> {
        let producer: &BaseProducer<Receipts> = match (&mut self.alone, envelope.alone) {
            (_, false) => &self.together,
            (Some(alone), true) => alone,
            (none, true) => match producer(&self.brokers, true) {
                Ok(alone) => none.insert(alone),
                Err(error) => return Err((error, envelope)),
            },
        };
        let letter = &envelope.letter;
        let Original { key, value, headers: of_record, time } = record::original(&letter.record, self.form);
        let millis = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis().to_string(),
            Err(before) => format!("-{}", before.duration().as_millis()),
        };
        let (partition, offset) = (letter.partition.to_string(), letter.offset.to_string());
        let deliveries = letter.deliveries.to_string();
        let mut headers = OwnedHeaders::new_with_capacity(of_record.len() + 6);
        for (name, value) in &of_record {
            headers = headers.insert(Header { key: name, value: value.as_ref().map(|value| &value[..]) });
        }
        for (name, value) in [
            ("numaflow.dlq.topic", &letter.topic),
            ("numaflow.dlq.partition", &partition),
            ("numaflow.dlq.offset", &offset),
            // As a header only: a topic is cleared by its records' own timestamps, and this one may be long past.
            ("numaflow.dlq.timestamp", &millis),
            ("numaflow.dlq.deliveries", &deliveries),
            ("numaflow.dlq.reason", &letter.reason),
        ] {
            headers = headers.insert(Header { key: name, value: Some(value.as_bytes()) });
        }
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, envelope).headers(headers);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        producer.send(record).map_err(|(error, record)| (error, record.delivery_opaque))
    }

    /// Decides when a letter that was not written is tried again.
    fn put_off(&mut self, mut envelope: Box<Envelope>, error: &KafkaError, now: Instant, turn: &mut Turn) {
        let (code, reason) = self.cause(&envelope, error);
        let due = match verdict(code) {
            _ if code == RDKafkaErrorCode::QueueFull => now + NO_ROOM,
            Verdict::TooLarge if !envelope.alone => {
                envelope.alone = true;
                now
            }
            Verdict::TooLarge | Verdict::Lasting => {
                turn.failures += 1;
                self.refuse(&envelope, code, &reason, now, turn);
                now + SLOW_PACE
            }
            Verdict::Passing => {
                turn.failures += 1;
                envelope.failures = envelope.failures.saturating_add(1);
                self.tell_failure(&envelope, code, &reason, now);
                now + pause(envelope.failures)
            }
        };
        self.waiting.add(envelope.number, due, envelope);
    }

    /// What is behind an error. A producer that has come to an end refuses everything from then on with an error that says
    /// no more than that; a new one takes its place.
    fn cause(&mut self, envelope: &Envelope, error: &KafkaError) -> (RDKafkaErrorCode, String) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code != RDKafkaErrorCode::Fatal {
            return (code, code.to_string());
        }
        let place = if envelope.alone { self.alone.as_mut() } else { Some(&mut self.together) };
        let Some(place) = place else { return (code, code.to_string()) };
        let Some((code, reason)) = place.client().fatal_error() else { return (code, code.to_string()) };
        match producer(&self.brokers, envelope.alone) {
            Ok(new) => self.late.append(&mut end(&std::mem::replace(place, new))),
            Err(error) => tracing::debug!(%error, "there is no new producer of dead letters yet"),
        }
        (code, reason)
    }

    fn refuse(&mut self, envelope: &Envelope, code: RDKafkaErrorCode, error: &str, now: Instant, turn: &mut Turn) {
        let (letter, topic) = (&envelope.letter, &self.topic);
        let remedy = remedy(code);
        let reason = format!("the dead-letter topic {topic} refuses the record ({error}): {remedy}");
        if self.refused.insert((letter.id, letter.offset), reason).is_none() {
            self.changed = true;
            turn.refused.push((letter.id, letter.offset));
        }
        if let Some(held_back) = self.log.admit(format!("{code:?}"), now) {
            tracing::error!(
                error,
                dead_letter_topic = topic,
                topic = letter.topic,
                partition = letter.partition,
                offset = letter.offset,
                bytes = letter.record.len(),
                held_back,
                "the dead-letter topic refuses a record; its partition stands still there and goes on when the topic takes \
                 it: {remedy}"
            );
        }
    }

    fn tell_failure(&mut self, envelope: &Envelope, code: RDKafkaErrorCode, error: &str, now: Instant) {
        let letter = &envelope.letter;
        if let Some(held_back) = self.log.admit(format!("{code:?}"), now) {
            tracing::warn!(
                error,
                dead_letter_topic = self.topic,
                topic = letter.topic,
                partition = letter.partition,
                offset = letter.offset,
                held_back,
                "a record cannot be written to the dead-letter topic now; it stays undone and is tried again"
            );
        }
    }

    fn tell_written(&mut self, now: Instant) {
        if self.untold > 0 && self.log_of_written.admit((), now).is_some() {
            let records = std::mem::take(&mut self.untold);
            tracing::warn!(
                records,
                dead_letter_topic = self.topic,
                "records were given up and are in the dead-letter topic; their header numaflow.dlq.reason says why"
            );
        }
    }

    /// Takes note that a letter is done with, in one way or another.
    fn close(&mut self, envelope: &Envelope) {
        let letter = &envelope.letter;
        self.changed = true;
        self.unwritten.remove(&envelope.number);
        if self.refused.remove(&(letter.id, letter.offset)).is_some() {
            tracing::info!(
                topic = letter.topic,
                partition = letter.partition,
                offset = letter.offset,
                "the partition goes on"
            );
        }
    }
}

/// A producer of dead letters: one that sends many in a batch, or each alone.
fn producer(brokers: &Brokers, alone: bool) -> Result<BaseProducer<Receipts>, KafkaError> {
    let defaults = [
        ("enable.idempotence", "true"),
        ("linger.ms", "5"),
        ("message.timeout.ms", "30000"),
        ("message.max.bytes", LARGEST),
        ("topic.metadata.propagation.max.ms", "5000"),
    ];
    let mut config = brokers.client(defaults);
    config.set("topic.metadata.refresh.interval.ms", LOOK_AGAIN_MILLIS);
    if alone {
        // A topic's limit counts compressed bytes; the record may have been compressed where it comes from.
        config.set("batch.num.messages", "1");
        if ["compression.type", "compression.codec"].iter().all(|name| brokers.property(name).is_none()) {
            config.set("compression.type", "zstd");
        }
    }
    config.create_with_context(Receipts::default())
}

/// Ends a producer, and hands back the receipts of all that it still has.
fn end(producer: &BaseProducer<Receipts>) -> Vec<Receipt> {
    producer.purge(PurgeConfig::default().queue().inflight());
    if let Err(error) = producer.flush(Duration::from_millis(500)) {
        tracing::debug!(%error, "a producer of dead letters has not ended in order");
    }
    producer.context().take()
}

/// The context of a producer: what became of the letters that were sent.
#[derive(Debug, Default)]
struct Receipts {
    receipts: Mutex<Vec<Receipt>>,
    bootstrap: Bootstrap,
}

type Receipt = (Box<Envelope>, Result<(), KafkaError>);

impl Receipts {
    fn take(&self) -> Vec<Receipt> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Receipt>> {
        // Nothing panics while it holds the lock.
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Receipts {
    fn log(&self, _level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(fac, "librdkafka: {message}");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(told) = statistics::read(statistics) {
            self.bootstrap.note(&told);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "trouble of the dead-letter producer");
    }
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<Envelope>;

    fn delivery(&self, result: &DeliveryResult<'_>, envelope: Box<Envelope>) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        self.lock().push((envelope, result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_letter_is_bounded() {
        assert_eq!(Letter::reason_of(None), "nacked");
        assert_eq!(Letter::reason_of(Some("no such airport")), "no such airport");
        // The bound falls into the middle of a character.
        let long = format!("x{}", "é".repeat(LONGEST_REASON));
        let reason = Letter::reason_of(Some(&long));
        assert_eq!(reason.len(), LONGEST_REASON - 1);
        assert!(long.starts_with(&reason));
    }
}
