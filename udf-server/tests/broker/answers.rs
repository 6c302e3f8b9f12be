//! Answers of a broker that cannot be read.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kafka_broker::{Broker, Options};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::Value;
use tokio::task::block_in_place;
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::harness::{PATIENCE, Platform, Stage, deadline, send, start};

/// The key of a fetch among Kafka's requests.
const FETCH: [u8; 2] = [0, 1];
/// An answer without records is shorter.
const WITH_RECORDS: usize = 300;

/// Stands between clients and a broker, and cuts off half of each answer that has records while it is told to.
#[derive(Clone, Default)]
struct Cutter {
    cuts: Arc<AtomicBool>,
}

impl Cutter {
    fn serve(self, listener: TcpListener, broker: String) {
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(broker) = TcpStream::connect(&broker) else { continue };
                let fetches = Arc::new(Mutex::new(HashSet::new()));
                let requests = (client.try_clone().unwrap(), broker.try_clone().unwrap(), fetches.clone());
                thread::spawn(move || ask(requests));
                let cutter = self.clone();
                thread::spawn(move || cutter.answer((broker, client, fetches)));
            }
        });
    }

    fn answer(&self, (mut from, mut to, fetches): Way) {
        while let Ok(mut frame) = frame(&mut from) {
            let is_fetch = fetches.lock().unwrap().remove(&frame[..4]);
            if is_fetch && frame.len() > WITH_RECORDS && self.cuts.load(Ordering::Relaxed) {
                frame.truncate(frame.len() / 2);
            }
            if pass(&mut to, &frame).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    }
}

/// From, to, and the ids of fetches without an answer.
type Way = (TcpStream, TcpStream, Arc<Mutex<HashSet<Vec<u8>>>>);

fn ask((mut from, mut to, fetches): Way) {
    while let Ok(frame) = frame(&mut from) {
        // The request's key and version come before its id.
        if frame[..2] == FETCH {
            fetches.lock().unwrap().insert(frame[4..8].to_vec());
        }
        if pass(&mut to, &frame).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = Options::new().with_property("advertised.listeners", format!("PLAINTEXT://{address}"));
    let broker = block_in_place(|| Broker::start(options).unwrap());
    let cutter = Cutter::default();
    cutter.clone().serve(listener, broker.address());
    let stage = Stage { address, ..stage };
    stage.create_topic(1).await;
    stage.fill(1, 0, 5);

    let source = start(stage.config()).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let messages = platform.read_all(5).await;
    platform.ack(&messages).await;
    cutter.cuts.store(true, Ordering::Relaxed);
    let producer = stage.producer();
    for number in 0..10 {
        stage.send(&producer, 0, &format!("{number:0>100}"));
    }
    block_in_place(|| producer.flush(PATIENCE).unwrap());
    let is_told = |page: &Value| page["partitions"][0]["starving_age"].is_f64() && !page["last_broker_error"].is_null();
    endpoint.until("told", is_told).await;
    endpoint.until("fetched no more", |page| page["totals"]["paused_partitions"].as_u64() > Some(0)).await;

    cutter.cuts.store(false, Ordering::Relaxed);
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
