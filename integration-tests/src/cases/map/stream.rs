//! Stream mode: each output as it is made, then an end of transmission for its message.

use prost::Message;

use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::{self, Latch};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::map::{MapResponse, MapStream, is_echo, offered};
use crate::wire::{Connection, Next};

const STREAM: &[Kind] = &[Kind::StreamMap];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.stream.outputs",
        level: Level::Must,
        section: "4.6 Stream mode",
        sentence: "Any number of outputs is followed by one end of transmission, all with the message's id.",
        kinds: STREAM,
        recipe: Recipe::Server(|target| Box::pin(outputs(target))),
    },
    Case {
        id: "map.stream.flushed",
        level: Level::Should,
        section: "4.6 Stream mode",
        sentence: "An output is sent as soon as it is made, while its handler goes on.",
        kinds: STREAM,
        recipe: Recipe::Server(|target| Box::pin(flushed(target))),
    },
    Case {
        id: "map.stream.order",
        level: Level::Must,
        section: "4.6 Stream mode",
        sentence: "The outputs of a message stay in order, however many other messages have some at the same time.",
        kinds: STREAM,
        recipe: Recipe::Server(|target| Box::pin(order(target))),
    },
    Case {
        id: "map.stream.eot-bare",
        level: Level::Must,
        section: "4.6 Stream mode",
        sentence: "The end of transmission carries no results.",
        kinds: STREAM,
        recipe: Recipe::Server(|target| Box::pin(eot_bare(target))),
    },
    Case {
        id: "map.stream.panic-no-eot",
        level: Level::Must,
        section: "4.6 Stream mode",
        sentence: "After a panic, also behind some outputs, no end of transmission comes but a status.",
        kinds: STREAM,
        recipe: Recipe::Server(|target| Box::pin(panic_no_eot(target))),
    },
];

async fn outputs(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for count in [0, 1, 5000] {
        let results = stream.map(&format!("many-{count}"), contract::many(count)).await?;
        super::are_numbers(&results, count)?;
    }
    // A second end of transmission would come now.
    stream.echo("after all of them").await?;
    stream.finish().await
}

async fn flushed(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "the first output, while the handler waits";
    let connection = Connection::to(target).await?;
    let latch = Latch::new();
    let mut stream = MapStream::open(&connection).await?;
    stream.send("two", latch.first()).await;
    let response: MapResponse = stream.call.message(EXPECTED).await?;
    offered(&response.id, &response.results)?;
    let first = response.id == "two" && !response.is_eot();
    check(first, EXPECTED, || format!("{response:?}"))?;
    is_echo(&response.results, b"first")?;
    latch.release_over(&connection).await?;
    is_echo(&stream.answer("two").await?, b"last")?;
    stream.finish().await
}

async fn order(target: &Target) -> Result<(), Unproven> {
    const OUTPUTS: usize = 200;
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let ids: Vec<String> = (0..20).map(|number| format!("many-{number}")).collect();
    for id in &ids {
        stream.send(id, contract::many(OUTPUTS)).await;
    }
    for results in stream.answers(ids).await?.values() {
        super::are_numbers(results, OUTPUTS)?;
    }
    stream.finish().await
}

async fn eot_bare(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "outputs, and an end of transmission without results";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.send("many", contract::many(3)).await;
    loop {
        let response: MapResponse = stream.call.message(EXPECTED).await?;
        offered(&response.id, &response.results)?;
        if response.is_eot() {
            check(response.results.is_empty(), EXPECTED, || format!("{response:?}"))?;
            return stream.finish().await;
        }
    }
}

async fn panic_no_eot(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "no end of transmission, and a status other than 0";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    // One that comes by a race is less likely to be missed among many.
    for number in 0..super::POISONED {
        stream.send(&format!("poison-{number}"), contract::many_then_panic(3)).await;
    }
    loop {
        match stream.call.next(EXPECTED).await? {
            Next::End(status) => return check(status.code != 0, EXPECTED, || status.to_string()),
            Next::Message(encoded) => {
                let response = MapResponse::decode(encoded).unwrap_or_default();
                offered(&response.id, &response.results)?;
                check(!response.is_eot(), EXPECTED, || format!("{response:?}"))?;
            }
        }
    }
}
