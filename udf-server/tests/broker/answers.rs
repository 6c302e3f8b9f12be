//! Answers of a broker that cannot be read.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use kafka_broker::{Broker, Options};
use numaflow_sdk::NackOptions;
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::Value;
use tokio::task::block_in_place;
use tokio::time::Instant;
use udf_server::kafka::{Brokers, KafkaConfig, Start};

use crate::endpoint::Endpoint;
use crate::harness::{PATIENCE, Platform, Stage, deadline, send, start};

/// An answer without records is shorter.
const WITH_RECORDS: usize = 300;

/// A request whose answer the proxy can change or delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Fetch,
    Metadata,
    Commit,
    /// Where partitions end.
    Ends,
    /// Where partitions begin.
    Beginnings,
}

impl Question {
    /// Reads it in a request.
    fn of(request: &[u8]) -> Option<Self> {
        // Offsets are asked for by a time, which for the ends and the beginnings is one of these.
        let asks_for = |time: i64| request.windows(8).any(|window| window == time.to_be_bytes());
        match request[..2] {
            [0, 1] => Some(Self::Fetch),
            [0, 2] if asks_for(-2) => Some(Self::Beginnings),
            [0, 2] if asks_for(-1) => Some(Self::Ends),
            [0, 3] => Some(Self::Metadata),
            [0, 8] => Some(Self::Commit),
            _ => None,
        }
    }
}

/// Blocks the threads that call [`Gate::pass`] until it is open.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.is_closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.is_closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_closed = self.is_closed.lock().unwrap();
        drop(self.opened.wait_while(is_closed, |is_closed| *is_closed).unwrap());
    }
}

/// A proxy between clients and a broker. It changes or delays answers while a test tells it to.
#[derive(Clone, Default)]
struct Spoiler {
    /// Fetch answers that have records lose their second half.
    cuts_fetches: Arc<AtomicBool>,
    /// Metadata answers list no broker.
    hides_brokers: Arc<AtomicBool>,
    /// The number of metadata answers that listed no broker.
    hidden: Arc<AtomicUsize>,
    /// Answers to commits wait here, and so do later answers of the same connection.
    commits: Arc<Gate>,
    /// Answers with the ends of partitions wait here, and so do later answers of the same connection.
    ends: Arc<Gate>,
    /// The number of answers with the ends of partitions.
    told_ends: Arc<AtomicUsize>,
    /// As `ends`, for the beginnings of partitions.
    beginnings: Arc<Gate>,
}

/// From, to, and the questions without an answer, by their ids.
type Way = (TcpStream, TcpStream, Arc<Mutex<HashMap<Vec<u8>, Question>>>);

impl Spoiler {
    /// Starts a broker behind a spoiler.
    fn start() -> (Self, Broker, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let options = Options::new().with_property("advertised.listeners", format!("PLAINTEXT://{address}"));
        let broker = block_in_place(|| Broker::start(options).unwrap());
        let spoiler = Self::default();
        spoiler.clone().serve(listener, broker.address());
        (spoiler, broker, address)
    }

    fn serve(self, listener: TcpListener, broker: String) {
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(broker) = TcpStream::connect(&broker) else { continue };
                let asked = Arc::default();
                let requests = (client.try_clone().unwrap(), broker.try_clone().unwrap(), Arc::clone(&asked));
                thread::spawn(move || ask(requests));
                let spoiler = self.clone();
                thread::spawn(move || spoiler.answer((broker, client, asked)));
            }
        });
    }

    fn answer(&self, (mut from, mut to, asked): Way) {
        while let Ok(mut frame) = frame(&mut from) {
            let question = asked.lock().unwrap().remove(&frame[..4]);
            match question {
                Some(Question::Fetch) if frame.len() > WITH_RECORDS && self.cuts_fetches.load(Ordering::Relaxed) => {
                    frame.truncate(frame.len() / 2);
                }
                Some(Question::Metadata) if self.hides_brokers.load(Ordering::Relaxed) => {
                    without_brokers(&mut frame);
                    self.hidden.fetch_add(1, Ordering::Relaxed);
                }
                Some(Question::Commit) => self.commits.pass(),
                Some(Question::Ends) => {
                    self.ends.pass();
                    self.told_ends.fetch_add(1, Ordering::Relaxed);
                }
                Some(Question::Beginnings) => self.beginnings.pass(),
                Some(Question::Fetch | Question::Metadata) | None => {}
            }
            if pass(&mut to, &frame).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    }
}

