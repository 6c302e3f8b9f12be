//! Streams: how they begin, how long they last, and how they end.

use std::time::Duration;

use prost::Message;
use tokio::time::timeout;

use super::{ALL, AT_ONCE, works_on};
use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::Latch;
use crate::outcome::Unproven;
use crate::target::Target;
use crate::wire::common::Handshake;
use crate::wire::map::{self, MAP_FN, MapStream};
use crate::wire::source::{self, Acker, READ_FN, ReadRequest, Reader, give_back, offsets};
use crate::wire::{Call, Connection, Next};

pub(super) const CASES: &[Case] = &[
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
        id: "general.idle-stream",
        level: Level::Must,
        section: "1.3 Half-close, cancellation, stream end",
        sentence: "A stream that the platform keeps open stays open, also while nothing is sent on it.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(idle_stream(target))),
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
];

async fn handshake_first(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => MapStream::open(&connection).await?.finish().await,
        Kind::Source => Reader::open(&connection).await?.call.finish().await,
    }
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
    works_on(target).await
}

fn stream_path(kind: Kind) -> &'static str {
    match kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => MAP_FN,
        Kind::Source => READ_FN,
    }
}

async fn idle_stream(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let mut stream = MapStream::open(&connection).await?;
            let mut untouched = MapStream::open(&connection).await?;
            stream.echo("before").await?;
            stay_open([&mut stream.call, &mut untouched.call]).await?;
            stream.echo("after").await?;
            untouched.echo("the first").await
        }
        Kind::Source => {
            let mut reader = Reader::open(&connection).await?;
            let mut acker = Acker::open(&connection).await?;
            let records = reader.read(2, AT_ONCE).await?;
            stay_open([&mut reader.call, &mut acker.call]).await?;
            acker.ack(offsets(&records)).await?;
            let records = reader.read(2, AT_ONCE).await?;
            give_back(&connection, &records).await
        }
    }
}

/// Checks that nothing comes on streams that are left alone for a while.
async fn stay_open(calls: [&mut Call; 2]) -> Result<(), Unproven> {
    /// A stream is idle for hours; a suite has not that long.
    const WHILE: Duration = Duration::from_secs(4);
    const EXPECTED: &str = "nothing on a stream on which nothing is asked";
    let [one, other] = calls;
    let next = async {
        tokio::select! {
            next = one.next(EXPECTED) => next,
            next = other.next(EXPECTED) => next,
        }
    };
    match timeout(WHILE, next).await {
        Err(_) => Ok(()),
        Ok(Ok(Next::End(status))) => Err(Unproven::broken(EXPECTED, format!("its end, {status}"))),
        Ok(Ok(Next::Message(_))) => Err(Unproven::broken(EXPECTED, "a message")),
        Ok(Err(unproven)) => Err(unproven),
    }
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
            stream.ends_ok().await
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
    works_on(target).await
}
