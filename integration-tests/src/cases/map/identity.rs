//! Which message an answer is for.

use prost::Message;

use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::Latch;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::map::{MapRequest, MapResponse, MapStream};
use crate::wire::{Connection, Next};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.id-echo",
        level: Level::Must,
        section: "2.5 Message identity",
        sentence: "Each message is answered once, with its id byte for byte, whatever UTF-8 that is.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(id_echo(target))),
    },
    Case {
        id: "map.id-10k",
        level: Level::Must,
        section: "2.5 Message identity",
        sentence: "An id of 10 KiB comes back whole.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(id_10k(target))),
    },
    Case {
        id: "map.same-id.twice",
        level: Level::Must,
        section: "2.5 Message identity",
        sentence: "A message that comes again with the same id is processed and answered again.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(same_id_twice(target))),
    },
    Case {
        id: "map.same-id.at-once",
        level: Level::Should,
        section: "2.5 Message identity",
        sentence: "Two messages with the same id at the same time are not met by silence, and the server goes on.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(same_id_at_once(target))),
    },
    Case {
        id: "map.no-request",
        level: Level::Must,
        section: "19.2 Map, common and unary",
        sentence: "A message without its data is answered or ends the stream with a status, but never met by silence.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(no_request(target))),
    },
];

async fn id_echo(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for id in ["mv-MTIz-0-0", " ", "\0\t\r\n", "\u{feff}\u{202e}ü€🦀", "e\u{301} is not \u{e9}", "%00\\u0000"] {
        stream.echo(id).await?;
    }
    stream.finish().await
}

async fn id_10k(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.echo(&"ü".repeat(5 << 10)).await?;
    stream.finish().await
}

async fn same_id_twice(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.echo("same").await?;
    stream.echo("same").await?;
    stream.finish().await?;
    // As after a reconnect.
    let mut stream = MapStream::open(&connection).await?;
    stream.echo("same").await?;
    stream.finish().await
}

async fn same_id_at_once(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "an answer with the id, or a status other than 0";
    let connection = Connection::to(target).await?;
    let latch = Latch::new();
    let mut stream = MapStream::open(&connection).await?;
    stream.send("same", latch.hold()).await;
    stream.send("same", latch.hold()).await;
    stream.end_batch().await;
    latch.release_over(&connection).await?;
    answered_or_failed(&mut stream, "same", EXPECTED).await?;
    // Two answers are as good as one.
    stream.leave().await;
    super::works(target).await
}

async fn no_request(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "an answer with the id, or a status other than 0";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let request = MapRequest { id: "bare".to_owned(), ..MapRequest::default() };
    stream.call.send(&request).await;
    stream.end_batch().await;
    answered_or_failed(&mut stream, "bare", EXPECTED).await
}

/// Checks that what comes next is for this id, or ends the stream with a status.
async fn answered_or_failed(stream: &mut MapStream, id: &str, expected: &str) -> Result<(), Unproven> {
    match stream.call.next(expected).await? {
        Next::Message(bytes) => {
            let response = MapResponse::decode(bytes).unwrap_or_default();
            check(response.id == id, expected, || format!("{response:?}"))
        }
        Next::End(status) => check(status.code != 0, expected, || status.to_string()),
    }
}
