//! Batch mode: messages and an end of transmission, then their answers and an end of transmission.

use prost::Message;

use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::{self, Latch};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::map::{MapResponse, MapStream, is_echo, offered};
use crate::wire::{Connection, Next};

const BATCH: &[Kind] = &[Kind::BatchMap];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.batch.sizes",
        level: Level::Must,
        section: "4.5 Batch mode",
        sentence: "A batch of any size has one answer for each message, and then one end of transmission.",
        kinds: BATCH,
        recipe: Recipe::Server(|target| Box::pin(sizes(target))),
    },
    Case {
        id: "map.batch.in-sequence",
        level: Level::Must,
        section: "4.5 Batch mode",
        sentence: "A batch is not answered before the end of transmission of the one before it.",
        kinds: BATCH,
        recipe: Recipe::Server(|target| Box::pin(in_sequence(target))),
    },
    Case {
        id: "map.batch.skipped-id",
        level: Level::Must,
        section: "4.5 Batch mode",
        sentence: "A message that the function leaves out is answered with nothing or ends the stream with a status.",
        kinds: BATCH,
        recipe: Recipe::Server(|target| Box::pin(skipped_id(target))),
    },
    Case {
        id: "map.batch.eot-bare",
        level: Level::Must,
        section: "4.5 Batch mode",
        sentence: "The end of transmission carries no results.",
        kinds: BATCH,
        recipe: Recipe::Server(|target| Box::pin(eot_bare(target))),
    },
    Case {
        id: "map.batch.empty",
        level: Level::Should,
        section: "4.5 Batch mode",
        sentence: "A batch without messages is answered with a bare end of transmission.",
        kinds: BATCH,
        recipe: Recipe::Server(|target| Box::pin(empty(target))),
    },
    Case {
        id: "map.batch.cut-short",
        level: Level::Should,
        section: "4.5 Batch mode",
        sentence: "A batch that a half-close cuts short gets no end of transmission, as if it had been whole.",
        kinds: BATCH,
        recipe: Recipe::Server(|target| Box::pin(cut_short(target))),
    },
];

async fn sizes(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for size in [1, 500, 1000, 2] {
        let ids: Vec<String> = (0..size).map(|number| format!("{number} of {size}")).collect();
        for id in &ids {
            stream.send(id, id.clone()).await;
        }
        stream.end_batch().await;
        for (id, results) in stream.answers(ids).await? {
            is_echo(&results, id.as_bytes())?;
        }
    }
    stream.finish().await
}

async fn in_sequence(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let latch = Latch::new();
    let mut stream = MapStream::open(&connection).await?;
    stream.send("of the first batch", latch.hold()).await;
    stream.end_batch().await;
    for number in 0..10 {
        stream.send(&format!("of the second batch-{number}"), "echo").await;
    }
    stream.end_batch().await;
    // A server that does not wait has answered the second batch by the time these are done.
    let mut other = MapStream::open(&connection).await?;
    for number in 0..10 {
        other.echo(&format!("meanwhile-{number}")).await?;
    }
    other.map("release", latch.release()).await?;
    stream.answer("of the first batch").await?;
    stream.answers((0..10).map(|number| format!("of the second batch-{number}"))).await?;
    stream.finish().await
}

async fn skipped_id(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "an answer without results for the message left out, or a status other than 0";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for (id, value) in [("before", "echo"), ("left out", contract::SKIP), ("after", "echo")] {
        stream.send(id, value).await;
    }
    stream.end_batch().await;
    let mut answered = false;
    loop {
        match stream.call.next(EXPECTED).await? {
            Next::End(status) => return check(status.code != 0, EXPECTED, || status.to_string()),
            Next::Message(encoded) => {
                let response = MapResponse::decode(encoded).unwrap_or_default();
                offered(&response.id, &response.results)?;
                if response.is_eot() {
                    return check(answered, EXPECTED, || "the end of the batch".to_owned());
                }
                if response.id == "left out" {
                    check(response.results.is_empty(), EXPECTED, || format!("{response:?}"))?;
                    answered = true;
                }
            }
        }
    }
}

async fn eot_bare(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.send("many", contract::many(3)).await;
    stream.end_batch().await;
    stream.next_answer("the answer").await?;
    bare_eot(&mut stream).await?;
    stream.finish().await
}

async fn empty(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.end_batch().await;
    bare_eot(&mut stream).await?;
    stream.echo("in a batch that has something").await?;
    stream.finish().await
}

/// Expects an end of transmission and nothing else.
async fn bare_eot(stream: &mut MapStream) -> Result<(), Unproven> {
    const EXPECTED: &str = "an end of transmission without results";
    let response: MapResponse = stream.call.message(EXPECTED).await?;
    check(response.is_eot() && response.results.is_empty(), EXPECTED, || format!("{response:?}"))
}

async fn cut_short(target: &Target) -> Result<(), Unproven> {
    const EXPECTED: &str = "the end of the stream, before it at most answers to what was sent of the batch";
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.echo("in a batch that is whole").await?;
    let mut ids = vec!["cut-0", "cut-1", "cut-2"];
    for id in &ids {
        stream.send(id, "echo").await;
    }
    stream.call.close();
    loop {
        match stream.call.next(EXPECTED).await? {
            Next::End(_) => return Ok(()),
            // What does not wait for the end of its batch may be answered by now.
            Next::Message(encoded) => {
                let response = MapResponse::decode(encoded).unwrap_or_default();
                let sent = ids.iter().position(|id| *id == response.id && !response.is_eot());
                let Some(sent) = sent else { return Err(Unproven::broken(EXPECTED, format!("{response:?}"))) };
                ids.remove(sent);
            }
        }
    }
}
