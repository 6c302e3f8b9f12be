//! What a source owes the platform after it was killed.

use super::{SOURCES, read_all, read_exactly};
use crate::case::{Case, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::server::Launcher;
use crate::wire::Connection;
use crate::wire::source::{Acker, Offset, Reader, offsets};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "source.restart.redelivery",
        level: Level::Must,
        section: "5.10 At-least-once contract",
        sentence: "Records that were read and not acked are delivered again, by the same offsets, after the server was \
                   killed and started again.",
        kinds: SOURCES,
        recipe: Recipe::Process(|launcher| Box::pin(redelivery(launcher))),
    },
    Case {
        id: "source.restart.ack",
        level: Level::Must,
        section: "5.5 AckFn",
        sentence: "Acks of records that an earlier process delivered succeed.",
        kinds: SOURCES,
        recipe: Recipe::Process(|launcher| Box::pin(ack(launcher))),
    },
];

/// Has a server deliver a few records, acks two of them and kills it. Returns the offsets of the others.
async fn left_unacked(launcher: &Launcher) -> Result<Vec<Offset>, Unproven> {
    let server = launcher.start().await?;
    let connection = Connection::to(&server.target).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut acker = Acker::open(&connection).await?;
    let mut records = offsets(&read_exactly(&mut reader, 10).await?);
    let acked = records.drain(..2).collect();
    acker.ack(acked).await?;
    server.kill().await;
    Ok(records)
}

async fn redelivery(launcher: &Launcher) -> Result<(), Unproven> {
    let unacked = left_unacked(launcher).await?;
    let server = launcher.start().await?;
    let connection = Connection::to(&server.target).await?;
    let again = offsets(&read_all(&mut Reader::open(&connection).await?).await?);
    server.kill().await;
    let missing = unacked.iter().find(|offset| !again.contains(offset));
    check(missing.is_none(), "all again that was not acked", || format!("no {missing:?}"))
}

async fn ack(launcher: &Launcher) -> Result<(), Unproven> {
    let unacked = left_unacked(launcher).await?;
    let server = launcher.start().await?;
    let connection = Connection::to(&server.target).await?;
    let outcome = Acker::open(&connection).await?.ack(unacked).await;
    server.kill().await;
    outcome
}
