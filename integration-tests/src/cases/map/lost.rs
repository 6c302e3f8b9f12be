//! Streams and connections that the platform breaks off.

use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::Latch;
use crate::outcome::Unproven;
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::map::MapStream;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.stream-reset",
        level: Level::Must,
        section: "1.3 Half-close, cancellation, stream end",
        sentence: "A stream that is reset with work in flight harms neither other streams nor the server.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(stream_reset(target))),
    },
    Case {
        id: "map.connection-lost",
        level: Level::Must,
        section: "1.3 Half-close, cancellation, stream end",
        sentence: "A connection lost with work in flight, and half a batch sent, harms neither others nor the server.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(connection_lost(target))),
    },
];

async fn stream_reset(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let latch = Latch::new();
    let mut other = MapStream::open(&connection).await?;
    let mut reset = MapStream::open(&connection).await?;
    reset.occupy("held", latch.hold()).await?;
    reset.send("on its way", "echo").await;
    drop(reset);
    other.echo("on the stream that stays").await?;
    latch.release_over(&connection).await?;
    super::works_on(target).await?;
    other.echo("still").await?;
    other.finish().await
}

async fn connection_lost(target: &Target) -> Result<(), Unproven> {
    let lost = Connection::to(target).await?;
    let kept = Connection::to(target).await?;
    let latch = Latch::new();
    let mut other = MapStream::open(&kept).await?;
    let mut held = MapStream::open(&lost).await?;
    held.occupy("held", latch.hold()).await?;
    // In batch mode this is the first half of a batch.
    let mut half = MapStream::open(&lost).await?;
    for number in 0..100 {
        half.send(&format!("half-{number}"), "echo").await;
    }
    drop(lost);
    other.echo("on the connection that stays").await?;
    latch.release_over(&kept).await?;
    super::works_on(target).await?;
    other.echo("still").await?;
    other.finish().await
}
