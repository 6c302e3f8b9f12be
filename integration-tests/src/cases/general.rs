//! What every server owes the platform, whatever it serves.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::time::timeout;

use super::contract::{Latch, RECORDS, TIMES};
use crate::case::{Case, Kind, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::server::END_MARKER;
use crate::target::Target;
use crate::wire::common::{Handshake, ReadyResponse, Timestamp};
use crate::wire::map::{self, MAP_FN, MapStream};
use crate::wire::source::{self, Acker, READ_FN, ReadRequest, Reader, give_back, offsets};
use crate::wire::{Call, Connection, UNIMPLEMENTED};

const ALL: &[Kind] = Kind::ALL;
const MAPS: &[Kind] = Kind::MAPS;

/// The protocol asks for 100 ms; a machine that does other things as well gets five times that.
const AT_ONCE: Duration = Duration::from_millis(500);

pub(super) const CASES: &[Case] = &[
    Case {
        id: "general.is-ready.while-streams-wait",
        level: Level::Must,
        section: "1 Transport",
        sentence: "IsReady says ready = true at any time, also while streams of the same connection wait.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(is_ready_while_streams_wait(target))),
    },
    Case {
        id: "general.path.unknown",
        level: Level::Must,
        section: "3 Service catalogue",
        sentence: "A path that is not served is answered with UNIMPLEMENTED.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(path_unknown(target))),
    },
    Case {
        id: "general.server-info.marker",
        level: Level::Must,
        section: "14.2 Content",
        sentence: "The server-info file is one JSON object, and its last bytes are the end marker.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(server_info_marker(target))),
    },
    Case {
        id: "general.server-info.version-gate",
        level: Level::Must,
        section: "14.5 SDK version gate",
        sentence: "Language and version of the server-info file pass the platform's version gate.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(server_info_version_gate(target))),
    },
    Case {
        id: "general.handshake.first",
        level: Level::Must,
        section: "1.2 Handshake",
        sentence: "A handshake is answered with sot = true before any data was sent, and with nothing else.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(handshake_first(target))),
    },
    Case {
        id: "general.handshake.missing",
        level: Level::Must,
        section: "16.5 Handshake errors",
        sentence: "A stream that begins without a handshake ends with a status, and the server goes on.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(handshake_missing(target))),
    },
    Case {
        id: "general.handshake.sot-false",
        level: Level::Should,
        section: "16.5 Handshake errors",
        sentence: "A stream that begins with sot = false ends with a status, and the server goes on.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(handshake_sot_false(target))),
    },
    Case {
        id: "general.half-close",
        level: Level::Must,
        section: "1.3 Half-close, cancellation, stream end",
        sentence: "After the platform's half-close what is outstanding is answered and the stream ends with OK.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(half_close(target))),
    },
    Case {
        id: "general.peer-gone",
        level: Level::Must,
        section: "1.3 Half-close, cancellation, stream end",
        sentence: "A connection that is lost with work in flight leaves the server usable on a new one.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(peer_gone(target))),
    },
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

fn stream_path(kind: Kind) -> &'static str {
    match kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => MAP_FN,
        Kind::Source => READ_FN,
    }
}

/// A stream of the server's kind after its handshake.
async fn open(connection: &Connection, kind: Kind) -> Result<Call, Unproven> {
    Ok(match kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => MapStream::open(connection).await?.call,
        Kind::Source => Reader::open(connection).await?.call,
    })
}

/// Checks that the server does its work on a new connection.
async fn works(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let mut stream = MapStream::open(&connection).await?;
            stream.echo("works").await?;
            stream.finish().await
        }
        Kind::Source => {
            let records = Reader::open(&connection).await?.read(1, AT_ONCE).await?;
            check(records.len() == 1, "one record", || format!("{}", records.len()))?;
            give_back(&connection, &records).await
        }
    }
}

async fn is_ready_while_streams_wait(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let idle = open(&connection, target.kind).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let latch = Latch::new();
            let mut stream = MapStream::open(&connection).await?;
            stream.occupy("held", latch.hold()).await?;
            is_ready(&connection, target.kind).await?;
            latch.release_over(&connection).await?;
            stream.answer("held").await?;
        }
        Kind::Source => {
            let mut reader = Reader::open(&connection).await?;
            let more = RECORDS + 1;
            reader.call.send(&source::read_request(more, 2 * AT_ONCE)).await;
            is_ready(&connection, target.kind).await?;
            let records = reader.batch(more).await?;
            give_back(&connection, &records).await?;
        }
    }
    drop(idle);
    Ok(())
}

async fn is_ready(connection: &Connection, kind: Kind) -> Result<(), Unproven> {
    let path = format!("/{}/IsReady", kind.service());
    let answer = timeout(AT_ONCE, connection.unary::<ReadyResponse>(&path, &()))
        .await
        .map_err(|_| Unproven::broken("an answer of IsReady", format!("none within {AT_ONCE:?}")))??;
    check(answer.ready, "ready = true", || "ready = false".to_owned())
}

async fn path_unknown(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    for path in [&format!("/{}/NoSuchFn", target.kind.service()), "/no.such.Service/IsReady"] {
        let mut call = connection.open(path)?;
        call.close();
        let status = call.fails().await?;
        check(status.code == UNIMPLEMENTED, "status 12", || status.to_string())?;
    }
    Ok(())
}

