//! What of a record arrives, and which records do.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use numaflow_sdk::source::Message;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::time::Instant;
use udf_server::kafka::RecordMetadata;

use crate::harness::{PATIENCE, Platform, Stage, deadline, send, start};

/// The user metadata of a message, as `group/key`.
fn metadata(message: &Message) -> BTreeMap<String, Vec<u8>> {
    let metadata = message.user_metadata();
    let of_group = |group| {
        metadata.entries(group).map(move |(key, value): (&str, _)| (format!("{group}/{key}"), Vec::from(&value[..])))
    };
    metadata.groups().flat_map(of_group).collect()
}

fn expected<const N: usize>(entries: [(&str, &[u8]); N]) -> BTreeMap<String, Vec<u8>> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect()
}

pub(crate) async fn each_part_of_a_record_is_where_it_is_said_to_be(stage: Stage) {
    stage.create_topic(1).await;
    let topic = stage.topic.clone();
    let producer = stage.producer();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "twice", value: Some("a") })
        .insert(Header { key: "kind", value: Some("text") })
        .insert(Header { key: "blob", value: Some(&[0xff_u8, 0][..]) })
        .insert(Header { key: "none", value: None::<&[u8]> })
        .insert(Header { key: "twice", value: Some("b") })
        .insert(Header { key: "empty", value: Some("") });
    let record = BaseRecord::<str, [u8]>::to(&topic).key("MCI").payload(&[1, 0xff, 2]).headers(headers);
    send(&producer, record.timestamp(1_234_567));
    send(&producer, BaseRecord::<[u8], str>::to(&topic).key(&[0xc3, 0x28]).payload("binary key"));
    send(&producer, BaseRecord::<str, str>::to(&topic).key("gone"));
    send(&producer, BaseRecord::<str, str>::to(&topic).key("").payload(""));
    producer.flush(PATIENCE).unwrap();

    let source = start(stage.config().with_record_metadata(RecordMetadata::Essential)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(4).await;
    let [full, binary, tombstone, empty] = &messages[..] else { unreachable!("{messages:?}") };
    assert_eq!((full.keys(), &full.value()[..]), (&["MCI".to_owned()][..], &[1, 0xff, 2][..]));
    assert_eq!(full.event_time(), UNIX_EPOCH + Duration::from_millis(1_234_567));
    let mut headers: Vec<_> = full.headers().collect();
    headers.sort_unstable();
    assert_eq!(headers, [("empty", ""), ("kind", "text"), ("twice", "b")]);
    let of_headers = expected([
        ("kafka-headers/0/twice", b"a"),
        ("kafka-headers/2/blob", &[0xff, 0]),
        ("kafka-headers/4/twice", b"b"),
        ("kafka-null-headers/3/none", b""),
    ]);
    assert_eq!(metadata(full), of_headers);
    assert_eq!((binary.keys(), &binary.value()[..]), (&["wyg=".to_owned()][..], &b"binary key"[..]));
    assert_eq!(metadata(binary), expected([("kafka/key", &[0xc3, 0x28])]));
    assert_eq!((tombstone.keys(), &tombstone.value()[..]), (&["gone".to_owned()][..], &[][..]));
    assert_eq!(metadata(tombstone), expected([("kafka/tombstone", b"true")]));
    assert_eq!((empty.keys(), &empty.value()[..]), (&[String::new()][..], &[][..]));
    assert_eq!(metadata(empty), BTreeMap::new());
    assert!(source.close(PATIENCE).await);

    // The group has acked nothing, so another source gets the same, with more metadata.
    let source = start(stage.config().with_record_metadata(RecordMetadata::Full)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(4).await;
    let mut of_all = expected([
        ("kafka/topic", topic.as_bytes()),
        ("kafka/partition", b"0"),
        ("kafka/offset", b"0"),
        ("kafka/timestamp-type", b"create"),
        ("kafka/leader-epoch", b"0"),
    ]);
    of_all.extend(of_headers);
    assert_eq!(metadata(&messages[0]), of_all);
    assert_eq!(metadata(&messages[3])["kafka/offset"], b"3");
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn who_timed_a_record_is_told(stage: Stage) {
    stage.create_topic_with(1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let timed_by_producers = Stage::new(stage.address.clone(), format!("{}.created", stage.topic));
    timed_by_producers.create_topic(1).await;
    let producer = stage.producer();
    let began = SystemTime::now();
    for topic in [&stage.topic, &timed_by_producers.topic] {
        send(&producer, BaseRecord::<(), str>::to(topic).payload("long ago").timestamp(1_234_567));
        // What other clients write for "none", as does this one if it is told to.
        send(&producer, BaseRecord::<(), str>::to(topic).payload("untimed").timestamp(-1));
    }
    producer.flush(PATIENCE).unwrap();
    let config = stage.config().with_topics([&stage.topic, &timed_by_producers.topic]);
    let config = config.with_record_metadata(RecordMetadata::Full);
    let source = start(config).await;
    let mut platform = Platform::connect(&source).await;
    for message in &platform.read_all(4).await {
        let entries = metadata(message);
        let kind = entries.get("kafka/timestamp-type").map(|kind| str::from_utf8(kind).unwrap());
        let is_appended = entries["kafka/topic"] == stage.topic.as_bytes();
        // By default, as there are two topics.
        assert_eq!(
            message.headers().collect::<Vec<_>>(),
            [("X-NF-Kafka-TopicName", str::from_utf8(&entries["kafka/topic"]).unwrap(),)]
        );
        match (is_appended, str::from_utf8(message.value()).unwrap()) {
            (true, _) => assert_eq!(kind, Some("append")),
            (false, "untimed") => assert_eq!(kind, None),
            (false, _) => {
                assert_eq!(kind, Some("create"));
                assert_eq!(message.event_time(), UNIX_EPOCH + Duration::from_millis(1_234_567));
                continue;
            }
        }
        // The broker's time has milliseconds only.
        assert!(message.event_time() + Duration::from_millis(1) >= began);
    }
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
