//! Maps in unary mode: one answer a message.

use std::collections::HashSet;

use prost::Message;

use super::contract::{self, Latch};
use super::execution_error::execution_error;
use crate::case::{Case, Kind, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::common::ReadyResponse;
use crate::wire::map::{MapRequest, MapResponse, MapStream};
use crate::wire::{Connection, Next};

const UNARY: &[Kind] = &[Kind::UnaryMap];

/// The platform keeps this many in flight unless told otherwise.
const IN_FLIGHT: usize = 500;

const DROP_TAG: &str = "U+005C__DROP__";
const NACK_TAG: &str = "U+005C__NACK__";

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.unary.id-echo",
        level: Level::Must,
        section: "2.5 Message identity",
        sentence: "Each message is answered once, with its id byte for byte, whatever UTF-8 that is.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(id_echo(target))),
    },
    Case {
        id: "map.unary.id-10k",
        level: Level::Must,
        section: "2.5 Message identity",
        sentence: "An id of 10 KiB comes back whole.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(id_10k(target))),
    },
    Case {
        id: "map.unary.empty-output",
        level: Level::Must,
        section: "4.4 Unary mode",
        sentence: "A message without output is answered with its id and no results.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(empty_output(target))),
    },
    Case {
        id: "map.unary.drop",
        level: Level::Must,
        section: "2.4 Tags and reserved tags",
        sentence: "A drop is one result with the DROP tag.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(drop_tag(target))),
    },
    Case {
        id: "map.unary.nack",
        level: Level::Must,
        section: "4.8 Nack from a map",
        sentence: "A nack is one result with the NACK tag and its options.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(nack_tag(target))),
    },
    Case {
        id: "map.unary.in-flight-500",
        level: Level::Must,
        section: "4.3 Rules common to the three modes",
        sentence: "With 500 messages unanswered the server still reads, answers others and says it is ready.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(in_flight_500(target))),
    },
    Case {
        id: "map.unary.same-id-twice",
        level: Level::Must,
        section: "2.5 Message identity",
        sentence: "A message that comes again with the same id is processed and answered again.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(same_id_twice(target))),
    },
    Case {
        id: "map.unary.no-request",
        level: Level::Must,
        section: "19.2 Map, common and unary",
        sentence: "A message without its data is answered or ends the stream with a status, but never met by silence.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(no_request(target))),
    },
    Case {
        id: "map.unary.panic-status",
        level: Level::Must,
        section: "16.2 Status that a panic or exception must produce",
        sentence: "A panic ends the stream with INTERNAL, the marker, the text and decodable details.",
        kinds: UNARY,
        recipe: Recipe::Server(|target| Box::pin(panic_status(target))),
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

async fn empty_output(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let results = stream.map("empty", contract::EMPTY).await?;
    check(results.is_empty(), "no results", || format!("{results:?}"))?;
    stream.finish().await
}

async fn drop_tag(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let results = stream.map("drop", contract::DROP).await?;
    let dropped = matches!(&results[..], [output] if output.tags == [DROP_TAG]);
    check(dropped, "one result with the DROP tag", || format!("{results:?}"))?;
    stream.finish().await
}

async fn nack_tag(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let results = stream.map("nack", contract::NACK).await?;
    let nacked = matches!(&results[..], [output] if output.tags == [NACK_TAG]
    && output.nack_options.as_ref().is_some_and(|options| {
        options.reason.as_deref() == Some(contract::NACK_REASON)
            && options.max_deliveries == Some(contract::NACK_MAX_DELIVERIES)
            && options.delay == Some(contract::NACK_DELAY_MS)
    }));
    check(nacked, "one result with the NACK tag and the contract's options", || format!("{results:?}"))?;
    stream.finish().await
}

async fn in_flight_500(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let latch = Latch::new();
    let mut unanswered = HashSet::new();
    for number in 0..IN_FLIGHT {
        let id = format!("held-{number}");
        stream.send(&id, latch.hold()).await;
        unanswered.insert(id);
    }
    let ready: ReadyResponse = connection.unary("/map.v1.Map/IsReady", &()).await?;
    check(ready.ready, "ready = true", || "ready = false".to_owned())?;
    stream.echo("one more").await?;

    stream.send("release", latch.release()).await;
    unanswered.insert("release".to_owned());
    while !unanswered.is_empty() {
        let answer: MapResponse = stream.call.message("the answers of all that was held").await?;
        check(unanswered.remove(&answer.id), "an id that was not answered yet", || answer.id)?;
    }
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

async fn no_request(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "an answer with the id, or a status other than 0";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let request = MapRequest { id: "bare".to_owned(), ..MapRequest::default() };
    stream.call.send(&request).await;
    match stream.call.next(EXPECTED).await? {
        Next::Message(bytes) => {
            let id = MapResponse::decode(bytes).unwrap_or_default().id;
            check(id == request.id, EXPECTED, || format!("an answer with the id {id:?}"))
        }
        Next::End(status) => check(status.code != 0, EXPECTED, || status.to_string()),
    }
}

async fn panic_status(target: &Target) -> Result<(), Unproven> {
    const TEXT: &str = "the suite asked for this: ü";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.send("poison", contract::panic(TEXT)).await;
    let status = stream.call.fails().await?;
    execution_error(&status, TEXT)
}
