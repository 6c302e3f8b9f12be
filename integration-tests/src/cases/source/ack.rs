//! Acks: which succeed, and how they are answered.

use bytes::Bytes;

use super::{BINARY, SOURCES, read_all, read_exactly};
use crate::case::{Case, Level, Recipe};
use crate::cases::contract::ASKED_FOR;
use crate::cases::execution_error::execution_error;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::source::{Acker, Nacked, Offset, Reader, give_back, nack, offsets};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "source.ack.once-each",
        level: Level::Must,
        section: "5.5 AckFn",
        sentence: "Each AckRequest is answered with exactly one AckResponse whose success is set.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(once_each(target))),
    },
    Case {
        id: "source.ack.unknown",
        level: Level::Must,
        section: "5.5 AckFn",
        sentence: "Acks of offsets that were never delivered succeed.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(unknown(target))),
    },
    Case {
        id: "source.ack.repeated",
        level: Level::Must,
        section: "5.5 AckFn",
        sentence: "Acks of offsets that were acked before succeed.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(repeated(target))),
    },
    Case {
        id: "source.offset.bytes",
        level: Level::Must,
        section: "5.3 ReadFn",
        sentence: "Offsets of any bytes reach the source's ack and nack as they were delivered.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(offset_bytes(target))),
    },
    Case {
        id: "source.ack.panic-status",
        level: Level::Must,
        section: "16.2 Status that a panic or exception must produce",
        sentence: "An ack that panics ends its stream with INTERNAL, the marker, the text and decodable details.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(panic_status(target))),
    },
];

async fn once_each(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let records = read_exactly(&mut reader, 12).await?;
    let mut acker = Acker::open(&connection).await?;
    let batches: Vec<_> = offsets(&records).chunks(3).map(<[Offset]>::to_vec).collect();
    for batch in &batches {
        acker.send(batch.clone()).await;
    }
    for _ in &batches {
        acker.answer().await?;
    }
    acker.call.finish().await
}

async fn unknown(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let unknown = Offset { offset: "never delivered".into(), partition_id: 0 };
    Acker::open(&connection).await?.ack(vec![unknown]).await
}

async fn repeated(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let record = offsets(&read_exactly(&mut reader, 1).await?);
    let mut acker = Acker::open(&connection).await?;
    acker.ack(record.clone()).await?;
    acker.ack(record.clone()).await?;
    // As after a lost answer: the platform opens a stream anew and sends the same.
    Acker::open(&connection).await?.ack(record).await
}

async fn offset_bytes(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let records = offsets(&read_exactly(&mut reader, 2).await?);
    let binary = records.iter().all(|offset| offset.offset.starts_with(BINARY));
    check(binary, "the contract's offsets, which begin with 00 ff 80", || format!("{records:?}"))?;

    // What is acked stays acked, so of two nacked records only the other one comes again.
    let [acked, nacked] = &records[..] else { return Ok(()) };
    let mut acker = Acker::open(&connection).await?;
    acker.ack(vec![acked.clone()]).await?;
    nack(&connection, vec![Nacked { offsets: records.clone(), nack_options: None }]).await?;
    let again = read_all(&mut reader).await?;
    let delivered = offsets(&again);
    check(delivered.contains(nacked), "the record that was nacked again", || format!("no {nacked:?}"))?;
    check(!delivered.contains(acked), "nothing again that was acked", || format!("{acked:?}"))?;
    give_back(&connection, &again).await
}

async fn panic_status(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut acker = Acker::open(&connection).await?;
    let poison = Offset { offset: Bytes::from([BINARY, b"panic"].concat()), partition_id: 0 };
    acker.send(vec![poison]).await;
    execution_error(&acker.call.fails().await?, ASKED_FOR)
}
