//! What a read is answered with, and when.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{PLENTY, SOURCES, read_all, read_exactly};
use crate::case::{Case, Level, Recipe};
use crate::cases::ATTEMPTS;
use crate::cases::contract::{ASKED_FOR, FAILING_READ, PANICKING_READ};
use crate::cases::execution_error::execution_error;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::source::{
    Offset, ReadResponse, Reader, Record, check_record, give_back, offsets, pending, read_request,
};
use crate::wire::{Connection, Next, Status};

/// The timeout of reads whose end is timed.
const TIMEOUT: Duration = Duration::from_secs(1);
const TOLERANCE: Duration = Duration::from_millis(200);

pub(super) const CASES: &[Case] = &[
    Case {
        id: "source.read.count",
        level: Level::Must,
        section: "5.3 ReadFn",
        sentence: "A read of 1, 10 or 500 records is answered with no more than it asked for, and as many where there \
                   are as many.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_count(target))),
    },
    Case {
        id: "source.read.record",
        level: Level::Must,
        section: "5.3 ReadFn",
        sentence: "Each record has an offset that is not empty, an event time, and a partition from 0 to 65,535.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_record(target))),
    },
    Case {
        id: "source.read.eot-alone",
        level: Level::Must,
        section: "5.3 ReadFn",
        sentence: "A batch ends with exactly one message that says so and carries no record.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_eot_alone(target))),
    },
    Case {
        id: "source.read.eot-at-timeout",
        level: Level::Must,
        section: "5.3 ReadFn",
        sentence: "With nothing to read the batch ends when the timeout is over, neither at once nor later.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_eot_at_timeout(target))),
    },
    Case {
        id: "source.read.partial",
        level: Level::Should,
        section: "5.3 ReadFn",
        sentence: "With less to read than was asked for the batch has what there is, and ends when the timeout is over.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_partial(target))),
    },
    Case {
        id: "source.read.full",
        level: Level::Should,
        section: "5.3 ReadFn",
        sentence: "A batch that is full ends at once, whatever is left of the timeout.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_full(target))),
    },
    Case {
        id: "source.read.error",
        level: Level::Must,
        section: "16.1 How a server reports failure",
        sentence: "A read that fails ends its stream with a status, and not its batch with an EOT.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_error(target))),
    },
    Case {
        id: "source.read.panic-status",
        level: Level::Must,
        section: "16.2 Status that a panic or exception must produce",
        sentence: "A read that panics ends its stream with INTERNAL, the marker, the text and decodable details.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_panic_status(target))),
    },
];

async fn read_count(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut records = Vec::new();
    for count in [1, 10, 500] {
        records.append(&mut read_exactly(&mut reader, count).await?);
    }
    let distinct: HashSet<Offset> = offsets(&records).into_iter().collect();
    check(distinct.len() == records.len(), "an offset of its own for each record", || "the same twice".to_owned())?;
    give_back(&connection, &records).await
}

async fn read_record(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let records = read_exactly(&mut reader, 10).await?;
    records.iter().try_for_each(check_record)?;
    give_back(&connection, &records).await
}

async fn read_eot_alone(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut records = read_exactly(&mut reader, 1).await?;
    records.append(&mut read_exactly(&mut reader, 10).await?);
    // A second end of the last batch would come now.
    reader.call.finish().await?;
    give_back(&connection, &records).await
}

async fn read_eot_at_timeout(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let all = read_all(&mut reader).await?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let (records, took) = timed_read(&mut reader).await?;
        check(records.is_empty(), "an empty batch", || format!("{} records", records.len()))?;
        outcome = at_timeout(took);
        if outcome.is_ok() || took < TIMEOUT {
            break;
        }
    }
    give_back(&connection, &all).await?;
    outcome
}

async fn read_partial(target: &Target) -> Result<(), Unproven> {
    // Not three: the contract has a read of 997 fail.
    const LEFT: usize = 5;
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let there = usize::try_from(pending(&connection).await?).unwrap_or_default();
        let mut all = read_exactly(&mut reader, there.saturating_sub(LEFT)).await?;
        let (mut records, took) = timed_read(&mut reader).await?;
        check(records.len() == LEFT, &format!("the {LEFT} records that were left"), || format!("{}", records.len()))?;
        all.append(&mut records);
        give_back(&connection, &all).await?;
        outcome = at_timeout(took);
        if outcome.is_ok() || took < TIMEOUT {
            break;
        }
    }
    outcome
}

/// A read of ten, and how long it took.
async fn timed_read(reader: &mut Reader) -> Result<(Vec<Record>, Duration), Unproven> {
    let asked = Instant::now();
    let records = reader.read(10, TIMEOUT).await?;
    Ok((records, asked.elapsed()))
}

fn at_timeout(took: Duration) -> Result<(), Unproven> {
    let expected = format!("the end of the batch after {TIMEOUT:?}, give or take {TOLERANCE:?}");
    check((TIMEOUT - TOLERANCE..=TIMEOUT + TOLERANCE).contains(&took), &expected, || format!("one after {took:?}"))
}

async fn read_full(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let asked = Instant::now();
    let records = read_exactly(&mut reader, 10).await?;
    let took = asked.elapsed();
    check(took < PLENTY / 2, &format!("a full batch long before the timeout of {PLENTY:?}"), || {
        format!("one after {took:?}")
    })?;
    give_back(&connection, &records).await
}

async fn read_error(target: &Target) -> Result<(), Unproven> {
    failed_read(target, FAILING_READ).await.map(drop)
}

async fn read_panic_status(target: &Target) -> Result<(), Unproven> {
    execution_error(&failed_read(target, PANICKING_READ).await?, ASKED_FOR)
}

/// Makes a read that fails, and returns the status that its stream ends with.
async fn failed_read(target: &Target, count: usize) -> Result<Status, Unproven> {
    const EXPECTED: &str = "the end of the stream with a status other than 0";
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    reader.call.send(&read_request(count, PLENTY)).await;
    match reader.call.next(EXPECTED).await? {
        Next::End(status) if status.code != 0 => Ok(status),
        Next::End(status) => Err(Unproven::broken(EXPECTED, status.to_string())),
        Next::Message(encoded) => {
            let response: Result<ReadResponse, _> = prost::Message::decode(encoded);
            Err(Unproven::broken(EXPECTED, format!("{response:?}")))
        }
    }
}
