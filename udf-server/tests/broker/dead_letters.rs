//! Records that are given up.

use std::time::Duration;

use numaflow_sdk::NackOptions;
use rdkafka::Message as _;
use rdkafka::message::{Header, Headers as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer as _};
use udf_server::kafka::Oversize;

use crate::harness::{Bounds, PATIENCE, Platform, Stage, everywhere, send, start};

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
