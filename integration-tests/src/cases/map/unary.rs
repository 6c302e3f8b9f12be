//! Unary mode: one message for each answer.

use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::map::{MapResponse, MapStream, end_of_batch, offered};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.unary.one-response",
        level: Level::Must,
        section: "4.4 Unary mode",
        sentence: "All outputs of a message are in one response.",
        kinds: &[Kind::UnaryMap],
        recipe: Recipe::Server(|target| Box::pin(one_response(target))),
    },
    Case {
        id: "map.unary.eot-ignored",
        level: Level::Should,
        section: "4.4 Unary mode",
        sentence: "An end of transmission, which this mode does not have, is ignored.",
        kinds: &[Kind::UnaryMap],
        recipe: Recipe::Server(|target| Box::pin(eot_ignored(target))),
    },
];

async fn one_response(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for count in [0, 1, 5000] {
        let id = format!("many-{count}");
        stream.send(&id, contract::many(count)).await;
        let expected = format!("a response with the id {id:?} and all results");
        let response: MapResponse = stream.call.message(&expected).await?;
        offered(&response.id, &response.results)?;
        check(response.id == id, &expected, || format!("one with the id {:?}", response.id))?;
        super::are_numbers(&response.results, count)?;
    }
    stream.finish().await
}

async fn eot_ignored(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.call.send(&end_of_batch()).await;
    stream.echo("after it").await?;
    stream.finish().await
}
