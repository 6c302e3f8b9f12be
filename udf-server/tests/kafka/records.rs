//! What of a record a map finds where.

use std::time::{Duration, UNIX_EPOCH};

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use udf_server::kafka::RecordMetadata;

use crate::harness::{self, PATIENCE, Platform, TOPIC};

pub(crate) async fn key_headers_and_time_are_where_they_are_said_to_be() {
    let broker = harness::broker();
    let producer = harness::producer(broker.addresses());
    let headers = OwnedHeaders::new()
        .insert(Header { key: "kind", value: Some("text") })
        .insert(Header { key: "blob", value: Some(&[0xff_u8, 0][..]) })
        .insert(Header { key: "none", value: None::<&[u8]> });
    let record = BaseRecord::<str, [u8]>::to(TOPIC).partition(2).key("MCI").payload(&[1, 0xff, 2]).timestamp(1_234_567);
    harness::send(&producer, record.headers(headers));
    let record = BaseRecord::<[u8], str>::to(TOPIC).partition(2).key(&[0xc3, 0x28]).payload("binary key");
    harness::send(&producer, record);
    harness::send(&producer, BaseRecord::<str, str>::to(TOPIC).partition(2).payload("no key"));
    harness::send(&producer, BaseRecord::<str, str>::to(TOPIC).partition(2).key("tombstone"));
    producer.flush(PATIENCE).unwrap();

    let config = harness::config(broker.addresses()).with_record_metadata(RecordMetadata::Full);
    let source = harness::start_with(config).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(4).await;
    let [full, binary, bare, tombstone] = &messages[..] else { panic!("{messages:?}") };

    assert_eq!(&full.value()[..], [1, 0xff, 2]);
    assert_eq!(full.offset().as_bytes(), b"numbers:2:0");
    assert_eq!(full.offset().partition_id(), 2);
    assert_eq!(full.event_time(), UNIX_EPOCH + Duration::from_millis(1_234_567));
    assert_eq!(full.keys(), ["MCI"]);
    assert_eq!(full.headers().collect::<Vec<_>>(), [("kind", "text")]);
    assert_eq!(&full.user_metadata().get("kafka-headers", "1/blob").unwrap()[..], [0xff, 0]);
    assert!(full.user_metadata().get("kafka-null-headers", "2/none").unwrap().is_empty());

    assert_eq!(binary.keys(), ["wyg="]);
    assert_eq!(&binary.user_metadata().get("kafka", "key").unwrap()[..], [0xc3, 0x28]);
    assert!(bare.keys().is_empty());
    let kafka = |key| bare.user_metadata().get("kafka", key).map(|value| str::from_utf8(value).unwrap());
    assert_eq!([kafka("topic"), kafka("partition"), kafka("offset")], [Some(TOPIC), Some("2"), Some("2")]);
    assert_eq!((kafka("timestamp-type"), kafka("tombstone"), kafka("key")), (Some("create"), None, None));
    assert_eq!(tombstone.keys(), ["tombstone"]);
    assert!(tombstone.value().is_empty());
    assert_eq!(&tombstone.user_metadata().get("kafka", "tombstone").unwrap()[..], b"true");
    assert!(source.close(PATIENCE).await);
}
