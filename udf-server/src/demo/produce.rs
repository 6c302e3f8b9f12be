//! Lines into records, no faster than the group commits them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::topic::{DemoTopic, PARTITIONS};

/// The most bytes of a partition that are produced and not committed. The embedded broker forgets what is older than its
/// last five megabytes, and this leaves room for what it adds to each record.
const WINDOW: usize = 2 << 20;
/// What a record takes at the broker beside key and value, at most: a batch of its own.
const OVERHEAD: usize = 80;
/// How often the group is asked what it has committed while a partition's window is full.
const ASK: Duration = Duration::from_millis(50);
/// How long one poll for delivery reports may wait.
const POLL: Duration = Duration::from_millis(10);

/// What the producer does unless the user's properties say otherwise.
const DEFAULTS: [(&str, &str); 4] = [
    // Each record once and in order, also when a broker has to be asked again.
    ("enable.idempotence", "true"),
    ("linger.ms", "5"),
    ("message.timeout.ms", "60000"),
    ("socket.nagle.disable", "true"),
];

/// What came of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Records that the brokers have confirmed.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Empty lines, which are skipped.
    pub empty: u64,
    /// Lines that are too long for the brokers.
    pub too_long: u64,
}

/// How far a producer is, and the word to stop it.
#[derive(Debug, Default)]
pub struct Progress {
    confirmed: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// How many records the brokers have confirmed.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Ends [`produce`] soon, with [`ProduceError::Stopped`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Produces each line of `input` to `topic` and returns when the brokers have confirmed all of them. Blocks, so it wants
/// a thread of its own.
///
/// A line is any bytes up to `\n` or `\r\n`. Its key, from `key`, chooses the partition; lines without one take turns. A
/// line that is too long for the brokers goes to `too_long` instead.
///
/// # Errors
///
/// The input cannot be read, `too_long` fails, a record is not confirmed, or [`Progress::stop`] was called.
pub fn produce(
    topic: &DemoTopic,
    mut input: impl BufRead,
    key: fn(&[u8]) -> Option<String>,
    mut too_long: impl FnMut(&[u8]) -> io::Result<()>,
    progress: &Progress,
) -> Result<Totals, ProduceError> {
    let mut run = Run::new(topic, progress).map_err(|source| ProduceError::Client { source })?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(|source| ProduceError::Read { source })? == 0 {
            break;
        }
        let end = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = end.strip_suffix(b"\r").unwrap_or(end);
        if text.is_empty() {
            run.totals.empty += 1;
            continue;
        }
        run.send(text, key(text), &mut too_long)?;
        run.serve(Duration::ZERO, &mut too_long)?;
    }
    while run.producer.in_flight_count() > 0 {
        run.serve(POLL, &mut too_long)?;
    }
    let ledger = run.producer.context().lock();
    Ok(Totals { records: ledger.records, bytes: ledger.bytes, ..run.totals })
}

struct Run<'a> {
    topic: &'a DemoTopic,
    producer: BaseProducer<Ledger>,
    progress: &'a Progress,
    /// The most bytes of a key and a value together.
    longest: usize,
    /// When the group was asked last.
    asked: Instant,
    /// The partition of the next record without a key.
    turn: usize,
    totals: Totals,
}

type TooLong<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

impl<'a> Run<'a> {
    fn new(topic: &'a DemoTopic, progress: &'a Progress) -> Result<Self, KafkaError> {
        let client = topic.config().brokers().client(DEFAULTS);
        let longest = client.create_native_config()?.get("message.max.bytes")?.parse().unwrap_or(usize::MAX);
        let producer = client.create_with_context(Ledger::default())?;
        Ok(Self { topic, producer, progress, longest, asked: Instant::now(), turn: 0, totals: Totals::default() })
    }

    fn send(&mut self, line: &[u8], key: Option<String>, too_long: TooLong<'_>) -> Result<(), ProduceError> {
        let len = line.len() + key.as_ref().map_or(0, String::len);
        if len > self.longest {
            self.totals.too_long += 1;
            return too_long(line).map_err(|source| ProduceError::TooLong { source });
        }
        let partition = match &key {
            Some(key) => usize::try_from(hash(key.as_bytes()) % PARTITION_COUNT as u64).unwrap_or(0),
            None => {
                self.turn = (self.turn + 1) % PARTITION_COUNT;
                self.turn
            }
        };
        let size = len + OVERHEAD;
        self.wait_for_room(partition, size, too_long)?;
        loop {
            let mut record: BaseRecord<'_, str, [u8], Size> =
                BaseRecord::with_opaque_to(self.topic.name(), Box::new(size)).payload(line);
            record.partition = i32::try_from(partition).ok();
            record.key = key.as_deref();
            let Err((error, _)) = self.producer.send(record) else {
                self.producer.context().lock().partitions[partition].unconfirmed += size;
                return Ok(());
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(ProduceError::Delivery { problem: error.to_string() });
            }
            self.serve(POLL, too_long)?;
        }
    }

