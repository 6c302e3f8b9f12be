use bytes::Bytes;
use numaflow_sdk::source::Message;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn record<'a>(
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [(&'a str, Option<&'a [u8]>)],
) -> Record<'a> {
    let headers = headers.iter().map(|(name, value)| Header { name: Cow::Borrowed(*name), value: *value }).collect();
    Record { offset: 42, key, value, timestamp: Timestamp::Created(1500), leader_epoch: Some(7), headers }
}

fn encode(metadata: RecordMetadata, record: &Record<'_>) -> EncodedMessage {
    Encoder::new("orders", 3, 5, metadata).encode(record)
}

/// The message that a record becomes, and its user metadata as text, in order.
fn seen(metadata: RecordMetadata, record: &Record<'_>) -> (Message, Vec<String>) {
    let message = encode(metadata, record).to_message();
    let user = message.user_metadata();
    let text = |group: &str, key: &str, value: &[u8]| format!("{group} {key} {}", value.escape_ascii());
    let groups = user.groups().flat_map(|group| user.entries(group).map(move |(key, value)| text(group, key, value)));
    let mut entries: Vec<_> = groups.collect();
    entries.sort_unstable();
    (message, entries)
}

const FULL: [&str; 5] = [
    "kafka leader-epoch 7",
    "kafka offset 42",
    "kafka partition 3",
    "kafka timestamp-type create",
    "kafka topic orders",
];

#[test]
fn a_plain_record_says_where_it_was() {
    let plain = record(Some(b"key"), Some(b"value"), &[("kind", Some(b"text"))]);
    let (message, entries) = seen(RecordMetadata::Full, &plain);
    assert_eq!((message.keys(), &message.value()[..]), (&["key".to_owned()][..], &b"value"[..]));
    assert_eq!(message.headers().collect::<Vec<_>>(), [("kind", "text")]);
    assert_eq!(message.offset().as_bytes(), "orders:3:42");
    assert_eq!(message.offset().partition_id(), 5);
    assert_eq!(message.event_time(), UNIX_EPOCH + Duration::from_millis(1500));
    assert_eq!(entries, FULL);
    let (message, _) = seen(RecordMetadata::Essential, &plain);
    assert!(message.user_metadata().is_empty());
}

