//! Sources: records read, acked and delivered again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::contract::RECORDS;
use crate::case::{Case, Kind, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::common::NackOptions;
use crate::wire::source::{Acker, Nacked, Offset, Reader, Record, give_back, nack, offsets, partitions, pending};

const SOURCES: &[Kind] = &[Kind::Source];

/// A read's timeout where there is more than enough to read.
const PLENTY: Duration = Duration::from_secs(2);
/// A read's timeout where what is there is wanted.
const WHAT_IS_THERE: Duration = Duration::from_millis(100);

pub(super) const CASES: &[Case] = &[
    Case {
        id: "source.handshake.independent",
        level: Level::Must,
        section: "5.2 Connections and ordering",
        sentence: "ReadFn and AckFn shake hands by themselves, in either order.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(handshake_independent(target))),
    },
    Case {
        id: "source.read.count",
        level: Level::Must,
        section: "5.3 ReadFn",
        sentence: "A read is answered with as many records as it asked for, each with offset, event time and \
                   partition, and then one end of the batch that carries no record.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_count(target))),
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
        id: "source.ack.unknown",
        level: Level::Must,
        section: "5.5 AckFn",
        sentence: "Acks of offsets that were never delivered, or acked before, succeed.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(ack_unknown(target))),
    },
    Case {
        id: "source.ack.once-each",
        level: Level::Must,
        section: "5.5 AckFn",
        sentence: "Each AckRequest is answered with exactly one AckResponse whose success is set.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(ack_once_each(target))),
    },
    Case {
        id: "source.nack.elements",
        level: Level::Must,
        section: "5.6 NackFn",
        sentence: "A nack of several elements with several offsets each has all of them delivered again.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(nack_elements(target))),
    },
    Case {
        id: "source.pending.result",
        level: Level::Must,
        section: "5.7 PendingFn",
        sentence: "PendingFn has its result set, and counts what was not read yet.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(pending_result(target))),
    },
    Case {
        id: "source.partitions.result",
        level: Level::Must,
        section: "5.8 PartitionsFn",
        sentence: "PartitionsFn has its result set, and names the partitions of what is read.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(partitions_result(target))),
    },
    Case {
        id: "source.offset.bytes",
        level: Level::Must,
        section: "5.3 ReadFn",
        sentence: "Offsets of any bytes reach the source's ack and nack as they were delivered.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(offset_bytes(target))),
    },
];

async fn handshake_independent(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let ack_first = Acker::open(&connection).await?;
    let read_second = Reader::open(&connection).await?;
    drop((ack_first, read_second));
    let read_first = Reader::open(&connection).await?;
    let ack_second = Acker::open(&connection).await?;
    drop((read_first, ack_second));
    Ok(())
}

/// Reads exactly this many.
async fn read_exactly(reader: &mut Reader, count: usize) -> Result<Vec<Record>, Unproven> {
    let records = reader.read(count, PLENTY).await?;
    check(records.len() == count, &format!("{count} records"), || format!("{}", records.len()))?;
    Ok(records)
}

/// Reads until nothing is left.
async fn read_all(reader: &mut Reader) -> Result<Vec<Record>, Unproven> {
    let records = reader.read(RECORDS + 1, WHAT_IS_THERE).await?;
    check(records.len() <= RECORDS, &format!("at most {RECORDS} records in all"), || "more".to_owned())?;
    Ok(records)
}

async fn read_count(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut records = Vec::new();
    for count in [1, 10, 500] {
        records.append(&mut read_exactly(&mut reader, count).await?);
    }
    let distinct: HashSet<Offset> = offsets(&records).into_iter().collect();
    check(distinct.len() == records.len(), "an offset of its own for each record", || "the same twice".to_owned())?;
    give_back(&connection, &records).await?;
    reader.call.close();
    reader.call.ends_ok().await
}

async fn read_eot_at_timeout(target: &Target) -> Result<(), Unproven> {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const TOLERANCE: Duration = Duration::from_millis(200);
    // A busy machine makes a server late, but not every time.
    const ATTEMPTS: usize = 3;
    let expected = format!("an empty batch after {TIMEOUT:?}, give or take {TOLERANCE:?}");

    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let all = read_all(&mut reader).await?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let asked = Instant::now();
        let records = reader.read(10, TIMEOUT).await?;
        let took = asked.elapsed();
        check(records.is_empty() && took >= TIMEOUT - TOLERANCE, &expected, || {
            format!("{} records after {took:?}", records.len())
        })?;
        outcome = check(took <= TIMEOUT + TOLERANCE, &expected, || format!("one after {took:?}"));
        if outcome.is_ok() {
            break;
        }
    }
    give_back(&connection, &all).await?;
    outcome
}

