//! Maps: what holds in all three modes, and what is special to each.

use std::time::{Duration, Instant};

use tokio::time::interval;

use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::map::{MapStream, Output};
use crate::{Case, Kind};

mod answers;
mod batch;
mod flow;
mod identity;
mod load;
mod lost;
mod panics;
mod stream;
mod unary;

pub(super) const CASES: &[&[Case]] = &[
    identity::CASES,
    answers::CASES,
    flow::CASES,
    load::CASES,
    lost::CASES,
    panics::CASES,
    unary::CASES,
    batch::CASES,
    stream::CASES,
];

/// The platform keeps this many in flight unless told otherwise, and no batch of it is larger.
const IN_FLIGHT: usize = 500;

/// How many messages panic at once where a server may answer one of them all the same.
const POISONED: usize = 50;

/// Checks that the server does its work on a new connection.
async fn works(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.echo("works").await?;
    stream.finish().await
}

/// Checks that the server still does its work after something that it may take a while to notice, and to end by.
async fn works_on(target: &Target) -> Result<(), Unproven> {
    const WATCHED: Duration = Duration::from_secs(2);
    const LOOK: Duration = Duration::from_millis(100);
    let started = Instant::now();
    let mut looks = interval(LOOK);
    while started.elapsed() < WATCHED {
        looks.tick().await;
        works(target).await?;
    }
    Ok(())
}

/// Checks that these are the results for a message that is answered with numbers from 0 on.
fn are_numbers(results: &[Output], count: usize) -> Result<(), Unproven> {
    let numbered = results.iter().enumerate().all(|(number, output)| output.value == number.to_string());
    check(numbered && results.len() == count, &format!("{count} results, numbered from 0 on"), || {
        let values: Vec<_> = results.iter().take(10).map(|output| output.value.escape_ascii().to_string()).collect();
        format!("{} results: {}, ...", results.len(), values.join(", "))
    })
}

/// Whether messages can be answered while others of the same stream are not: a batch is answered as a whole.
fn answers_one_by_one(kind: Kind) -> bool {
    kind != Kind::BatchMap
}
