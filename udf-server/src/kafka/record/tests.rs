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

fn form(metadata: RecordMetadata) -> Form {
    Form { metadata, topic_header: false }
}

fn encode(form: Form, record: &Record<'_>) -> EncodedMessage {
    Encoder::new("orders", 3, 5, form).encode(record)
}

/// The message that a record becomes, and its user metadata as text, in order.
fn seen(metadata: RecordMetadata, record: &Record<'_>) -> (Message, Vec<String>) {
    let message = encode(form(metadata), record).to_message();
    let user = message.user_metadata();
    let text = |group: &str, key: &str, value: &[u8]| format!("{group} {key} {}", value.escape_ascii());
    let groups = user.groups().flat_map(|group| user.entries(group).map(move |(key, value)| text(group, key, value)));
    let mut entries: Vec<_> = groups.collect();
    entries.sort_unstable();
    (message, entries)
}

const FULL_FORM: Form = Form { metadata: RecordMetadata::Full, topic_header: false };

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
    assert_eq!(message.offset().as_bytes(), b"orders:3:42");
    assert_eq!(message.offset().partition_id(), 5);
    assert_eq!(message.event_time(), UNIX_EPOCH + Duration::from_millis(1500));
    assert_eq!(entries, FULL);
    let (message, _) = seen(RecordMetadata::Essential, &plain);
    assert!(message.user_metadata().is_empty());
}

#[test]
fn what_changes_from_record_to_record_is_that_of_each() {
    let mut encoder = Encoder::new("t", 0, 0, form(RecordMetadata::Full));
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
    let keys = |key| encode(form(RecordMetadata::Full), &record(key, Some(b"v"), &[])).to_message().keys().to_vec();
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
        let read = original(&encode(FULL_FORM, &record(None, None, &headers)), FULL_FORM);
        let expected = headers.iter().map(|(name, value)| (*name, value.map(Bytes::from_static)));
        assert!(read.headers.iter().map(|(name, value)| (&**name, value.clone())).eq(expected));
    }
}

#[test]
fn a_record_without_a_time_happens_now() {
    let before = SystemTime::now();
    let record = Record { timestamp: Timestamp::None, ..record(None, Some(b"v"), &[]) };
    let time = encode(FULL_FORM, &record).to_message().event_time();
    assert!(before <= time && time <= SystemTime::now());
    let (long_ago, _) = event_time(Timestamp::Created(-1500));
    assert_eq!(UNIX_EPOCH.duration_since(long_ago).unwrap(), Duration::from_millis(1500));
}

/// Producers that count in micro- or nanoseconds write timestamps that are no valid event times.
#[test]
fn a_timestamp_beyond_the_year_9999_is_kept_in_the_metadata() {
    let (last, first) = (253_402_300_799_999, -62_135_596_800_000);
    for (millis, expected, is_kept) in [
        (last, last, false),
        (last + 1, last, true),
        (1_700_000_000_000_000_000, last, true),
        (i64::MAX, last, true),
        (first, first, false),
        (first - 1, first, true),
        (i64::MIN, first, true),
    ] {
        let record = Record { timestamp: Timestamp::Created(millis), ..record(None, Some(b"v"), &[]) };
        let (message, entries) = seen(RecordMetadata::Essential, &record);
        assert_eq!(message.event_time(), time_of(expected).unwrap(), "{millis}");
        let kept = is_kept.then(|| format!("kafka timestamp {millis}"));
        assert_eq!(entries, Vec::from_iter(kept), "{millis}");
        let essential = form(RecordMetadata::Essential);
        assert_eq!(Some(original(&encode(essential, &record), essential).time), time_of(millis), "{millis}");
    }
}

#[test]
fn a_position_is_one_header() {
    let plain = record(None, Some(b"v"), &[("kind", Some(b"text"))]);
    let (message, entries) = seen(RecordMetadata::Position, &plain);
    let mut headers: Vec<_> = message.headers().collect();
    headers.sort_unstable();
    assert_eq!(headers, [("kafka-position", "orders:3:42"), ("kind", "text")]);
    assert!(entries.is_empty(), "{entries:?}");
    let (message, _) = seen(RecordMetadata::Position, &record(None, Some(b"v"), &[]));
    assert_eq!(message.headers().collect::<Vec<_>>(), [("kafka-position", "orders:3:42")]);
}

#[test]
fn the_topic_is_the_header_of_the_built_in_source() {
    let form = Form { metadata: RecordMetadata::Essential, topic_header: true };
    let message = encode(form, &record(None, Some(b"v"), &[])).to_message();
    assert_eq!(message.headers().collect::<Vec<_>>(), [("X-NF-Kafka-TopicName", "orders")]);
    assert!(message.user_metadata().is_empty());
}

/// As of one that the platform has written to a topic.
#[test]
fn a_records_own_header_of_an_added_name_is_kept_in_the_metadata() {
    let form = Form { metadata: RecordMetadata::Position, topic_header: true };
    let headers: [(&str, Option<&[u8]>); 3] =
        [("X-NF-Kafka-TopicName", Some(b"first")), ("a", Some(b"b")), ("kafka-position", None)];
    let encoded = encode(form, &record(None, Some(b"v"), &headers));
    let message = encoded.to_message();
    let mut seen: Vec<_> = message.headers().collect();
    seen.sort_unstable();
    assert_eq!(seen, [("X-NF-Kafka-TopicName", "orders"), ("a", "b"), ("kafka-position", "orders:3:42")]);
    let own = message.user_metadata().get("kafka-headers", "0/X-NF-Kafka-TopicName");
    assert_eq!(own.map(|value| &value[..]), Some(&b"first"[..]));
    let read = original(&encoded, form).headers;
    let expected = headers.map(|(name, value)| (name.to_owned(), value.map(Bytes::from_static)));
    assert_eq!(read, expected);
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(prop_oneof![vec(any::<u8>(), 0..6), "[a-z/]{0,3}".prop_map(String::into_bytes)])
}

fn header() -> impl Strategy<Value = (String, Option<Vec<u8>>)> {
    // Few names, so that they are repeated; some that look like places, and those that we add.
    let name =
        prop_oneof![8 => "[ab/0-3]{0,2}", 1 => Just(POSITION_HEADER.to_owned()), 1 => Just(TOPIC_HEADER.to_owned())];
    (name, bytes())
}

fn any_form() -> impl Strategy<Value = Form> {
    let metadata = [RecordMetadata::Essential, RecordMetadata::Position, RecordMetadata::Full].map(Just);
    let [essential, position, full] = metadata;
    (prop_oneof![essential, position, full], any::<bool>())
        .prop_map(|(metadata, topic_header)| Form { metadata, topic_header })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is told beside it, and however often it was delivered.
    #[test]
    fn each_record_can_be_read_back(
        key in bytes(),
        value in bytes(),
        headers in prop_oneof![vec(header(), 0..7), vec(header(), 7..30)],
        millis in prop_oneof![0i64..4_000_000_000_000, any::<i64>()],
        leader_epoch in option::of(0i32..9),
        form in any_form(),
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
        let mut encoded = encode(form, &record);
        if again {
            encoded = with_deliveries(&encoded, 2);
        }
        let read = original(&encoded, form);
        prop_assert_eq!(read.key.as_deref(), key.as_deref());
        prop_assert_eq!(read.value.as_deref(), value.as_deref());
        let read_headers: Vec<_> = read.headers.into_iter().map(|(name, value)| (name, value.map(Vec::from))).collect();
        prop_assert_eq!(&read_headers, &headers);
        prop_assert_eq!(Some(read.time), time_of(millis));
    }
}
