//! The generated code says what is right.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use prost::Message as _;

use super::{decode, encode_answer, encode_end, encode_handshake, encoded_len};
use crate::field::chance::{Chance, Type, Type::Integer, Type::Text};
use crate::frame::Deframer;
use crate::pb::map::v1 as pb;
use crate::{MapRequest, Message, Messages, NackOptions, SystemMetadata, UserMetadata};

/// All that a request tells.
#[derive(Debug, PartialEq)]
struct Told {
    id: String,
    value: Bytes,
    keys: Vec<String>,
    event_time: Option<SystemTime>,
    watermark: Option<SystemTime>,
    headers: HashMap<String, String>,
    user: UserMetadata,
    system: SystemMetadata,
    previous_vertex: String,
}

impl Told {
    fn by(request: &MapRequest) -> Self {
        Self {
            id: request.id().to_owned(),
            value: request.value().clone(),
            keys: request.keys().iter().map(String::from).collect(),
            event_time: request.event_time(),
            watermark: request.watermark(),
            headers: request.headers().clone(),
            user: request.user_metadata().clone(),
            system: request.system_metadata().clone(),
            previous_vertex: request.previous_vertex().to_owned(),
        }
    }
}

/// The one thing where the generated code is laxer: it reads an entry of a map whatever wire type its key says, an integer
/// or a fixed number as if a length followed. No encoder writes such a thing, other decoders do not read it so, and what
/// comes of it is noise, so it stays an error here.
const MAP_OF_ANOTHER_TYPE: [&str; 4] = [
    "MapRequest.request.headers: it is not of the type that the field has",
    "Metadata.sys_metadata: it is not of the type that the field has",
    "Metadata.user_metadata: it is not of the type that the field has",
    "KeyValueGroup.key_value: it is not of the type that the field has",
];

/// What is read is what the generated decoder reads, or neither can read it. Says whether they can.
fn agree(bytes: &Bytes) -> bool {
    match (decode(bytes, bytes), pb::MapRequest::decode(bytes.clone())) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.id.as_str(), theirs.id);
            assert_eq!(ours.handshake, theirs.handshake.map(|handshake| handshake.sot));
            assert_eq!(ours.status, theirs.status.map(|status| status.eot));
            let expected = theirs.request.map(|request| Told::by(&MapRequest::from_wire(theirs.id, request)));
            assert_eq!(ours.request.as_ref().map(Told::by), expected);
            true
        }
        (Err(_), Err(_)) => false,
        (Err(error), Ok(_)) if MAP_OF_ANOTHER_TYPE.contains(&&*error.to_string()) => false,
        (ours, theirs) => panic!("we read {ours:?} and the generated code {theirs:?}"),
    }
}

const FLAG: Type = Type::Message(&[Integer]);
const TIMESTAMP: Type = Type::Message(&[Integer, Integer]);
const HEADER: Type = Type::Message(&[Text, Text]);
const KEY_VALUE_GROUP: Type = Type::Message(&[Type::Message(&[Text, Type::Bytes])]);
const GROUP: Type = Type::Message(&[Text, KEY_VALUE_GROUP]);
const METADATA: Type = Type::Message(&[Text, GROUP, GROUP]);
const REQUEST: Type = Type::Message(&[Text, Type::Bytes, TIMESTAMP, TIMESTAMP, HEADER, METADATA]);
/// The fields of a `MapRequest`.
const MAP_REQUEST: &[Type] = &[REQUEST, Text, FLAG, FLAG];

fn message() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..400).prop_map(|numbers| Chance::of(numbers).message(MAP_REQUEST))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_generated_decoder_reads_the_same(message in message()) {
        agree(&message.into());
    }

    /// Bytes that are changed, taken out or missing at the end.
    #[test]
    fn the_generated_decoder_reads_the_same_of_what_is_broken(
        mut message in message(),
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        removed in option::of(any::<Index>()),
        length in option::of(any::<Index>()),
    ) {
        if !message.is_empty() {
            for (at, byte) in changes {
                let at = at.index(message.len());
                message[at] = byte;
            }
            if let Some(removed) = removed {
                message.remove(removed.index(message.len()));
            }
            if let Some(length) = length {
                message.truncate(length.index(message.len() + 1));
            }
        }
        agree(&message.into());
    }

    #[test]
    fn the_generated_decoder_reads_the_same_of_noise(noise in vec(any::<u8>(), 0..40)) {
        agree(&noise.into());
    }
}

/// The generator makes messages that can be read and such that can't, or the properties above say little.
#[test]
fn the_generator_makes_both_kinds() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = message();
    let read = (0..1000).filter(|_| agree(&strategy.new_tree(&mut runner).unwrap().current().into())).count();
    assert!((200..800).contains(&read), "{read} of 1000 can be read");
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    crate::field::put_field(&mut out, number, content);
    out.to_vec()
}

