//! The demo's producer.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use udf_server::demo::{DemoTopic, PARTITIONS, ProduceError, Progress, produce};
use udf_server::kafka::KafkaSource;

use crate::harness::{PATIENCE, Platform};

fn first_word(line: &[u8]) -> Option<String> {
    str::from_utf8(line).ok()?.split_once(' ').map(|(word, _)| word.to_owned())
}

pub(crate) async fn an_input_longer_than_the_broker_keeps_arrives_whole() {
    let topic = tokio::task::spawn_blocking(|| DemoTopic::embedded("lines", "demo")).await.unwrap().unwrap();
    let topic = Arc::new(topic);
    // Nine megabytes a partition, which is about twice what the broker keeps.
    const LINES: usize = 9_000;
    let line = |number: usize| format!("{} {number} {}\n", number % 60, "x".repeat(6_000));
    let input: String = (0..LINES).map(line).collect();

    let producing = thread::spawn({
        let topic = topic.clone();
        move || {
            let too_long = |_: &[u8]| panic!("no line is too long");
            produce(&topic, Cursor::new(input), first_word, too_long, &Progress::default())
        }
    });
    let config = topic.config().clone();
    let source = tokio::task::spawn_blocking(move || KafkaSource::start(config)).await.unwrap().unwrap();
    let mut platform = Platform::connect(&source).await;
    let mut seen = BTreeMap::new();
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut partitions = BTreeMap::new();
    while seen.len() < LINES {
        assert!(Instant::now() < deadline, "{} lines came", seen.len());
        let messages = platform.read(500, Duration::from_millis(200)).await;
        for message in &messages {
            let text = str::from_utf8(message.value()).unwrap();
            let number: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
            assert_eq!(text, line(number).trim_end());
            assert_eq!(seen.insert(number, ()), None, "line {number} came twice");
            let partition = message.offset().partition_id();
            assert_eq!(*partitions.entry(number % 60).or_insert(partition), partition, "a key has one partition");
        }
        platform.ack(&messages).await;
    }
    let totals = producing.join().unwrap().unwrap();
    assert_eq!((totals.records, totals.empty, totals.too_long), (LINES as u64, 0, 0));
    assert_eq!(partitions.values().collect::<std::collections::BTreeSet<_>>().len(), PARTITIONS as usize);

    assert!(source.close(PATIENCE).await);
    let offsets = topic.offsets().unwrap();
    assert_eq!(offsets.iter().map(|partition| partition.end).sum::<i64>(), 9_000);
    assert!(offsets.iter().all(|partition| partition.committed == Some(partition.end)), "{offsets:?}");
}

pub(crate) fn lines_are_bytes_up_to_their_end_and_those_too_long_are_put_aside() {
    let topic = DemoTopic::embedded("lines", "demo").unwrap();
    let long = vec![b'y'; 1_100_000];
    let fits = vec![b'z'; 900_000];
    let parts: [&[u8]; 7] = [b"one\r\n\n", b"\xff\xfe\n\r\n", &long, b"\n", &fits, b"\r\n", b"last without an end"];
    let mut put_aside = Vec::new();
    let totals = produce(
        &topic,
        Cursor::new(parts.concat()),
        first_word,
        |line| {
            put_aside.push(line.to_vec());
            Ok(())
        },
        &Progress::default(),
    )
    .unwrap();
    assert_eq!((totals.records, totals.empty, totals.too_long), (4, 2, 1));
    assert_eq!(totals.bytes, 3 + 2 + 900_000 + 19);
    assert_eq!(put_aside, [long]);
    let empty = produce(&topic, Cursor::new(""), first_word, |_| Ok(()), &Progress::default()).unwrap();
    assert_eq!((empty.records, empty.empty), (0, 0));
    let offsets = topic.offsets().unwrap();
    assert_eq!(offsets.iter().map(|partition| partition.end).sum::<i64>(), 4);
    topic.remove().unwrap();
}

pub(crate) fn a_producer_can_be_stopped() {
    let topic = DemoTopic::embedded("lines", "demo").unwrap();
    let progress = Arc::new(Progress::default());
    let producing = thread::spawn({
        let (progress, input) = (progress.clone(), "0 x\n".repeat(1_000_000));
        move || produce(&topic, Cursor::new(input), first_word, |_| Ok(()), &progress)
    });
    // Nobody reads, so it gets as far as one partition's window.
    while progress.confirmed() == 0 {
        thread::yield_now();
    }
    progress.stop();
    assert!(matches!(producing.join().unwrap(), Err(ProduceError::Stopped)));
}
