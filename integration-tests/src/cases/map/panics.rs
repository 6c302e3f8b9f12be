//! Handlers that fail.

use prost::Message;

use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::{self, ASKED_FOR};
use crate::cases::execution_error::execution_error;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::map::{MapResponse, MapStream, offered};
use crate::wire::{Connection, Next, Status};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.panic.status",
        level: Level::Must,
        section: "16.2 Status that a panic or exception must produce",
        sentence: "A panic ends the stream with INTERNAL, the marker, the text and decodable details.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(panic_status(target))),
    },
    Case {
        id: "map.panic.long-text",
        level: Level::Should,
        section: "16.4 Size limits of error statuses",
        sentence: "A panic with 1 MiB of text ends its stream alone, with 4 KiB of message and 8 KiB of details.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(panic_long_text(target))),
    },
    Case {
        id: "map.panic.ends-stream",
        level: Level::Must,
        section: "4.3 Rules common to the three modes",
        sentence: "A message whose handler panics is not answered, and its stream ends with a status.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(panic_ends_stream(target))),
    },
    Case {
        id: "map.error.status",
        level: Level::Must,
        section: "16.2 Status that a panic or exception must produce",
        sentence: "A handler that fails without a panic ends the stream with the same status as a panic.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(error_status(target))),
    },
];

/// The status that the stream of this message ends with. Whether the message is answered before is not looked at.
async fn failed(connection: &Connection, value: String) -> Result<Status, Unproven> {
    const EXPECTED: &str = "the end of the stream";
    let mut stream = MapStream::open(connection).await?;
    stream.send("poison", value).await;
    stream.end_batch().await;
    loop {
        match stream.call.next(EXPECTED).await? {
            Next::End(status) => return Ok(status),
            Next::Message(encoded) => {
                let response = MapResponse::decode(encoded).unwrap_or_default();
                offered(&response.id, &response.results)?;
            }
        }
    }
}

async fn panic_status(target: &Target) -> Result<(), Unproven> {
    let text = format!("{ASKED_FOR}: ü");
    let connection = Connection::to(target).await?;
    execution_error(&failed(&connection, contract::panic(&text)).await?, &text)
}

async fn error_status(target: &Target) -> Result<(), Unproven> {
    let text = format!("{ASKED_FOR}: ü");
    let connection = Connection::to(target).await?;
    execution_error(&failed(&connection, contract::error(&text)).await?, &text)
}

async fn panic_long_text(target: &Target) -> Result<(), Unproven> {
    const TEXT: usize = 1 << 20;
    const MESSAGE: usize = 4 << 10;
    const DETAILS: usize = 8 << 10;
    let text = format!("{ASKED_FOR}{}", "x".repeat(TEXT));
    let connection = Connection::to(target).await?;
    let mut other = MapStream::open(&connection).await?;
    let status = failed(&connection, contract::panic(&text)).await?;
    execution_error(&status, ASKED_FOR)?;
    let Status { message, details, .. } = status;
    check(message.len() <= MESSAGE, "a message of at most 4 KiB", || format!("{} bytes", message.len()))?;
    check(details.len() <= DETAILS, "details of at most 8 KiB", || format!("{} bytes", details.len()))?;
    // Trailers that are too long end the whole connection. A server that ends for the panic may end this stream too,
    // but in good order.
    other.send("on the same connection", "echo").await;
    other.end_batch().await;
    other.call.next("an answer on another stream of the connection, or a status").await.map(drop)
}

async fn panic_ends_stream(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "answers to the other messages, and a status other than 0";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for number in 0..10 {
        stream.send(&format!("before-{number}"), "echo").await;
    }
    // An answer that comes by a race is less likely to be missed among many.
    for number in 0..super::POISONED {
        stream.send(&format!("poison-{number}"), contract::panic(ASKED_FOR)).await;
    }
    for number in 0..10 {
        stream.send(&format!("after-{number}"), "echo").await;
    }
    stream.end_batch().await;
    loop {
        match stream.call.next(EXPECTED).await? {
            Next::End(status) => return check(status.code != 0, EXPECTED, || status.to_string()),
            Next::Message(encoded) => {
                let response = MapResponse::decode(encoded).unwrap_or_default();
                // Also the end of a batch has no business here.
                let other = response.id.starts_with("before-") || response.id.starts_with("after-");
                check(other, EXPECTED, || format!("{response:?}"))?;
            }
        }
    }
}