fn ask((mut from, mut to, asked): Way) {
    while let Ok(frame) = frame(&mut from) {
        if let Some(question) = Question::of(&frame) {
            // The request's key and version come before its id.
            asked.lock().unwrap().insert(frame[4..8].to_vec(), question);
        }
        if pass(&mut to, &frame).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

/// Takes the brokers out of an answer about metadata: its version 9 and later, whose lengths are one byte where they are short.
fn without_brokers(frame: &mut Vec<u8>) {
    // The request's id, no tags, the throttle.
    let start = 4 + 1 + 4;
    let mut at = start + 1;
    for _ in 1..frame[start] {
        // A broker's id, host, port, rack and tags.
        at += 4;
        at += usize::from(frame[at]).max(1) + 4;
        at += usize::from(frame[at]).max(1);
        assert_eq!(frame[at], 0, "a broker has tags");
        at += 1;
    }
    frame.splice(start..at, [1]);
}

fn frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

fn pass(to: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).unwrap();
    to.write_all(&[&len.to_be_bytes(), frame].concat())
}

/// The client library itself would fetch a thousand times a second.
pub(crate) async fn answers_that_cannot_be_read_are_asked_for_less_and_less_often(stage: Stage) {
    let (spoiler, _broker, address) = Spoiler::start();
    let stage = Stage { address, ..stage };
    stage.create_topic(1).await;
    stage.fill(1, 0, 5);

    let source = start(stage.config()).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let messages = platform.read_all(5).await;
    platform.ack(&messages).await;
    spoiler.cuts_fetches.store(true, Ordering::Relaxed);
    let producer = stage.producer();
    for number in 0..10 {
        stage.send(&producer, 0, &format!("{number:0>100}"));
    }
    block_in_place(|| producer.flush(PATIENCE).unwrap());
    let is_told = |page: &Value| page["partitions"][0]["starving_age"].is_f64() && !page["last_broker_error"].is_null();
    endpoint.until("told", is_told).await;
    endpoint.until("fetched no more", |page| page["totals"]["paused_partitions"].as_u64() > Some(0)).await;

    spoiler.cuts_fetches.store(false, Ordering::Relaxed);
    let messages = platform.read_all(10).await;
    assert_eq!(stage.places(&messages), (5..15).map(|offset| (0, offset)).collect::<Vec<_>>());
    platform.ack(&messages).await;
    endpoint.until("done", |page| page["partitions"][0]["committed"] == 15).await;
    endpoint.becomes_ready().await;
    assert!(source.close(PATIENCE).await);
}

/// Compaction leaves batches behind that are empty, and after ten answers without a record the client library says that one may
/// be too large to be fetched.
pub(crate) async fn answers_without_records_stop_no_partition(stage: Stage) {
    /// Each fills a segment of its own.
    const PRODUCERS: i64 = 16;
    const RECORDS: i64 = 10;
    let options = Options::new().with_property("log.cleaner.backoff.ms", "100");
    let broker = block_in_place(|| Broker::start(options).unwrap());
    let stage = Stage { address: broker.address(), ..stage };
    let segments = ("segment.bytes", "1048576");
    stage.create_topic_with(1, &[segments]).await;
    let value = "x".repeat(60_000);
    for _ in 0..PRODUCERS {
        let producer = stage.producer();
        for number in 0..RECORDS {
            let key = number.to_string();
            send(&producer, BaseRecord::to(&stage.topic).partition(0).key(&key).payload(&value));
        }
        block_in_place(|| producer.flush(PATIENCE).unwrap());
    }
    // At once, so that each segment is cleaned by itself.
    let compact = [segments, ("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
    stage.set_topic(&compact).await;
    let first = broker.segment(&stage.topic, 0);
    let until = deadline();
    let size = || -> u64 {
        let files = fs::read_dir(first.parent().unwrap()).unwrap().filter_map(Result::ok);
        let segments = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
        segments.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    };
    // The last segments keep their records.
    while size() > 3 << 20 {
        assert!(Instant::now() < until, "{} bytes are left", size());
    }

    let source = start(stage.config()).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let last = (0, PRODUCERS * RECORDS - 1);
    let mut places = Vec::new();
    while places.last() != Some(&last) {
        let page = endpoint.page().await;
        assert!(page["partitions"].as_array().unwrap().iter().all(|it| it["halted"].is_null()), "{page:#}");
        assert!(Instant::now() < until, "{places:?} came: {page:#}");
        let messages = platform.read(500, Duration::from_millis(500)).await;
        places.extend(stage.places(&messages));
        platform.ack(&messages).await;
    }
    assert!(places.len() < 50, "it was compacted: {places:?}");
    assert!(source.close(PATIENCE).await);
}

/// After answers in which no broker is, a client of the library may know none any more, and ask nobody: not each time, so it has
/// some. Meanwhile the partition may be lost, and come back.
pub(crate) async fn answers_without_brokers_stop_neither_records_nor_questions_nor_letters(stage: Stage) {
    const ROUNDS: i64 = 2;
    /// Three clients ask, and each of them more than once.
    const ANSWERS: usize = 30;
    const EACH: i64 = 5;
    let (spoiler, _broker, address) = Spoiler::start();
    let stage = Stage { address, ..stage };
    stage.create_topic(1).await;
    let dead = stage.beside("dead");
    dead.create_topic(1).await;

    let source = start(stage.config().with_dead_letter_topic(&dead.topic).with_max_deliveries(1)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let producer = stage.producer();
    // In the first round the producer of dead letters gets to know the brokers.
    for round in 0..=ROUNDS {
        if round > 0 {
            let before = spoiler.hidden.load(Ordering::Relaxed);
            spoiler.hides_brokers.store(true, Ordering::Relaxed);
            endpoint.until("told", |_| spoiler.hidden.load(Ordering::Relaxed) >= before + ANSWERS).await;
            spoiler.hides_brokers.store(false, Ordering::Relaxed);
        }
        for number in 0..EACH {
            stage.send(&producer, 0, &number.to_string());
        }
        block_in_place(|| producer.flush(PATIENCE).unwrap());
        let (first, end) = (EACH * round, EACH * (round + 1));
        let is_done = |page: &Value| {
            let partition = &page["partitions"][0];
            partition["committed"] == end && partition["end"] == end
        };
        let until = deadline();
        let mut page = endpoint.page().await;
        while !is_done(&page) {
            assert!(Instant::now() < until, "not done: {page:#}");
            let messages = platform.read(500, Duration::from_millis(500)).await;
            let (given_up, others): (Vec<_>, Vec<_>) =
                messages.iter().partition(|message| stage.places([*message]) == [(0, first)]);
            if !given_up.is_empty() {
                platform.nack(given_up, NackOptions::new()).await;
            }
            platform.ack(others).await;
            page = endpoint.page().await;
        }
        let letters = page["totals"]["dead_letter_records"].as_i64();
        assert!(letters > Some(round), "{page:#}");
    }
    assert!(source.close(PATIENCE).await);
}

/// A client that looks up by itself where to begin takes the late answer for news, whatever it was told meanwhile.
pub(crate) async fn late_answers_do_not_move_a_partition_that_has_waited(stage: Stage) {
    let (spoiler, _broker, address) = Spoiler::start();
    let stage = Stage { address, ..stage };
    stage.create_topic(1).await;
    stage.fill(1, 0, 5);
    spoiler.ends.close();
    spoiler.beginnings.close();
    let source = start(stage.config().with_start(Start::Latest)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    endpoint.until("waiting", |page| page["partitions"][0]["waits"].is_string()).await;
    spoiler.ends.open();
    endpoint.until("begun", |page| page["partitions"][0]["committed"] == 5).await;
    spoiler.beginnings.open();
    // Twice, five seconds apart: the client asks again sooner.
    let told = spoiler.told_ends.load(Ordering::Relaxed);
    endpoint.until("asked twice", |_| spoiler.told_ends.load(Ordering::Relaxed) >= told + 2).await;
    stage.fill(1, 5, 1);
    let messages = platform.read_all(1).await;
    assert_eq!(stage.places(&messages), [(0, 5)]);
    platform.ack(&messages).await;
    endpoint.until("done", |page| page["partitions"][0]["committed"] == 6).await;
    assert!(source.close(PATIENCE).await);
}

/// The client library tries such a commit again for minutes before it says that it failed.
pub(crate) async fn a_commit_without_an_answer_is_told_as_one_that_fails(stage: Stage) {
    let (spoiler, _broker, address) = Spoiler::start();
    let stage = Stage::new(address, stage.topic);
    stage.create_topic(1).await;
    let producer = stage.producer();
    stage.send(&producer, 0, "first");
    // The session outlasts the silence: the member's heartbeats wait behind the commit.
    let brokers = Brokers::new(&stage.address).with_property("session.timeout.ms", "120000");
    let source = start(KafkaConfig::new(brokers, &stage.topic, &stage.group)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let messages = platform.read_all(1).await;
    spoiler.commits.close();
    platform.ack(&messages).await;
    let fails = |page: &Value| page["failing_commits_age"].as_f64() >= Some(10.0);
    endpoint.until("overdue", fails).await;
    spoiler.commits.open();
    endpoint.until("answered", |page| page["failing_commits_age"].is_null()).await;
    stage.sampler(1).wait_for(&[(0, (1, 1))].into());
    assert!(source.close(PATIENCE).await);
}