/// Each part takes memory of its own, and may have two bytes on the wire.
#[test]
fn parts_are_bounded() {
    let with = |keys: usize| {
        let request = pb::map_request::Request { keys: vec![String::new(); keys], ..Default::default() };
        let message = pb::MapRequest { request: Some(request), ..Default::default() };
        let bytes = Bytes::from(message.encode_to_vec());
        decode(&bytes, &bytes)
    };
    assert_eq!(with(1 << 16).unwrap().request.unwrap().keys().len(), 1 << 16);
    let error = with((1 << 16) + 1).unwrap_err().to_string();
    assert!(error.starts_with("MapRequest.request.keys: ") && error.contains("65536"), "{error}");
}

/// Messages and groups may be nested a hundred deep in all, wherever the groups begin.
#[test]
fn groups_nest_as_deep_as_the_generated_decoder_allows() {
    type Wrap = fn(&[u8]) -> Vec<u8>;
    let places: [Wrap; 6] = [
        <[u8]>::to_vec,
        |content| field(3, content),
        |content| field(1, content),
        |content| field(1, &field(6, content)),
        |content| field(1, &field(6, &field(2, content))),
        |content| field(1, &field(6, &field(3, &field(2, &field(1, content))))),
    ];
    for (place, wrap) in places.into_iter().enumerate() {
        for inner in [&[][..], &[9 << 3, 0]] {
            let read: Vec<bool> = (90..=101)
                .map(|depth| {
                    agree(&wrap(&[&vec![9 << 3 | 3; depth][..], inner, &vec![9 << 3 | 4; depth]].concat()).into())
                })
                .collect();
            assert!(read[0] && !read[11], "place {place}: {read:?}");
        }
    }
    // A hundred thousand of them are an error, and no overflow of the stack.
    assert!(!agree(&vec![9 << 3 | 3; 100_000].into()));
}

#[test]
fn every_length_of_a_varint() {
    for bits in 0..64 {
        let mut message = vec![1 << 3];
        prost::encoding::encode_varint(u64::MAX >> bits, &mut message);
        assert!(agree(&field(1, &field(3, &message)).into()), "{bits} bits less than all");
    }
    for last in 0..=0x7f {
        let message = [&[1 << 3][..], &[0xff; 9], &[last]].concat();
        assert_eq!(agree(&field(1, &field(3, &message)).into()), last < 2);
    }
}

#[test]
fn what_is_read_is_a_slice_of_what_was_received() {
    let (id, vertex, value) = ("i".repeat(100), "v".repeat(100), Bytes::from(vec![7; 300]));
    let groups = |name: &str| {
        let key_value = HashMap::from([("key".to_owned(), value.clone())]);
        HashMap::from([(name.to_owned(), crate::pb::metadata::KeyValueGroup { key_value })])
    };
    let metadata = crate::pb::metadata::Metadata {
        previous_vertex: vertex.clone(),
        sys_metadata: groups("system"),
        user_metadata: groups("user"),
    };
    let request = pb::map_request::Request { value: value.clone(), metadata: Some(metadata), ..Default::default() };
    let message = pb::MapRequest { id: id.clone(), request: Some(request), ..Default::default() };
    let buffer = Bytes::from(message.encode_to_vec());
    let read = decode(&buffer, &buffer).unwrap();
    let request = read.request.unwrap();
    drop(read.id);

    let system = request.system_metadata().get("system", "key").unwrap();
    let user = request.user_metadata().get("user", "key").unwrap();
    for slice in [request.id().as_bytes(), request.value(), request.previous_vertex().as_bytes(), system, user] {
        assert!(buffer.as_ptr_range().contains(&slice.as_ptr()));
    }
    drop(request);
    assert!(buffer.is_unique(), "nothing else keeps the buffer alive");
}

/// The platform sends metadata without anything in it.
#[test]
fn empty_metadata_is_no_metadata() {
    let message = Bytes::from(field(1, &field(6, &[])));
    let request = decode(&message, &message).unwrap().request.unwrap();
    assert!(request.has_nothing_attached());
    let attached = Bytes::from(field(1, &field(6, &field(1, b"in"))));
    assert!(!decode(&attached, &attached).unwrap().request.unwrap().has_nothing_attached());
}

#[test]
fn an_error_says_where_and_what() {
    let told = |message: Vec<u8>| decode(&Bytes::new(), &message).unwrap_err().to_string();
    assert_eq!(told(vec![0xff; 16]), "MapRequest: an integer has more than 64 bits");
    assert_eq!(told(vec![0x12, 5, b'x']), "MapRequest.id: it ends too early");
    assert_eq!(told(vec![0x12, 1, 0xff]), "MapRequest.id: the text is not UTF-8");
    assert_eq!(told(vec![0x10, 1]), "MapRequest.id: it is not of the type that the field has");
    assert_eq!(told(vec![0]), "MapRequest: a field has no valid number");
    assert_eq!(told(vec![9 << 3 | 4]), "MapRequest: a group ends that did not begin");
    assert_eq!(told(vec![9 << 3 | 3; 200]), "MapRequest: groups are nested too deep");
    let nested = field(1, &field(6, &field(3, &field(2, &field(1, &field(1, &[0xff]))))));
    assert_eq!(told(nested), "KeyValueGroup.key_value.key: the text is not UTF-8");
}

