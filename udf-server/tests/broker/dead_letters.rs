//! Records that are given up.

use std::time::Duration;

use numaflow_sdk::NackOptions;
use rdkafka::Message as _;
use rdkafka::message::{Header, Headers as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer as _};
use serde_json::Value;
use udf_server::kafka::{Oversize, RecordMetadata};

use crate::endpoint::Endpoint;
use crate::harness::{Bounds, PATIENCE, Platform, Stage, everywhere, send, start};

/// Text that no compression makes much smaller.
fn incompressible(len: usize) -> String {
    let mut state: u32 = 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b'!' + u8::try_from(state % 90).unwrap())
    };
    (0..len).map(|_| next()).collect()
}

/// How many partitions stand still.
fn halted(page: &Value) -> usize {
    page["partitions"].as_array().unwrap().iter().filter(|partition| !partition["halted"].is_null()).count()
}

fn headers(record: &OwnedMessage) -> Vec<(&str, Option<&[u8]>)> {
    record.headers().unwrap().iter().map(|header| (header.key, header.value)).collect()
}

/// And until it is there, nothing is committed past it: the topic is missing at first.
pub(crate) async fn what_is_nacked_too_often_is_in_the_dead_letter_topic_as_it_was(stage: Stage) {
    let dead = stage.beside("dead");
    stage.create_topic(2).await;
    let producer = stage.producer();
    let to_first = || BaseRecord::<[u8], [u8]>::to(&stage.topic).partition(0);
    let of_record = OwnedHeaders::new()
        .insert(Header { key: "twice", value: Some("a") })
        .insert(Header { key: "kind", value: Some("text") })
        .insert(Header { key: "twice", value: Some("b") })
        .insert(Header { key: "none", value: None::<&[u8]> })
        .insert(Header { key: "last", value: Some("") });
    let full = to_first().key(&[0xc3, 0x28]).payload(&[1, 0xff]).headers(of_record).timestamp(1_234_567);
    send(&producer, full);
    send(&producer, to_first().key(b"gone"));
    send(&producer, to_first().payload(b"fine"));
    stage.send(&producer, 1, "fine");
    producer.flush(PATIENCE).unwrap();

    let source = start(stage.config().with_dead_letter_topic(&dead.topic).with_max_deliveries(2)).await;
    let mut platform = Platform::connect(&source).await;
    let mut messages = platform.read_all(4).await;
    messages.sort_by_key(|message| stage.place(message));
    // The nack's own number wins.
    let options = NackOptions::new().with_max_deliveries(1).with_reason("no such airport");
    platform.nack(&messages[..1], options).await;
    platform.nack(&messages[1..2], NackOptions::new()).await;
    let again = platform.read_all(1).await;
    assert_eq!(stage.place(&again[0]), (0, 1));
    platform.nack(&again, NackOptions::new()).await;
    platform.ack(&messages[2..]).await;
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    assert_eq!(source.in_flight(), 0);
    let sampler = stage.sampler(2);
    sampler.wait_for(&Bounds::from([(0, (0, 0)), (1, (1, 1))]));
    dead.create_topic(1).await;
    sampler.wait_for(&Bounds::from([(0, (3, 3)), (1, (1, 1))]));

    let letters = dead.records(2);
    let [full, tombstone] = &letters[..] else { unreachable!("{letters:?}") };
    assert_eq!((full.key(), full.payload()), (Some(&[0xc3, 0x28][..]), Some(&[1, 0xff][..])));
    let topic = stage.topic.as_bytes();
    let expected: [(&str, Option<&[u8]>); 11] = [
        ("twice", Some(b"a")),
        ("kind", Some(b"text")),
        ("twice", Some(b"b")),
        ("none", None),
        ("last", Some(b"")),
        ("numaflow.dlq.topic", Some(topic)),
        ("numaflow.dlq.partition", Some(b"0")),
        ("numaflow.dlq.offset", Some(b"0")),
        ("numaflow.dlq.timestamp", Some(b"1234567")),
        ("numaflow.dlq.deliveries", Some(b"1")),
        ("numaflow.dlq.reason", Some(b"no such airport")),
    ];
    assert_eq!(headers(full), expected);
    assert_eq!((tombstone.key(), tombstone.payload()), (Some(&b"gone"[..]), None));
    assert!(headers(tombstone).contains(&("numaflow.dlq.offset", Some(b"1"))));
    assert!(headers(tombstone).contains(&("numaflow.dlq.deliveries", Some(b"2"))));
    assert!(source.close(PATIENCE).await);
}