async fn ack_unknown(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut acker = Acker::open(&connection).await?;
    let unknown = Offset { offset: "never delivered".into(), partition_id: 0 };
    acker.ack(vec![unknown]).await?;
    let record = read_exactly(&mut Reader::open(&connection).await?, 1).await?;
    acker.ack(offsets(&record)).await?;
    acker.ack(offsets(&record)).await
}

async fn ack_once_each(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let records = read_exactly(&mut Reader::open(&connection).await?, 12).await?;
    let mut acker = Acker::open(&connection).await?;
    let batches: Vec<_> = offsets(&records).chunks(3).map(<[Offset]>::to_vec).collect();
    for batch in &batches {
        acker.send(batch.clone()).await;
    }
    for _ in &batches {
        acker.answer().await?;
    }
    acker.call.close();
    acker.call.ends_ok().await
}

async fn nack_elements(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let nacked = offsets(&read_exactly(&mut reader, 6).await?);
    let element = |offsets: &[Offset], reason: &str| Nacked {
        offsets: offsets.to_vec(),
        nack_options: Some(NackOptions { reason: Some(reason.to_owned()), ..NackOptions::default() }),
    };
    let elements = vec![element(&nacked[..2], "two"), element(&nacked[2..3], "one"), element(&nacked[3..], "three")];
    nack(&connection, elements).await?;

    let again = read_all(&mut reader).await?;
    let delivered: HashSet<Offset> = offsets(&again).into_iter().collect();
    let missing = nacked.iter().find(|offset| !delivered.contains(offset));
    check(missing.is_none(), "all that was nacked again", || format!("no {missing:?}"))?;
    give_back(&connection, &again).await
}

async fn pending_result(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let before = pending(&connection).await?;
    let records = read_exactly(&mut Reader::open(&connection).await?, 5).await?;
    let after = pending(&connection).await?;
    check(after == before - 5, &format!("{} after reading 5 of {before}", before - 5), || after.to_string())?;
    give_back(&connection, &records).await
}

async fn partitions_result(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let listed = partitions(&connection).await?;
    let came = || format!("{listed:?}");
    check(!listed.partitions.is_empty(), "at least one partition", came)?;
    check(listed.partitions.iter().all(|id| (0..=65_535).contains(id)), "partitions from 0 to 65,535", came)?;
    check(listed.total_partitions.is_none_or(|total| total >= 0), "a total that is not negative", came)?;
    let records = read_exactly(&mut Reader::open(&connection).await?, 10).await?;
    let unlisted = offsets(&records).into_iter().find(|offset| !listed.partitions.contains(&offset.partition_id));
    check(unlisted.is_none(), "records of listed partitions only", || format!("{unlisted:?} beside {listed:?}"))?;
    give_back(&connection, &records).await
}

async fn offset_bytes(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let records = offsets(&read_exactly(&mut reader, 2).await?);
    let binary = records.iter().all(|offset| offset.offset.starts_with(&[0x00, 0xff, 0x80]));
    check(binary, "the contract's offsets, which begin with 00 ff 80", || format!("{records:?}"))?;

    // What is acked stays acked, so of two nacked records only the other one comes again.
    let [acked, nacked] = &records[..] else { return Ok(()) };
    Acker::open(&connection).await?.ack(vec![acked.clone()]).await?;
    nack(&connection, vec![Nacked { offsets: records.clone(), nack_options: None }]).await?;
    let again = read_all(&mut reader).await?;
    let delivered = offsets(&again);
    check(delivered.contains(nacked), "the record that was nacked again", || format!("no {nacked:?}"))?;
    check(!delivered.contains(acked), "nothing again that was acked", || format!("{acked:?}"))?;
    give_back(&connection, &again).await
}