prop_compose! {
    fn nack_options()(
        reason in option::of(".{0,8}"),
        max_deliveries in option::of(any::<u32>()),
        delay in option::of(any::<u64>()),
        hints in hash_map(".{0,4}", ".{0,4}", 0..3),
    ) -> NackOptions {
        NackOptions { reason, max_deliveries, delay: delay.map(Duration::from_millis), hints }
    }
}

prop_compose! {
    fn output()(
        value in vec(any::<u8>(), 0..300),
        keys in vec(".{0,8}", 0..3),
        tags in vec(".{0,8}", 0..3),
        groups in hash_map(".{0,4}", hash_map(".{0,4}", vec(any::<u8>(), 0..200), 1..3), 0..3),
        nack_options in option::of(nack_options()),
    ) -> Message {
        let mut message = nack_options.map_or(Message::default(), Message::to_nack);
        message.set_value(value);
        let mut metadata = UserMetadata::new();
        for (group, values) in groups {
            for (key, value) in values {
                metadata.insert(group.clone(), key, value);
            }
        }
        message.with_keys(keys).with_tags(tags).with_user_metadata(metadata)
    }
}

/// The one message that a buffer holds as a frame.
fn framed(out: &[u8]) -> pb::MapResponse {
    let mut frames = Deframer::new(usize::MAX);
    frames.push(Bytes::copy_from_slice(out));
    let message = frames.next().unwrap().unwrap();
    assert!(frames.is_between_messages());
    pb::MapResponse::decode(message.bytes()).unwrap()
}

proptest! {
    // Each case builds maps of maps.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_generated_decoder_reads_what_is_answered(id in ".{0,200}", outputs in vec(output(), 0..4)) {
        let answers = match &outputs[..] {
            [one] => Messages::from(one.clone()),
            _ => Messages::from(outputs),
        };
        let mut out = Vec::new();
        encode_answer(&mut out, id.as_bytes(), answers.as_slice(), encoded_len(id.as_bytes(), answers.as_slice()), |out, value| out.extend_from_slice(value));
        prop_assert_eq!(out.len(), 5 + encoded_len(id.as_bytes(), answers.as_slice()));
        prop_assert_eq!(framed(&out), pb::MapResponse { results: answers.into_wire(), id, ..Default::default() });
    }
}

/// Every length of a value at which the length of its head changes.
#[test]
fn answers_of_awkward_lengths() {
    for length in (0..300).chain(16_300..16_400).chain([1 << 21]) {
        let answers = Messages::from(Message::new(vec![7; length]));
        let mut out = Vec::new();
        encode_answer(&mut out, b"id", answers.as_slice(), encoded_len(b"id", answers.as_slice()), |out, value| {
            out.extend_from_slice(value)
        });
        let expected = pb::MapResponse { results: answers.into_wire(), id: "id".to_owned(), ..Default::default() };
        assert_eq!(out.len() - 5, expected.encoded_len());
        assert!(framed(&out) == expected, "{length}");
    }
}

#[test]
fn the_frames_without_results() {
    let mut out = Vec::new();
    encode_handshake(&mut out);
    assert_eq!(framed(&out), pb::MapResponse { handshake: Some(pb::Handshake { sot: true }), ..Default::default() });
    for id in ["", "id", &"i".repeat(10 << 10)] {
        out.clear();
        encode_end(&mut out, id.as_bytes());
        let status = Some(pb::TransmissionStatus { eot: true });
        assert_eq!(framed(&out), pb::MapResponse { id: id.to_owned(), status, ..Default::default() });
    }
}

/// Frames go behind one another in the same buffer.
#[test]
fn what_the_buffer_holds_stays() {
    let mut out = Vec::new();
    encode_handshake(&mut out);
    let handshake = out.len();
    encode_answer(&mut out, b"id", &[], encoded_len(b"id", &[]), |out, value| out.extend_from_slice(value));
    assert_eq!(framed(&out[handshake..]).id, "id");
}

/// Both are moved several times for every message, and most have a value only.
#[test]
fn requests_and_answers_are_small() {
    assert_eq!(size_of::<MapRequest>(), size_of::<usize>());
    assert!(size_of::<Message>() <= 120, "{}", size_of::<Message>());
    assert_eq!(size_of::<Messages>(), size_of::<Message>());
}
