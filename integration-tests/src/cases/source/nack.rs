//! Nacks: what comes again, when, and how often.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{SOURCES, WHAT_IS_THERE, read_all, read_exactly};
use crate::case::{Case, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::common::NackOptions;
use crate::wire::source::{Acker, Nacked, Offset, Reader, Record, give_back, nack, offsets};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "source.nack.redelivery",
        level: Level::Must,
        section: "5.6 NackFn",
        sentence: "A record that was nacked is delivered again by a later read.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(redelivery(target))),
    },
    Case {
        id: "source.nack.elements",
        level: Level::Must,
        section: "5.6 NackFn",
        sentence: "A nack of several elements with several offsets each has all of them delivered again.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(elements(target))),
    },
    Case {
        id: "source.nack.unknown",
        level: Level::Must,
        section: "5.6 NackFn",
        sentence: "Nacks of offsets that were never delivered, or are acked, succeed.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(unknown(target))),
    },
    Case {
        id: "source.nack.empty",
        level: Level::Should,
        section: "5.6 NackFn",
        sentence: "A nack without elements succeeds.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(empty(target))),
    },
    Case {
        id: "source.nack.delay",
        level: Level::Should,
        section: "5.6 NackFn",
        sentence: "A record that was nacked with a delay is delivered again after it, and not before.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(delay(target))),
    },
    Case {
        id: "source.nack.max-deliveries",
        level: Level::Should,
        section: "5.6 NackFn",
        sentence: "A record is not delivered more often than the options of its nack allow.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(max_deliveries(target))),
    },
    Case {
        id: "source.nack.own-options",
        level: Level::Should,
        section: "5.6 NackFn",
        sentence: "The options of an element of a nack hold for the offsets of that element alone.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(own_options(target))),
    },
];

fn element(records: &[Record], nack_options: Option<NackOptions>) -> Nacked {
    Nacked { offsets: offsets(records), nack_options }
}

fn delayed(delay: Duration) -> Option<NackOptions> {
    Some(NackOptions { delay: u64::try_from(delay.as_millis()).ok(), ..NackOptions::default() })
}

/// Checks that all of these are delivered again.
fn all_again(nacked: &[Record], again: &[Record]) -> Result<(), Unproven> {
    let delivered: HashSet<Offset> = offsets(again).into_iter().collect();
    let missing = offsets(nacked).into_iter().find(|offset| !delivered.contains(offset));
    check(missing.is_none(), "all again that was nacked", || format!("no {missing:?}"))
}

/// Checks that none of these is delivered again.
fn none_again(nacked: &[Record], again: &[Record], expected: &str) -> Result<(), Unproven> {
    let delivered: HashSet<Offset> = offsets(again).into_iter().collect();
    let early = offsets(nacked).into_iter().find(|offset| delivered.contains(offset));
    check(early.is_none(), expected, || format!("{early:?}"))
}

async fn redelivery(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let nacked = read_exactly(&mut reader, 1).await?;
    // Twice, since a record may well be nacked again.
    for _ in 0..2 {
        nack(&connection, vec![element(&nacked, None)]).await?;
        let again = read_all(&mut reader).await?;
        all_again(&nacked, &again)?;
        let others: Vec<Record> = again.into_iter().filter(|record| record.offset != nacked[0].offset).collect();
        give_back(&connection, &others).await?;
    }
    give_back(&connection, &nacked).await
}

async fn elements(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let nacked = read_exactly(&mut reader, 6).await?;
    let because = |reason: &str| Some(NackOptions { reason: Some(reason.to_owned()), ..NackOptions::default() });
    let elements = vec![
        element(&nacked[..2], because("two")),
        element(&nacked[2..3], because("one")),
        element(&nacked[3..], because("three")),
    ];
    nack(&connection, elements).await?;
    let again = read_all(&mut reader).await?;
    all_again(&nacked, &again)?;
    give_back(&connection, &again).await
}

async fn unknown(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let unknown = Offset { offset: "never delivered".into(), partition_id: 0 };
    nack(&connection, vec![Nacked { offsets: vec![unknown], nack_options: None }]).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut acker = Acker::open(&connection).await?;
    let acked = read_exactly(&mut reader, 1).await?;
    acker.ack(offsets(&acked)).await?;
    nack(&connection, vec![element(&acked, None)]).await
}

async fn empty(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    nack(&connection, Vec::new()).await
}

async fn delay(target: &Target) -> Result<(), Unproven> {
    const DELAY: Duration = Duration::from_secs(1);
    const LATEST: Duration = Duration::from_secs(4);
    let expected = format!("the record again after {DELAY:?}, and within {LATEST:?}");

    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut all = read_all(&mut reader).await?;
    let nacked = all.split_off(all.len().saturating_sub(1));
    let asked = Instant::now();
    nack(&connection, vec![element(&nacked, delayed(DELAY))]).await?;
    let mut again = Vec::new();
    while again.is_empty() && asked.elapsed() < LATEST {
        again = reader.read(1, WHAT_IS_THERE).await?;
    }
    let took = asked.elapsed();
    all.append(&mut again.clone());
    give_back(&connection, &all).await?;
    check(!again.is_empty(), &expected, || "nothing".to_owned())?;
    all_again(&nacked, &again)?;
    check(took >= DELAY, &expected, || format!("it after {took:?}"))
}

async fn max_deliveries(target: &Target) -> Result<(), Unproven> {
    let at_most = |deliveries| Some(NackOptions { max_deliveries: Some(deliveries), ..NackOptions::default() });
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let nacked = read_exactly(&mut reader, 2).await?;
    // Both were delivered once at least, and for one of them that is all there may be.
    let (spent, others) = nacked.split_at(1);
    nack(&connection, vec![element(spent, at_most(1)), element(others, at_most(1_000_000))]).await?;
    let again = read_all(&mut reader).await?;
    give_back(&connection, &again).await?;
    all_again(others, &again)?;
    none_again(spent, &again, "nothing again that was delivered as often as it may be")
}

async fn own_options(target: &Target) -> Result<(), Unproven> {
    const LONG: Duration = Duration::from_secs(60);
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let nacked = read_exactly(&mut reader, 3).await?;
    let (late, others) = nacked.split_at(1);
    let (before, after) = others.split_at(1);
    nack(&connection, vec![element(before, None), element(late, delayed(LONG)), element(after, None)]).await?;
    let again = read_all(&mut reader).await?;
    give_back(&connection, &again).await?;
    // Nobody waits for it.
    Acker::open(&connection).await?.ack(offsets(late)).await?;
    all_again(others, &again)?;
    none_again(late, &again, &format!("nothing again before the {LONG:?} of its own delay"))
}
