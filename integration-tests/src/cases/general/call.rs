//! Calls: which there are, and who may make them when.

use super::{ALL, AT_ONCE, is_ready, open};
use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract::{Latch, RECORDS};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::common::ReadyResponse;
use crate::wire::map::MapStream;
use crate::wire::raw::{Ended, RawConnection};
use crate::wire::source::{self, Reader, give_back};
use crate::wire::{Connection, UNIMPLEMENTED};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "general.is-ready.while-streams-wait",
        level: Level::Must,
        section: "1 Transport",
        sentence: "IsReady says ready = true at any time, also while streams of the same connection wait.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(is_ready_while_streams_wait(target))),
    },
    Case {
        id: "general.path.unknown",
        level: Level::Must,
        section: "3 Service catalogue",
        sentence: "A path that is not served is answered with UNIMPLEMENTED.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(path_unknown(target))),
    },
    Case {
        id: "general.authority",
        level: Level::Must,
        section: "1 Transport",
        sentence: "Calls are served whatever name the platform calls the server by, and without a token.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(authority(target))),
    },
    Case {
        id: "general.authority.no-host",
        level: Level::Should,
        section: "1 Transport",
        sentence: "A call of a server by a name that is no host, such as the path of its socket, is answered or refused, and \
                   the connection goes on.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(authority_no_host(target))),
    },
];

async fn is_ready_while_streams_wait(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let idle = open(&connection, target.kind).await?;
    match target.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let latch = Latch::new();
            let mut stream = MapStream::open(&connection).await?;
            stream.occupy("held", latch.hold()).await?;
            is_ready(&connection, target.kind).await?;
            latch.release_over(&connection).await?;
            stream.answer("held").await?;
        }
        Kind::Source => {
            let mut reader = Reader::open(&connection).await?;
            let more = RECORDS + 1;
            reader.call.send(&source::read_request(more, 2 * AT_ONCE)).await;
            is_ready(&connection, target.kind).await?;
            let records = reader.batch(more).await?;
            give_back(&connection, &records).await?;
        }
    }
    drop(idle);
    Ok(())
}

async fn path_unknown(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    for path in [&format!("/{}/NoSuchFn", target.kind.service()), "/no.such.Service/IsReady"] {
        let mut call = connection.open(path)?;
        call.close();
        let status = call.fails().await?;
        check(status.code == UNIMPLEMENTED, "status 12", || status.to_string())?;
    }
    Ok(())
}

/// What gRPC libraries call a server on a Unix socket by.
async fn authority_no_host(target: &Target) -> Result<(), Unproven> {
    let mut connection = RawConnection::to(target).await?;
    let path = format!("/{}/IsReady", target.kind.service());
    for authority in [Some("%2Fvar%2Frun%2Fnumaflow%2Fudf.sock"), Some("/var/run/numaflow/udf.sock"), Some(""), None] {
        connection.call(&path, authority).await?;
    }
    let ended = connection.call(&path, Some("localhost")).await?;
    check(ended == Ended::Answered, "an answer at localhost", || format!("{ended:?}"))
}

async fn authority(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let path = format!("/{}/IsReady", target.kind.service());
    for origin in ["http://[::1]:50051", "http://localhost", "http://numaflow.example:443", "http://192.0.2.1:1"] {
        let mut call = connection.open_at(origin, &path)?;
        call.send(&()).await;
        call.close();
        let answer: ReadyResponse = call.message(&format!("the answer of IsReady at {origin}")).await?;
        check(answer.ready, "ready = true", || "ready = false".to_owned())?;
        call.ends_ok().await?;
    }
    Ok(())
}