#[test]
fn what_changes_from_record_to_record_is_that_of_each() {
    let mut encoder = Encoder::new("t", 0, 0, RecordMetadata::Full);
    let mut told = |offset, leader_epoch, timestamp| {
        let record = Record { offset, leader_epoch, timestamp, ..record(None, Some(b""), &[]) };
        let message = encoder.encode(&record).to_message();
        let get = |key| Some(String::from_utf8_lossy(message.user_metadata().get("kafka", key)?).into_owned());
        (get("offset").unwrap(), get("leader-epoch"), get("timestamp-type"))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(told(99, Some(0), Timestamp::Appended(1)), ("99".to_owned(), text("0"), text("append")));
    assert_eq!(told(100, Some(12), Timestamp::Created(1)), ("100".to_owned(), text("12"), text("create")));
    assert_eq!(told(7, None, Timestamp::None), ("7".to_owned(), None, None));
}

#[test]
fn an_absent_key_is_not_an_empty_one() {
    let keys = |key| encode(RecordMetadata::Full, &record(key, Some(b"v"), &[])).to_message().keys().to_vec();
    assert_eq!(keys(None), Vec::<String>::new());
    assert_eq!(keys(Some(b"")), [""]);
}

#[test]
fn a_binary_key_is_base64_and_as_it_was() {
    let (message, entries) = seen(RecordMetadata::Essential, &record(Some(&[0xc3, 0x28]), Some(b"v"), &[]));
    assert_eq!(message.keys(), ["wyg="]);
    assert_eq!(entries, ["kafka key \\xc3("]);
}

#[test]
fn a_tombstone_is_not_an_empty_value() {
    let (message, entries) = seen(RecordMetadata::Essential, &record(None, None, &[]));
    assert!(message.value().is_empty());
    assert_eq!(entries, ["kafka tombstone true"]);
    let (message, _) = seen(RecordMetadata::Essential, &record(None, Some(b""), &[]));
    assert!(message.value().is_empty() && message.user_metadata().is_empty());
}

#[test]
fn headers_that_are_no_text_or_repeated_keep_their_place() {
    let headers: [(&str, Option<&[u8]>); 8] = [
        ("twice", Some(b"a")),
        ("kind", Some(b"text")),
        ("blob", Some(&[0xff, 0])),
        ("none", None),
        ("twice", Some(b"b")),
        ("mixed", Some(b"text")),
        ("mixed", Some(&[0xff])),
        ("a/b", Some(b"")),
    ];
    let record = record(None, Some(b"v"), &headers);
    let (message, entries) = seen(RecordMetadata::Essential, &record);
    assert_eq!(message.headers().collect::<Vec<_>>(), [("kind", "text"), ("twice", "b"), ("a/b", "")]);
    let expected = [
        "kafka-headers 0/twice a",
        "kafka-headers 2/blob \\xff\\x00",
        "kafka-headers 4/twice b",
        "kafka-headers 5/mixed text",
        "kafka-headers 6/mixed \\xff",
        "kafka-null-headers 3/none ",
    ];
    assert_eq!(entries, expected);
}

/// As many as fit into a record, each of another name or all of one.
#[test]
fn many_headers_take_no_longer_each() {
    let names: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    let different: Vec<_> = names.iter().map(|name| (&**name, Some(&b"x"[..]))).collect();
    let same = vec![("name", Some(&b"x"[..])); names.len()];
    for headers in [different, same] {
        let read = original(&encode(RecordMetadata::Full, &record(None, None, &headers)));
        let expected = headers.iter().map(|(name, value)| (*name, value.map(Bytes::from_static)));
        assert!(read.headers.iter().map(|(name, value)| (&**name, value.clone())).eq(expected));
    }
}

#[test]
fn a_record_without_a_time_happens_now() {
    let before = SystemTime::now();
    let record = Record { timestamp: Timestamp::None, ..record(None, Some(b"v"), &[]) };
    let time = encode(RecordMetadata::Full, &record).to_message().event_time();
    assert!(before <= time && time <= SystemTime::now());
    let long_ago = event_time(Timestamp::Created(-1500));
    assert_eq!(UNIX_EPOCH.duration_since(long_ago).unwrap(), Duration::from_millis(1500));
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(prop_oneof![vec(any::<u8>(), 0..6), "[a-z/]{0,3}".prop_map(String::into_bytes)])
}

fn header() -> impl Strategy<Value = (String, Option<Vec<u8>>)> {
    // Few names, so that they are repeated; some that look like places.
    ("[ab/0-3]{0,2}", bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is told beside it, and however often it was delivered.
    #[test]
    fn each_record_can_be_read_back(
        key in bytes(),
        value in bytes(),
        headers in prop_oneof![vec(header(), 0..7), vec(header(), 7..30)],
        millis in 0i64..4_000_000_000_000,
        leader_epoch in option::of(0i32..9),
        essential: bool,
        again: bool,
    ) {
        let record = Record {
            offset: 42,
            key: key.as_deref(),
            value: value.as_deref(),
            timestamp: Timestamp::Created(millis),
            leader_epoch,
            headers: headers
                .iter()
                .map(|(name, value)| Header { name: Cow::Borrowed(&**name), value: value.as_deref() })
                .collect(),
        };
        let metadata = if essential { RecordMetadata::Essential } else { RecordMetadata::Full };
        let mut encoded = encode(metadata, &record);
        if again {
            encoded = with_deliveries(&encoded, 2);
        }
        let read = original(&encoded);
        prop_assert_eq!(read.key.as_deref(), key.as_deref());
        prop_assert_eq!(read.value.as_deref(), value.as_deref());
        let read_headers: Vec<_> = read.headers.into_iter().map(|(name, value)| (name, value.map(Vec::from))).collect();
        prop_assert_eq!(&read_headers, &headers);
        prop_assert_eq!(read.time, event_time(record.timestamp));
    }
}
