//! Messages that are unusual: large, of a later protocol, from another time, or not read.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::time::timeout;

use super::{ALL, AT_ONCE, MAPS, is_ready};
use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::TIMES;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::common::Timestamp;
use crate::wire::map::{self, MapStream};
use crate::wire::source::{self, AckRequest, Acked, Acker, Reader, offsets};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "general.unknown-field",
        level: Level::Must,
        section: "19.1 General",
        sentence: "Fields that the server does not know are ignored.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(unknown_field(target))),
    },
    Case {
        id: "general.timestamps.out-of-range",
        level: Level::Must,
        section: "2.3 Timestamps",
        sentence: "Messages whose times no calendar has are answered like others.",
        kinds: MAPS,
        recipe: Recipe::Server(|target| Box::pin(timestamps_out_of_range(target))),
    },
    Case {
        id: "general.unread-streams",
        level: Level::Should,
        section: "19.1 General",
        sentence: "Streams whose answers are not read hold nothing else up, lose nothing and mix nothing up.",
        kinds: MAPS,
        recipe: Recipe::Server(|target| Box::pin(unread_streams(target))),
    },
    Case {
        id: "general.large-message",
        level: Level::Must,
        section: "1 Transport",
        sentence: "A message of 60 MiB is taken, and one is sent.",
        kinds: MAPS,
        recipe: Recipe::Server(|target| Box::pin(large_message(target))),
    },
];

async fn unknown_field(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let mut stream = MapStream::open(&connection).await?;
            stream.call.send_encoded(&with_unknown_field(&map::message("new", "echo"))).await;
            stream.end_batch().await;
            map::is_echo(&stream.answer("new").await?, b"echo")
        }
        Kind::Source => {
            let mut reader = Reader::open(&connection).await?;
            reader.call.send_encoded(&with_unknown_field(&source::read_request(2, AT_ONCE))).await;
            let records = reader.batch(2).await?;
            check(records.len() == 2, "two records", || format!("{}", records.len()))?;
            let mut acker = Acker::open(&connection).await?;
            let request = AckRequest { request: Some(Acked { offsets: offsets(&records) }), handshake: None };
            acker.call.send_encoded(&with_unknown_field(&request)).await;
            acker.answer().await
        }
    }
}

/// The message as a later protocol might have it.
fn with_unknown_field(message: &impl Message) -> Vec<u8> {
    const VALUE: &[u8] = b"from the future";
    let mut encoded = message.encode_to_vec();
    encode_key(100, WireType::LengthDelimited, &mut encoded);
    encode_varint(VALUE.len() as u64, &mut encoded);
    encoded.extend_from_slice(VALUE);
    encoded
}

async fn timestamps_out_of_range(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    // All but the last are out of range: that one is a millisecond before the epoch.
    let times =
        [(8_210_266_876_799, 0), (i64::MAX, 999_999_999), (i64::MIN, 0), (0, i32::MAX), (0, -1), (-1, 999_000_000)];
    for (seconds, nanos) in times {
        let time = Some(Timestamp { seconds, nanos });
        let id = format!("{seconds} s {nanos} ns");
        let input = map::Input { value: TIMES.into(), event_time: time, watermark: time, ..map::Input::default() };
        stream.call.send(&map::MapRequest { request: Some(input), id: id.clone(), ..map::MapRequest::default() }).await;
        stream.end_batch().await;
        let results = stream.answer(&id).await?;
        check(results.len() == 1, "one result", || format!("{results:?}"))?;
    }
    stream.finish().await
}

async fn unread_streams(target: &Target) -> Result<(), Unproven> {
    let value = Bytes::from(vec![b'x'; 64 << 10]);
    let connection = Connection::to(target).await?;
    // Two leave room in the platform's window for a connection, and together fill a server's that is too small for them.
    let mut unread = [MapStream::open(&connection).await?, MapStream::open(&connection).await?];
    let mut unanswered = [fill(&mut unread[0], "one", &value).await, fill(&mut unread[1], "two", &value).await];
    is_ready(&connection, target.kind).await?;
    MapStream::open(&connection).await?.echo("on another stream").await?;

    for (stream, ids) in unread.iter_mut().zip(&mut unanswered) {
        for results in stream.answers(ids.drain()).await?.values() {
            map::is_echo(results, &value)?;
        }
    }
    for stream in unread {
        stream.finish().await?;
    }
    Ok(())
}

/// Sends messages until the stream takes no more, or has clearly taken all it will be given. Returns their ids.
async fn fill(stream: &mut MapStream, name: &str, value: &Bytes) -> HashSet<String> {
    const ENOUGH: usize = 500;
    let mut ids = HashSet::new();
    while ids.len() < ENOUGH {
        let id = format!("{name}-{}", ids.len());
        if timeout(AT_ONCE, stream.send(&id, value.clone())).await.is_err() {
            break;
        }
        ids.insert(id);
    }
    stream.end_batch().await;
    ids
}

async fn large_message(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let value = Bytes::from(vec![b'x'; 60 << 20]);
    // Some servers copy it often.
    stream.call.patience = Duration::from_secs(25);
    let results = stream.map("large", value.clone()).await?;
    map::is_echo(&results, &value)?;
    stream.finish().await
}