/// A topic with a record that is too large between two that are not.
pub(crate) async fn a_record_that_is_too_large_halts_or_goes_aside_or_is_skipped(stage: Stage) {
    const MOST: usize = 2_000;
    let dead = stage.beside("dead");
    stage.create_topic(1).await;
    dead.create_topic(1).await;
    let large = "x".repeat(MOST);
    let producer = stage.producer();
    for value in ["before", &large, "after"] {
        stage.send(&producer, 0, value);
    }
    producer.flush(PATIENCE).unwrap();

    let (halts, puts_aside, skips) = (stage.in_group("halts"), stage.in_group("puts aside"), stage.in_group("skips"));
    let source = start(halts.config().with_max_record_bytes(MOST, Oversize::Halt)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(1).await;
    assert_eq!(messages[0].value(), "before");
    platform.ack(&messages).await;
    assert!(platform.read(10, Duration::from_millis(300)).await.is_empty());
    halts.sampler(1).wait_for(&everywhere(1, 1));
    assert!(source.close(PATIENCE).await);
    halts.sampler(1).wait_for(&everywhere(1, 1));

    let config = puts_aside.config().with_dead_letter_topic(&dead.topic);
    for (stage, config) in [
        (&puts_aside, config.with_max_record_bytes(MOST, Oversize::DeadLetter)),
        (&skips, skips.config().with_max_record_bytes(MOST, Oversize::Skip)),
    ] {
        let source = start(config).await;
        let mut platform = Platform::connect(&source).await;
        let messages = platform.read_all(2).await;
        assert_eq!((messages[0].value(), messages[1].value()), (&"before".into(), &"after".into()));
        platform.ack(&messages).await;
        stage.sampler(1).wait_for(&everywhere(1, 3));
        assert!(source.close(PATIENCE).await);
    }
    let letters = dead.records(1);
    assert_eq!(letters[0].payload(), Some(large.as_bytes()));
    let reason = headers(&letters[0]).into_iter().find(|(name, _)| *name == "numaflow.dlq.reason").unwrap().1.unwrap();
    assert!(str::from_utf8(reason).unwrap().ends_with("bytes are more than the platform is given"));
    assert!(headers(&letters[0]).contains(&("numaflow.dlq.deliveries", Some(b"0"))));
}

/// The others go on, and the partition does when the topic takes the record.
pub(crate) async fn a_dead_letter_that_is_refused_stops_its_partition_visibly_and_no_other(stage: Stage) {
    let dead = stage.beside("dead");
    stage.create_topic(2).await;
    dead.create_topic_with(1, &[("max.message.bytes", "20000")]).await;
    let producer = stage.producer();
    for value in ["a", &incompressible(50_000), "b"] {
        stage.send(&producer, 0, value);
    }
    stage.send(&producer, 1, "c");
    producer.flush(PATIENCE).unwrap();
    let source = start(stage.config().with_dead_letter_topic(&dead.topic).with_max_deliveries(1)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let messages = platform.read_all(4).await;
    platform.nack(&messages, NackOptions::new()).await;

    let sampler = stage.sampler(2);
    sampler.wait_for(&Bounds::from([(0, (1, 1)), (1, (1, 1))]));
    let page = endpoint.until("halted", |page| halted(page) == 1 && page["dead_letters"]["waiting"] == 1).await;
    assert_eq!(
        (&page["partitions"][0]["halted"], &page["dead_letters"]["refused"]),
        (&1.into(), &1.into()),
        "{page:#}"
    );
    assert_eq!(page["totals"]["dead_letter_records"], 3, "{page:#}");
    let (status, reason) = endpoint.get("/readyz").await;
    assert_eq!(status, 503, "{reason}");
    let place = format!("{}:0 stands still at offset 1: the dead-letter topic {} refuses", stage.topic, dead.topic);
    assert!(reason.starts_with(&place), "{reason}");
    assert!(reason.contains("raise max.message.bytes of the topic"), "{reason}");
    let (_, metrics) = endpoint.get("/metrics").await;
    assert!(metrics.contains("\nnumaflow_udf_kafka_refused_dead_letters 1\n"), "{metrics}");

    // Nothing behind it is handed out, and the other partition goes on.
    stage.fill(2, 0, 1);
    let next = platform.read_all(1).await;
    assert_eq!(stage.places(&next), [(1, 1)]);
    platform.ack(&next).await;
    assert!(platform.read(10, Duration::from_millis(300)).await.is_empty());
    sampler.wait_for(&Bounds::from([(0, (1, 1)), (1, (2, 2))]));

    dead.set_topic(&[("max.message.bytes", "200000")]).await;
    let next = platform.read_all(1).await;
    assert_eq!(stage.places(&next), [(0, 3)], "it goes on by itself");
    platform.ack(&next).await;
    sampler.wait_for(&Bounds::from([(0, (4, 4)), (1, (2, 2))]));
    endpoint.becomes_ready().await;
    assert_eq!(endpoint.page().await["dead_letters"]["waiting"], 0);
    let mut letters: Vec<usize> = dead.records(4).iter().map(|letter| letter.payload().unwrap().len()).collect();
    letters.sort_unstable();
    assert_eq!(letters, [1, 1, 1, 50_000]);
    assert!(source.close(PATIENCE).await);
}

/// The brokers refuse a batch for its size with all that is in it.
pub(crate) async fn dead_letters_that_are_too_large_together_are_written(stage: Stage) {
    const COUNT: usize = 300;
    let dead = stage.beside("dead");
    stage.create_topic(1).await;
    dead.create_topic_with(1, &[("max.message.bytes", "2000")]).await;
    stage.fill(1, 0, i64::try_from(COUNT).unwrap());
    let config = stage.config().with_dead_letter_topic(&dead.topic).with_max_deliveries(1);
    let source = start(config.with_record_metadata(RecordMetadata::Essential)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(COUNT).await;
    platform.nack(&messages, NackOptions::new()).await;
    stage.sampler(1).wait_for(&everywhere(1, i64::try_from(COUNT).unwrap()));
    assert_eq!(dead.records(COUNT).len(), COUNT);
    assert!(source.close(PATIENCE).await);
}

/// The client's own limit is that of the topic. A value that was compressed where it comes from is so again.
pub(crate) async fn a_dead_letter_may_be_as_large_as_its_topic_allows(stage: Stage) {
    let dead = stage.beside("dead");
    let large = [("max.message.bytes", "10000000")];
    stage.create_topic_with(1, &large).await;
    dead.create_topic_with(1, &[("max.message.bytes", "3000000")]).await;
    let producer: rdkafka::producer::BaseProducer =
        stage.client().set("message.max.bytes", "10000000").create().unwrap();
    let (plain, zeros) = (incompressible(2_000_000), "0".repeat(5_000_000));
    for value in [&plain, &zeros] {
        stage.send(&producer, 0, value);
    }
    producer.flush(PATIENCE).unwrap();
    let source = start(stage.config().with_dead_letter_topic(&dead.topic).with_max_deliveries(1)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(2).await;
    platform.nack(&messages, NackOptions::new()).await;
    stage.sampler(1).wait_for(&everywhere(1, 2));
    let letters = dead.records(2);
    assert_eq!(letters.iter().map(|letter| letter.payload().unwrap().len()).sum::<usize>(), 7_000_000);
    assert!(source.close(PATIENCE).await);
}

/// And goes on when it is there again.
pub(crate) async fn a_dead_letter_topic_that_is_deleted_is_named(stage: Stage) {
    let dead = stage.beside("dead");
    stage.create_topic(1).await;
    dead.create_topic(1).await;
    stage.fill(1, 0, 2);
    let source = start(stage.config().with_dead_letter_topic(&dead.topic).with_max_deliveries(1)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let messages = platform.read_all(2).await;
    platform.nack(&messages[..1], NackOptions::new()).await;
    let sampler = stage.sampler(1);
    sampler.wait_for(&everywhere(1, 1));
    dead.delete_topic().await;
    platform.nack(&messages[1..], NackOptions::new()).await;
    let page = endpoint.until("halted", |page| halted(page) == 1).await;
    let reason = page["partitions"][0]["refused"].as_str().unwrap();
    assert!(reason.ends_with(": create the topic"), "{reason}");
    sampler.wait_for(&everywhere(1, 1));
    dead.create_topic(1).await;
    sampler.wait_for(&everywhere(1, 2));
    assert_eq!(dead.records(1).len(), 1);
    endpoint.until("going on", |page| halted(page) == 0).await;
    assert!(source.close(PATIENCE).await);
}
