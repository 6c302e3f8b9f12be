//! Records that are given up: produced to a topic of their own, and done once the brokers have confirmed them there.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use numaflow_sdk::source::EncodedMessage;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use tokio::time::Instant;

use super::brokers::Brokers;
use super::record::{self, Original};

/// How long to wait before a letter that the brokers did not take is sent again.
const PAUSE: Duration = Duration::from_secs(1);
/// The least time between two lines of the log about that.
const QUIET: Duration = Duration::from_secs(30);

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
    /// Why it is given up, for whoever reads the topic.
    pub(super) reason: String,
}

/// The way to the dead-letter topic. Records wait here, in the order in which they came, until the brokers take them.
pub(super) struct DeadLetters {
    topic: String,
    producer: BaseProducer<Receipts>,
    waiting: VecDeque<Box<Letter>>,
    /// When those that wait are tried again.
    resume: Option<Instant>,
    told: Option<Instant>,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl DeadLetters {
    /// A producer of its own for the topic; it connects when there is something to send.
    pub(super) fn new(brokers: &Brokers, topic: &str) -> Result<Self, KafkaError> {
        let defaults = [("enable.idempotence", "true"), ("linger.ms", "5"), ("message.timeout.ms", "30000")];
        let producer = brokers.client(defaults).create_with_context(Receipts::default())?;
        Ok(Self { topic: topic.to_owned(), producer, waiting: VecDeque::new(), resume: None, told: None })
    }

    /// Takes letters.
    pub(super) fn post(&mut self, letters: Vec<Letter>) {
        self.waiting.extend(letters.into_iter().map(Box::new));
    }

    /// Sends what waits, and returns what the brokers have confirmed since the last call.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<Letter> {
        self.producer.poll(Duration::ZERO);
        let mut confirmed = Vec::new();
        for (letter, result) in self.producer.context().take() {
            match result {
                Ok(()) => confirmed.push(*letter),
                Err(error) => self.put_off(letter, &error, now),
            }
        }
        if self.resume.is_some_and(|resume| now < resume) {
            return confirmed;
        }
        self.resume = None;
        while let Some(letter) = self.waiting.pop_front() {
            if let Err((error, letter)) = self.send(letter) {
                self.put_off(letter, &error, now);
                break;
            }
        }
        confirmed
    }

    fn send(&self, letter: Box<Letter>) -> Result<(), (KafkaError, Box<Letter>)> {
        let Original { key, value, headers: of_record, time } = record::original(&letter.record);
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
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, letter).headers(headers);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        self.producer.send(record).map_err(|(error, record)| (error, record.delivery_opaque))
    }

    fn put_off(&mut self, letter: Box<Letter>, error: &KafkaError, now: Instant) {
        // A full queue of the client is nobody's fault, and empties by itself.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull)
            && self.told.is_none_or(|told| now.duration_since(told) >= QUIET)
        {
            self.told = Some(now);
            tracing::error!(
                %error,
                dead_letter_topic = self.topic,
                topic = letter.topic,
                partition = letter.partition,
                offset = letter.offset,
                "a record cannot be written to the dead-letter topic; it stays undone and is tried again"
            );
        }
        self.resume = Some(now + PAUSE);
        self.waiting.push_back(letter);
    }
}

/// What became of the letters that were sent.
#[derive(Debug, Default)]
struct Receipts(Mutex<Vec<Receipt>>);

type Receipt = (Box<Letter>, Result<(), KafkaError>);

impl Receipts {
    fn take(&self) -> Vec<Receipt> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Receipts {
    fn log(&self, _level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(fac, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "trouble of the dead-letter producer");
    }
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<Letter>;

    fn delivery(&self, result: &DeliveryResult<'_>, letter: Box<Letter>) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((letter, result));
    }
}
