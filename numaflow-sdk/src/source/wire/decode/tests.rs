//! The generated code says what is right.

use std::time::UNIX_EPOCH;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::field::chance::{Chance, Type, Type::Integer, Type::Text};
use crate::pb::source::v1 as pb;
use crate::source::{EncodedMessage, MessageRef, MetadataGroup};

const FLAG: Type = Type::Message(&[Integer]);
const ACK_OFFSET: Type = Type::Message(&[Type::Bytes, Integer]);
const ACK: &[Type] = &[Type::Message(&[ACK_OFFSET]), FLAG];
const OPTIONS_OF_NACK: Type = Type::Message(&[Text, Integer, Integer, Type::Message(&[Text, Text])]);
const NACK: &[Type] = &[Type::Message(&[ACK_OFFSET, OPTIONS_OF_NACK])];
/// So small a part has one offset or a few.
const SMALL: usize = 150;
/// The one thing where the generated code is laxer: it reads an entry of a map whatever wire type its key says. No encoder
/// writes such a thing.
const MAP_OF_ANOTHER_TYPE: &str = "NackOptions.nack_map: it is not of the type that the field has";

/// What is read of an ack is what the generated decoder reads, or neither can read it. Says whether they can.
fn acks_agree(bytes: &Bytes) -> bool {
    match (decode_ack(bytes, bytes), pb::AckRequest::decode(bytes.clone())) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.handshake, theirs.handshake.map(|handshake| handshake.sot));
            assert_eq!(ours.acks.is_some(), theirs.request.is_some());
            let Some((mut acks, theirs)) = ours.acks.zip(theirs.request) else { return true };
            let theirs: Vec<Offset> = theirs.offsets.iter().map(Offset::from_wire).collect();
            assert_eq!((acks.count(), acks.first().as_ref()), (theirs.len(), theirs.first()));
            let mut taken = Vec::new();
            while acks.count() > 0 {
                let part = acks.take_up_to(SMALL);
                assert!((1..=SMALL / size_of::<Offset>()).contains(&part.len()));
                taken.extend(part);
            }
            assert_eq!(taken, theirs);
            assert!(acks.take().is_empty());
            true
        }
        (Err(_), Err(_)) => false,
        (ours, theirs) => panic!("we read {ours:?} and the generated code {theirs:?}"),
    }
}

/// The same for a nack.
fn nacks_agree(bytes: &Bytes) -> bool {
    match (decode_nack(bytes, bytes), pb::NackRequest::decode(bytes.clone())) {
        (Ok(mut nacks), Ok(theirs)) => {
            let mut expected = Vec::new();
            for group in theirs.request {
                let options = Arc::new(group.nack_options.map(NackOptions::from_wire).unwrap_or_default());
                expected.extend(
                    group.offsets.iter().map(|offset| NackOffset::new(Offset::from_wire(offset), options.clone())),
                );
            }
            let first = expected.first().map(|nack| &nack.offset);
            assert_eq!((nacks.count(), nacks.first().as_ref()), (expected.len(), first));
            let mut taken = Vec::new();
            while nacks.count() > 0 {
                let part = nacks.take_up_to(SMALL);
                assert!(!part.is_empty());
                taken.extend(part);
            }
            assert_eq!(taken, expected);
            assert!(nacks.take().is_empty());
            true
        }
        (Err(_), Err(_)) => false,
        (Err(error), Ok(_)) if error.to_string() == MAP_OF_ANOTHER_TYPE => false,
        (ours, theirs) => panic!("we read {ours:?} and the generated code {theirs:?}"),
    }
}

fn numbers() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_generated_decoder_reads_the_same_acks(numbers in numbers(), broken: bool) {
        let mut chance = Chance::of(numbers);
        let message = chance.message(ACK);
        acks_agree(&if broken { chance.broken(message) } else { message }.into());
    }

    #[test]
    fn the_generated_decoder_reads_the_same_nacks(numbers in numbers(), broken: bool) {
        let mut chance = Chance::of(numbers);
        let message = chance.message(NACK);
        nacks_agree(&if broken { chance.broken(message) } else { message }.into());
    }
}

