//! What every server owes the platform, whatever it serves.

use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

use crate::cases::ATTEMPTS;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::common::ReadyResponse;
use crate::wire::map::MapStream;
use crate::wire::source::{Reader, give_back};
use crate::wire::{Call, Connection};
use crate::{Case, Kind};

mod call;
mod defaults;
mod info;
mod message;
mod start;
mod stop;
mod stream;
mod version;

pub(super) const CASES: &[&[Case]] =
    &[call::CASES, stream::CASES, message::CASES, info::CASES, defaults::CASES, start::CASES, stop::CASES];

const ALL: &[Kind] = Kind::ALL;
const MAPS: &[Kind] = Kind::MAPS;

/// The protocol asks for 100 ms; a machine that does other things as well gets five times that.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A stream of the server's kind after its handshake.
async fn open(connection: &Connection, kind: Kind) -> Result<Call, Unproven> {
    Ok(match kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => MapStream::open(connection).await?.call,
        Kind::Source => Reader::open(connection).await?.call,
    })
}

/// Checks that the server goes on after something that it may take a while to notice, and to end by.
pub(super) async fn works_on(target: &Target) -> Result<(), Unproven> {
    const WATCHED: Duration = Duration::from_secs(2);
    const LOOK: Duration = Duration::from_millis(100);
    let connection = Connection::to(target).await?;
    let started = Instant::now();
    let mut looks = interval(LOOK);
    while started.elapsed() < WATCHED {
        looks.tick().await;
        is_ready(&connection, target.kind).await?;
    }
    works(target).await
}

/// Checks that the server does its work on a new connection.
async fn works(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => MapStream::open(&connection).await?.echo("works").await,
        Kind::Source => {
            let mut reader = Reader::open(&connection).await?;
            let records = reader.read(1, AT_ONCE).await?;
            check(records.len() == 1, "one record", || format!("{}", records.len()))?;
            give_back(&connection, &records).await
        }
    }
}

async fn is_ready(connection: &Connection, kind: Kind) -> Result<(), Unproven> {
    let path = format!("/{}/IsReady", kind.service());
    for _ in 0..ATTEMPTS {
        if let Ok(answer) = timeout(AT_ONCE, connection.unary::<ReadyResponse>(&path, &())).await {
            return check(answer?.ready, "ready = true", || "ready = false".to_owned());
        }
    }
    Err(Unproven::broken("an answer of IsReady", format!("none within {AT_ONCE:?}, {ATTEMPTS} times")))
}
