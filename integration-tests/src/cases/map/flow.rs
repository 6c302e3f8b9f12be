//! Messages and streams at the same time, and answers that nobody reads.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{IN_FLIGHT, answers_one_by_one};
use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::Latch;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::common::ReadyResponse;
use crate::wire::map::{MapStream, is_echo};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.concurrent",
        level: Level::Must,
        section: "4.3 Rules common to the three modes",
        sentence: "A message is answered while one before it waits, on its own stream (not in a batch) or another.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(concurrent(target))),
    },
    Case {
        id: "map.in-flight-500",
        level: Level::Must,
        section: "4.3 Rules common to the three modes",
        sentence: "With 500 messages unanswered the server still reads, answers others and says it is ready.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(in_flight_500(target))),
    },
    Case {
        id: "map.several-streams",
        level: Level::Must,
        section: "1.1 Concurrency visible to a server",
        sentence: "Several connections and streams are served at once, and each stream gets its own answers only.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(several_streams(target))),
    },
    Case {
        id: "map.unread",
        level: Level::Should,
        section: "19.1 General",
        sentence: "Of 5,000 messages sent before an answer is read none is lost, repeated or mixed up.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(unread(target))),
    },
];

async fn concurrent(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let latch = Latch::new();
    let mut waiting = MapStream::open(&connection).await?;
    let mut other = MapStream::open(&connection).await?;
    waiting.send("waits", latch.hold()).await;
    waiting.end_batch().await;
    if answers_one_by_one(target.kind) {
        waiting.echo("on the same stream").await?;
    }
    other.echo("on another stream").await?;
    latch.release_over(&connection).await?;
    waiting.answer("waits").await?;
    waiting.finish().await?;
    other.finish().await
}

async fn in_flight_500(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let latch = Latch::new();
    let mut stream = MapStream::open(&connection).await?;
    let mut ids: Vec<String> = (0..IN_FLIGHT).map(|number| format!("held-{number}")).collect();
    for id in &ids {
        stream.send(id, latch.hold()).await;
    }
    stream.end_batch().await;
    let ready: ReadyResponse = connection.unary("/map.v1.Map/IsReady", &()).await?;
    check(ready.ready, "ready = true", || "ready = false".to_owned())?;
    let mut other = MapStream::open(&connection).await?;
    if answers_one_by_one(target.kind) {
        stream.echo("one more").await?;
        // The stream is read while all of them wait.
        stream.send("release", latch.release()).await;
        ids.push("release".to_owned());
    } else {
        other.map("release", latch.release()).await?;
    }
    stream.answers(ids).await?;
    stream.finish().await?;
    other.finish().await
}

async fn several_streams(target: &Target) -> Result<(), Unproven> {
    const MESSAGES: usize = 50;
    let connections = [Connection::to(target).await?, Connection::to(target).await?];
    let latch = Latch::new();
    let mut streams = Vec::new();
    for connection in &connections {
        streams.push(MapStream::open(connection).await?);
        streams.push(MapStream::open(connection).await?);
    }
    let value = |id: &str| format!("the value of {id}");
    let mut ids = vec![Vec::new(); streams.len()];
    // All streams have work that waits until each has all of its messages.
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.send(&format!("{number}-held"), latch.hold()).await;
    }
    for message in 0..MESSAGES {
        for (number, stream) in streams.iter_mut().enumerate() {
            let id = format!("{number}-{message}");
            stream.send(&id, value(&id)).await;
            ids[number].push(id);
        }
    }
    for stream in &mut streams {
        stream.end_batch().await;
    }
    latch.release_over(&connections[0]).await?;
    for (number, mut stream) in streams.into_iter().enumerate() {
        let held = format!("{number}-held");
        let mut answers = stream.answers(ids[number].iter().chain([&held])).await?;
        answers.remove(&held);
        for (id, results) in &answers {
            is_echo(results, value(id).as_bytes())?;
        }
        stream.finish().await?;
    }
    Ok(())
}

async fn unread(target: &Target) -> Result<(), Unproven> {
    const MESSAGES: usize = 5000;
    /// A server that takes no more for this long is waiting for its answers to be read.
    const TAKES_NO_MORE: Duration = Duration::from_secs(1);
    // All together they are more than the windows of a connection hold.
    let padding = "x".repeat(1 << 10);
    let value = |id: &str| Bytes::from(format!("{id} {padding}"));
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let mut ids = HashSet::new();
    for number in 0..MESSAGES {
        let id = format!("unread-{number}");
        if timeout(TAKES_NO_MORE, stream.send(&id, value(&id))).await.is_err() {
            break;
        }
        ids.insert(id);
    }
    stream.end_batch().await;
    for (id, results) in stream.answers(ids).await? {
        is_echo(&results, &value(&id))?;
    }
    stream.echo("after all of them").await?;
    stream.finish().await
}