/// The object in the server-info file.
fn server_info(target: &Target) -> Result<serde_json::Map<String, serde_json::Value>, Unproven> {
    let path = target.server_info.display();
    let content = std::fs::read_to_string(&target.server_info)
        .map_err(|error| Unproven::broken(format!("a file of UTF-8 at {path}"), error.to_string()))?;
    let json = content
        .strip_suffix(END_MARKER)
        .ok_or_else(|| Unproven::broken(format!("{END_MARKER} as the last bytes of {path}"), format!("{content:?}")))?;
    serde_json::from_str(json).map_err(|error| {
        Unproven::broken(format!("a JSON object before the marker in {path}"), format!("{json:?}: {error}"))
    })
}

async fn server_info_marker(target: &Target) -> Result<(), Unproven> {
    server_info(target).map(drop)
}

async fn server_info_version_gate(target: &Target) -> Result<(), Unproven> {
    let info = server_info(target)?;
    let text = |key| info.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    let (language, version) = (text("language"), text("version"));
    let minimum = match language {
        // The gate itself is lower; from here on the platform also calls NackFn.
        "rust" => [0, 4, 0],
        "go" | "java" => [0, 9, 0],
        // Python's versions go by other rules, and what the platform does not know it does not check.
        _ => return Ok(()),
    };
    let expected = format!("a semantic version of at least {minimum:?} for language {language:?}");
    check(passes_gate(version, minimum), &expected, || format!("{version:?}"))
}

/// Whether the platform takes this version: three plain numbers, with `-LABEL` only above the minimum.
fn passes_gate(version: &str, minimum: [u64; 3]) -> bool {
    let (numbers, label) = version
        .trim_start_matches('v')
        .split_once('-')
        .map_or_else(|| (version.trim_start_matches('v'), None), |(numbers, label)| (numbers, Some(label)));
    let number = |text: &str| {
        let plain = text == "0" || !text.starts_with(['0', '+']);
        if plain { text.parse::<u64>().ok() } else { None }
    };
    let Some(numbers) = numbers.split('.').map(number).collect::<Option<Vec<_>>>() else { return false };
    numbers.len() == 3 && (numbers[..] > minimum[..] || (label.is_none() && numbers[..] == minimum[..]))
}

async fn handshake_first(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut call = open(&connection, target.kind).await?;
    call.close();
    call.ends_ok().await
}

async fn handshake_missing(target: &Target) -> Result<(), Unproven> {
    let first = match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => map::message("first", "echo").encode_to_vec(),
        Kind::Source => source::read_request(1, AT_ONCE).encode_to_vec(),
    };
    refuses(target, &first).await
}

async fn handshake_sot_false(target: &Target) -> Result<(), Unproven> {
    let handshake = Some(Handshake { sot: false });
    let first = match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            map::MapRequest { handshake, ..map::MapRequest::default() }.encode_to_vec()
        }
        Kind::Source => ReadRequest { handshake, request: None }.encode_to_vec(),
    };
    refuses(target, &first).await
}

/// Checks that a stream that begins with this message ends with a status, and the server goes on.
async fn refuses(target: &Target, first: &[u8]) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut call = connection.open(stream_path(target.kind))?;
    call.send_encoded(first).await;
    call.fails().await?;
    works(target).await
}

async fn half_close(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let latch = Latch::new();
            let mut stream = MapStream::open(&connection).await?;
            stream.send("held", latch.hold()).await;
            stream.end_batch().await;
            stream.call.close();
            latch.release_over(&connection).await?;
            stream.answer("held").await?;
            stream.finish().await
        }
        Kind::Source => {
            let mut reader = Reader::open(&connection).await?;
            reader.call.send(&source::read_request(10, AT_ONCE)).await;
            reader.call.close();
            let records = reader.batch(10).await?;
            reader.call.ends_ok().await?;
            give_back(&connection, &records).await
        }
    }
}

async fn peer_gone(target: &Target) -> Result<(), Unproven> {
    let lost = Connection::to(target).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let latch = Latch::new();
            let mut stream = MapStream::open(&lost).await?;
            stream.occupy("held", latch.hold()).await?;
            drop(lost);
            let connection = Connection::to(target).await?;
            latch.release_over(&connection).await?;
        }
        Kind::Source => {
            let mut reader = Reader::open(&lost).await?;
            let records = reader.read(5, AT_ONCE).await?;
            reader.call.send(&source::read_request(5, AT_ONCE)).await;
            reader.call.message::<source::ReadResponse>("the first record of a batch").await?;
            drop(lost);
            // What was read before is acked on the next connection.
            let connection = Connection::to(target).await?;
            Acker::open(&connection).await?.ack(offsets(&records)).await?;
        }
    }
    works(target).await
}

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
            give_back(&connection, &records).await
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
    let results = stream.map("large", value.clone()).await?;
    map::is_echo(&results, &value)?;
    stream.finish().await
}

#[cfg(test)]
mod tests {
    use super::passes_gate;

    #[test]
    fn the_gate_takes_what_the_platform_takes() {
        const MINIMUM: [u64; 3] = [0, 4, 0];
        for version in ["0.4.0", "v0.5.0", "0.10.0", "1.0.0-alpha", "0.4.1-rc1"] {
            assert!(passes_gate(version, MINIMUM), "{version}");
        }
        for version in ["0.3.9", "0.4.0-alpha.1", "0.6", "0.6.0.1", "dev", "0.04.0", "+1.0.0", ""] {
            assert!(!passes_gate(version, MINIMUM), "{version}");
        }
    }
}