    /// Waits until a partition's window has room. One record fits into an empty window, however long it is.
    fn wait_for_room(&mut self, partition: usize, size: usize, too_long: TooLong<'_>) -> Result<(), ProduceError> {
        loop {
            let held = self.producer.context().lock().partitions[partition].held();
            if held == 0 || held + size <= WINDOW {
                return Ok(());
            }
            self.serve(POLL, too_long)?;
            if self.asked.elapsed() >= ASK {
                self.asked = Instant::now();
                match self.topic.committed() {
                    Ok(committed) => self.producer.context().lock().commit(&committed),
                    Err(error) => tracing::debug!(%error, "what the group has committed is not known anew"),
                }
            }
        }
    }

    /// Serves delivery reports, and what they bring.
    fn serve(&mut self, wait: Duration, too_long: TooLong<'_>) -> Result<(), ProduceError> {
        self.producer.poll(wait);
        let mut ledger = self.producer.context().lock();
        self.progress.confirmed.store(ledger.records, Ordering::Relaxed);
        let rejected = std::mem::take(&mut ledger.rejected);
        let problem = ledger.problem.take();
        drop(ledger);
        for line in rejected {
            self.totals.too_long += 1;
            too_long(&line).map_err(|source| ProduceError::TooLong { source })?;
        }
        if let Some(problem) = problem {
            return Err(ProduceError::Delivery { problem });
        }
        if self.progress.stop.load(Ordering::Relaxed) { Err(ProduceError::Stopped) } else { Ok(()) }
    }
}

const PARTITION_COUNT: usize = PARTITIONS.unsigned_abs() as usize;

/// What a record weighs, carried along until its delivery report.
type Size = Box<usize>;

/// What was sent and what became of it. Delivery reports are served by the thread that polls, so nobody ever waits for
/// the lock.
#[derive(Default)]
struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    partitions: [Window; PARTITION_COUNT],
    records: u64,
    bytes: u64,
    /// Lines that the broker found too long.
    rejected: Vec<Vec<u8>>,
    problem: Option<String>,
}

/// One partition's records that the group has not committed.
#[derive(Default)]
struct Window {
    /// Bytes that are sent and not confirmed.
    unconfirmed: usize,
    /// Offset and size of what is confirmed and not committed.
    confirmed: VecDeque<(i64, usize)>,
    confirmed_bytes: usize,
}

impl Window {
    fn held(&self) -> usize {
        self.unconfirmed + self.confirmed_bytes
    }
}

impl Books {
    fn commit(&mut self, committed: &[Option<i64>]) {
        for (window, committed) in self.partitions.iter_mut().zip(committed) {
            let Some(committed) = *committed else { continue };
            while let Some((_, size)) = window.confirmed.pop_front_if(|(offset, _)| *offset < committed) {
                window.confirmed_bytes -= size;
            }
        }
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Ledger {
    fn log(&self, _level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(fac, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the producer goes on trying");
    }
}

impl ProducerContext for Ledger {
    type DeliveryOpaque = Size;

    fn delivery(&self, result: &DeliveryResult<'_>, size: Size) {
        let mut books = self.lock();
        let message = match result {
            Ok(message) | Err((_, message)) => message,
        };
        let window = usize::try_from(message.partition()).ok().and_then(|place| books.partitions.get_mut(place));
        if let Some(window) = window {
            window.unconfirmed -= *size;
            if result.is_ok() {
                window.confirmed.push_back((message.offset(), *size));
                window.confirmed_bytes += *size;
            }
        }
        let value = message.payload().unwrap_or_default();
        match result {
            Ok(_) => {
                books.records += 1;
                books.bytes += value.len() as u64;
            }
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                books.rejected.push(value.to_vec());
            }
            Err((error, _)) => books.problem = Some(error.to_string()),
        }
    }
}

/// FNV-1a: the same key gets the same partition in every run.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Why an input was not produced to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProduceError {
    /// The input cannot be read on.
    Read {
        /// What the system says.
        source: io::Error,
    },
    /// A line that is too long cannot be put aside.
    TooLong {
        /// What the system says.
        source: io::Error,
    },
    /// The client library does not take the configuration.
    Client {
        /// What it says.
        source: KafkaError,
    },
    /// The brokers did not take a record.
    Delivery {
        /// What the client library says.
        problem: String,
    },
    /// [`Progress::stop`] was called.
    Stopped,
}

impl fmt::Display for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { .. } => f.write_str("the input cannot be read on"),
            Self::TooLong { .. } => f.write_str("a line that is too long for the brokers cannot be put aside"),
            Self::Client { .. } => f.write_str("the Kafka client does not take its configuration"),
            Self::Delivery { problem } => write!(f, "the brokers did not take a record: {problem}"),
            Self::Stopped => f.write_str("producing was stopped"),
        }
    }
}

impl std::error::Error for ProduceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source } | Self::TooLong { source } => Some(source),
            Self::Client { source } => Some(source),
            Self::Delivery { .. } | Self::Stopped => None,
        }
    }
}
