//! Uniquely numbered records, from plain and from transactional producers, at an even pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::Outcome;
use super::stage::{Replication, Stage};

/// Half of them are transactional.
const PRODUCERS: u64 = 4;
/// How often a producer looks what is due.
const TICK: Duration = Duration::from_millis(20);
/// How long the broker may take for a single thing; it may be down meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the broker may take to serve a new transactional producer.
const START: Duration = Duration::from_secs(180);
/// How long a client may take to write its records, or to end a transaction, before another client takes its place. After some
/// faults the client library asks no broker any more (librdkafka 5301), or says for ever that a transaction is to be tried again.
const STUCK: Duration = Duration::from_secs(30);
/// How many records a plain producer sends before it waits until the broker has them.
const ROUND: u64 = 100;
/// How long the broker lets a transaction be open, in milliseconds: nothing behind it is read meanwhile.
const TRANSACTION: &str = "10000";
/// One transaction in so many is aborted.
const ABORTED: u32 = 5;
/// What follows the number in a value.
const FILLER: &str = "................................................................................";

/// A producer that polls by itself: the library waits for that when a transaction ends.
type Client = ThreadedProducer<DefaultProducerContext>;

/// Producers at work.
#[derive(Debug)]
pub(super) struct Producers {
    threads: Vec<JoinHandle<Outcome<()>>>,
    hurry: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Producers {
    /// Starts to produce `records` records within `time`. Those of aborted transactions count.
    pub(super) fn start(stage: &Arc<Stage>, seed: u64, records: u64, time: Duration) -> Outcome<Self> {
        Self::start_at(stage, 0, seed, records, time)
    }

    /// The same with numbers from `first` on.
    pub(super) fn start_at(stage: &Arc<Stage>, first: u64, seed: u64, records: u64, time: Duration) -> Outcome<Self> {
        let hurry = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for index in 0..PRODUCERS {
            let work = Work {
                stage: stage.clone(),
                rng: Rng::with_seed(seed.wrapping_mul(PRODUCERS).wrapping_add(index)),
                index,
                first,
                count: records / PRODUCERS + u64::from(index < records % PRODUCERS),
                time,
                hurry: hurry.clone(),
                sent: sent.clone(),
            };
            threads.push(thread::Builder::new().name(format!("producer {index}")).spawn(move || work.run())?);
        }
        Ok(Self { threads, hurry, sent })
    }

    /// How many records were handed to the client library.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Has what is left produced at once, and waits until the broker has all.
    pub(super) fn finish(self) -> Outcome<()> {
        self.hurry.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a producer panicked")??;
        }
        Ok(())
    }
}

struct Work {
    stage: Arc<Stage>,
    rng: Rng,
    index: u64,
    /// What is added to each number.
    first: u64,
    count: u64,
    time: Duration,
    hurry: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Work {
    fn run(mut self) -> Outcome<()> {
        if self.is_transactional() { self.produce_in_transactions() } else { self.produce_plainly() }
    }

    /// Where logs are cut nobody is: a transaction whose end is cut off stays open for ever, and nobody reads behind it.
    fn is_transactional(&self) -> bool {
        !self.index.is_multiple_of(2) && self.stage.site.replication != Replication::Unclean
    }

    fn produce_plainly(&mut self) -> Outcome<()> {
        // The client library gives up on a partition for good whose log was cut, if it may not produce anything twice.
        let is_idempotent = (self.stage.site.replication != Replication::Unclean).to_string();
        let mut config = self.stage.client();
        config.set("enable.idempotence", is_idempotent).set("linger.ms", "5");
        let mut producer: Client = config.create()?;
        let began = Instant::now();
        for index in 0..self.count {
            self.wait_for_turn(began, index);
            self.send(&producer, index)?;
            let is_last = index + 1 == self.count;
            if (is_last || (index + 1).is_multiple_of(ROUND)) && producer.flush(STUCK).is_err() {
                // What it has not written is not in the topic: the truth is what a reader finds.
                producer = config.create()?;
            }
        }
        Ok(())
    }

    fn produce_in_transactions(&mut self) -> Outcome<()> {
        let began = Instant::now();
        let mut producer = self.transactional()?;
        let mut index = 0;
        while index < self.count {
            let end = self.count.min(index + self.rng.u64(20..60));
            if producer.begin_transaction().is_err() {
                producer = self.transactional()?;
                producer.begin_transaction()?;
            }
            while index < end {
                self.wait_for_turn(began, index);
                self.send(&producer, index)?;
                index += 1;
            }
            if self.end_transaction(&producer).is_err() {
                // A new producer has the broker abort what is open. What was in it was committed or not: the truth is what a
                // reader finds.
                producer = self.transactional()?;
            }
        }
        Ok(())
    }

    fn end_transaction(&mut self, producer: &Client) -> Outcome<()> {
        if self.rng.u32(0..ABORTED) == 0 {
            return until_done(STUCK, || producer.abort_transaction(PATIENCE));
        }
        until_done(STUCK, || producer.commit_transaction(PATIENCE))
    }

    /// A producer whose transactions of before, if there is one open, are aborted.
    fn transactional(&self) -> Outcome<Client> {
        let producer: Client = self
            .stage
            .client()
            .set("transactional.id", format!("{}-{}", self.stage.topic, self.index))
            .set("linger.ms", "5")
            .set("transaction.timeout.ms", TRANSACTION)
            .create()?;
        until_done(START, || producer.init_transactions(PATIENCE))?;
        Ok(producer)
    }

    /// Waits until it is time for a record.
    fn wait_for_turn(&self, began: Instant, index: u64) {
        let share = self.time.as_secs_f64() / (self.count.max(1) as f64);
        let due = began + Duration::from_secs_f64(share * (index as f64));
        while !self.hurry.load(Ordering::Relaxed) && Instant::now() < due {
            thread::sleep(TICK);
        }
    }

    fn send(&mut self, producer: &Client, index: u64) -> Outcome<()> {
        let number = self.first + index * PRODUCERS + self.index;
        let value = format!("{number} {FILLER}");
        let mut partition = self.rng.i32(0..self.stage.partitions());
        loop {
            let record = BaseRecord::<(), str>::to(&self.stage.topic).partition(partition).payload(&value);
            let Err((error, _)) = producer.send(record) else { break };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => thread::sleep(TICK),
                // The client has yet to hear of it.
                Some(RDKafkaErrorCode::UnknownPartition) if partition > 0 => partition = 0,
                // The transaction has failed already, as its end will tell.
                _ if self.is_transactional() => break,
                _ => return Err(error.into()),
            }
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Tries until it succeeds or cannot any more. The broker may be down for a while.
fn until_done(patience: Duration, mut attempt: impl FnMut() -> Result<(), KafkaError>) -> Outcome<()> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            Err(error) if is_timeout(&error) && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        // The client library answers at once while it knows that it cannot.
        thread::sleep(TICK);
    }
}

fn is_timeout(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut))
}

/// The number of a record with this value.
pub(super) fn number_of(value: &[u8]) -> Option<u64> {
    let digits = value.split(|byte| *byte == b' ').next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}
