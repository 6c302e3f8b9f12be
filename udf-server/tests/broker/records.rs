//! What of a record arrives, and which records do.

use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::time::Instant;

use crate::harness::{PATIENCE, Platform, Stage, deadline, send};

pub(crate) async fn keys_headers_and_tombstones_are_where_they_are_said_to_be(stage: Stage) {
    stage.create_topic(1).await;
    let producer = stage.producer();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "kind", value: Some("text") })
        .insert(Header { key: "blob", value: Some(&[0xff_u8, 0][..]) })
        .insert(Header { key: "none", value: None::<&[u8]> })
        .insert(Header { key: "twice", value: Some("a") })
        .insert(Header { key: "twice", value: Some("b") });
    let record = BaseRecord::<str, [u8]>::to(&stage.topic).key("MCI").payload(&[1, 0xff, 2]).headers(headers);
    send(&producer, record);
    send(&producer, BaseRecord::<[u8], str>::to(&stage.topic).key(&[0xc3, 0x28]).payload("binary key"));
    send(&producer, BaseRecord::<str, str>::to(&stage.topic).key("gone"));
    producer.flush(PATIENCE).unwrap();

    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(3).await;
    let [full, binary, tombstone] = &messages[..] else { unreachable!("{messages:?}") };

    assert_eq!((full.keys(), &full.value()[..]), (&["MCI".to_owned()][..], &[1, 0xff, 2][..]));
    let mut headers: Vec<_> = full.headers().collect();
    headers.sort_unstable();
    assert_eq!(headers, [("kind", "text"), ("twice", "b")]);
    assert_eq!(full.user_metadata().get("kafka-headers", "blob").map(|value| &value[..]), Some(&[0xff, 0][..]));
    assert_eq!(full.user_metadata().get("kafka-headers", "none").map(|value| &value[..]), Some(&[][..]));

    assert_eq!((binary.keys(), &binary.value()[..]), (&["wyg=".to_owned()][..], &b"binary key"[..]));
    assert_eq!(binary.user_metadata().get("kafka", "key").map(|value| &value[..]), Some(&[0xc3, 0x28][..]));
    assert_eq!((tombstone.keys(), &tombstone.value()[..]), (&["gone".to_owned()][..], &[][..]));
    assert!(source.close(PATIENCE).await);
}

impl Stage {
    /// One transaction with a record for each of three partitions.
    fn transaction(&self, producer: &BaseProducer, value: &str, commit: bool) {
        producer.begin_transaction().unwrap();
        for partition in 0..3 {
            self.send(producer, partition, value);
        }
        producer.flush(PATIENCE).unwrap();
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
}

pub(crate) async fn what_a_transaction_has_aborted_is_not_delivered(stage: Stage) {
    stage.create_topic(3).await;
    let producer = stage.transactions();
    for (value, commit) in [("one", true), ("never", false), ("two", true), ("never", false), ("three", true)] {
        stage.transaction(&producer, value, commit);
    }
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let mut messages = platform.read_all(9).await;
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    messages.sort_by_key(|message| stage.place(message));
    let values: Vec<_> = messages.iter().map(|message| str::from_utf8(message.value()).unwrap()).collect();
    assert_eq!(values, [["one", "two", "three"]; 3].concat());

    // While the source waits at the end: not before the transaction is committed, and then at once.
    producer.begin_transaction().unwrap();
    stage.send(&producer, 1, "four");
    producer.flush(PATIENCE).unwrap();
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(platform.read_all(1).await[0].value(), "four");
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn pending_comes_to_nothing_behind_transaction_markers(stage: Stage) {
    stage.create_topic(3).await;
    let producer = stage.transactions();
    stage.transaction(&producer, "one", true);
    stage.transaction(&producer, "never", false);
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(3).await;
    assert!(platform.client.pending().await.unwrap().is_some_and(|pending| pending >= 3));
    platform.ack(&messages).await;
    let deadline = deadline();
    while platform.client.pending().await.unwrap() != Some(0) {
        assert!(Instant::now() < deadline, "{:?} pending", platform.client.pending().await.unwrap());
        assert!(platform.read(1, Duration::from_millis(50)).await.is_empty());
    }
    assert!(source.close(PATIENCE).await);
}