/// What is written of a message is what the generated decoder reads.
fn messages_agree<I: Iterator<Item = u8>>(chance: &mut Chance<I>) {
    let texts = ["", "k", "ü", "another one", "a text that is longer than most of them are"];
    let long = [7; 300];
    let bytes = [&b""[..], b"v", b"\0\xff", &long];
    let keys: Vec<&str> = (0..chance.one_of(&[0, 0, 1, 3])).map(|_| chance.one_of(&texts)).collect();
    let headers: Vec<(&str, &str)> =
        texts[..chance.one_of(&[0, 0, 1, 4])].iter().map(|name| (*name, "header")).collect();
    let entries: Vec<(&str, &[u8])> =
        texts[..chance.one_of(&[0, 1, 2])].iter().map(|key| (*key, chance.one_of(&bytes))).collect();
    let groups: Vec<MetadataGroup<'_>> =
        texts[..chance.one_of(&[0, 0, 1, 2])].iter().map(|name| MetadataGroup::new(name, &entries)).collect();
    let (value, offset) = (chance.one_of(&bytes), chance.one_of(&[b"1", &b"an:offset:7"[..], &[0; 40]]));
    let partition = chance.one_of(&[0, 1, 127, 128, u16::MAX]);
    let event_time =
        UNIX_EPOCH + Duration::new(chance.one_of(&[0, 1, 1_700_000_000]), chance.one_of(&[0, 1, 999_999_999]));
    let message = MessageRef::new(value, offset, partition, event_time)
        .with_keys(&keys)
        .with_headers(&headers)
        .with_user_metadata(&groups);
    let encoded: EncodedMessage = message.encode(&mut bytes::BytesMut::new());
    let response = pb::ReadResponse::decode(encoded.as_bytes()).unwrap();
    assert_eq!((response.status, response.handshake), (None, None));
    let result = response.result.unwrap();
    let theirs = (&result.payload[..], result.offset.as_ref().map(Offset::from_wire));
    assert_eq!(theirs, (value, Some(Offset::new(offset.to_vec(), partition))));
    assert_eq!(
        (result.event_time, &result.keys[..]),
        (Some(crate::time::to_wire(event_time)), &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()[..])
    );
    assert_eq!(result.headers, headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
    let metadata = result.metadata.unwrap_or_default().user_metadata;
    assert_eq!(metadata.len(), groups.len());
    for group in metadata.values() {
        let expected = entries.iter().map(|(key, value)| ((*key).to_owned(), Bytes::copy_from_slice(value))).collect();
        assert_eq!(group.key_value, expected);
    }
}

/// As many inputs as `FRAME_INPUTS` says, made by `FRAME_SEED`: see CONTRIBUTING.md.
#[test]
fn many_inputs_are_read_and_written_as_the_generated_code_does() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; give a whole number")),
        Err(_) => default,
    };
    let (inputs, seed) = (number("FRAME_INPUTS", 20_000), number("FRAME_SEED", 1));
    fastrand::seed(seed);
    let mut chance = Chance::of_thread();
    let mut read = [0_u64; 2];
    for input in 0..inputs {
        if input > 0 && input % 1_000_000 == 0 {
            eprintln!("seed {seed}: {input} inputs; {read:?} acks and nacks were read");
        }
        match input % 8 {
            0..=2 => {
                let message = chance.message(ACK);
                let message = if input % 2 == 0 { message } else { chance.broken(message) };
                read[0] += u64::from(acks_agree(&message.into()));
            }
            3..=5 => {
                let message = chance.message(NACK);
                let message = if input % 2 == 0 { message } else { chance.broken(message) };
                read[1] += u64::from(nacks_agree(&message.into()));
            }
            6 => {
                let noise = Bytes::from(chance.noise());
                acks_agree(&noise);
                nacks_agree(&noise);
            }
            _ => messages_agree(&mut chance),
        }
    }
    // The inputs are such that can be read and such that can't, or this says little.
    for read in read {
        assert!((inputs / 24..inputs / 3).contains(&read), "{read} of {inputs} were read");
    }
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::field::put_field(&mut out, number, content);
    out
}

/// Messages and groups may be nested a hundred deep in all, wherever the groups begin.
#[test]
fn groups_nest_as_deep_as_the_generated_decoder_allows() {
    for depth in 90..=101 {
        let groups = [vec![9 << 3 | 3; depth], vec![9 << 3 | 4; depth]].concat();
        let in_option = field(2, &field(4, &groups));
        for groups in [groups.clone(), field(1, &groups), field(1, &field(1, &groups)), field(1, &in_option)] {
            acks_agree(&groups.clone().into());
            nacks_agree(&groups.into());
        }
    }
}

/// An ack of as many offsets as a message may have takes no more than a part of it at once.
#[test]
fn parts_are_bounded_and_so_is_what_they_cost() {
    const COUNT: usize = 1 << 20;
    let request = Bytes::from(field(1, &[0x0a, 0].repeat(COUNT)));
    let mut acks = decode_ack(&request, &request).unwrap().acks.unwrap();
    assert_eq!((acks.count(), acks.cost()), (COUNT, PART));
    assert_eq!(acks.take().len(), PART / size_of::<Offset>());
    let mut nacks = decode_nack(&request, &request).unwrap();
    assert_eq!((nacks.count(), nacks.cost()), (COUNT, PART));
    assert_eq!(nacks.take().len(), PART / size_of::<NackOffset>());

    // Each with options of its own: they count.
    let request = Bytes::from(field(1, &[0x0a, 0, 0x12, 2, 0x10, 1]).repeat(COUNT / 8));
    let mut nacks = decode_nack(&request, &request).unwrap();
    assert_eq!((nacks.count(), nacks.cost()), (COUNT / 8, PART + OPTIONS));
    let part = nacks.take();
    assert!(part.len() <= PART / (OPTIONS + size_of::<NackOffset>()) + 1, "{} nacks", part.len());
    assert_eq!(part[0].options.max_deliveries, Some(1));
}

#[test]
fn offsets_of_an_element_share_their_options() {
    let options = field(2, &field(1, &[b'x'; 1000]));
    let request = Bytes::from([field(1, &[[0x0a, 0].repeat(100), options].concat()), field(1, &[0x0a, 0])].concat());
    let nacks = decode_nack(&request, &request).unwrap().take();
    assert_eq!(nacks.len(), 101);
    assert!(nacks[..100].iter().all(|nack| Arc::ptr_eq(&nack.options, &nacks[0].options)));
    assert_eq!(nacks[0].options.reason.as_deref(), Some(&*"x".repeat(1000)));
    assert_eq!(*nacks[100].options, NackOptions::new());
}

#[test]
fn hints_are_bounded() {
    let with = |hints: usize| {
        let request = Bytes::from(field(1, &[field(1, &[]), field(2, &[0x22, 0].repeat(hints))].concat()));
        decode_nack(&request, &request)
    };
    assert_eq!(with(1 << 16).unwrap().take()[0].options.hints.len(), 1);
    let error = with((1 << 16) + 1).unwrap_err().to_string();
    assert_eq!(error, "NackOptions.nack_map: there are more hints of a nack than 65536 in all");
}
