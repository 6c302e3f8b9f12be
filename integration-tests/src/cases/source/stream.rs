//! A source's streams: each by itself, and opened again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{SOURCES, read_all, read_exactly};
use crate::case::{Case, Level, Recipe};
use crate::cases::general::works_on;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::source::{
    ACK_FN, AckRequest, Acked, Acker, Offset, ReadResponse, Reader, Record, give_back, offsets, partitions, pending,
    read_request,
};

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
        id: "source.handshake.ack-missing",
        level: Level::Must,
        section: "16.5 Handshake errors",
        sentence: "An ack stream that begins without a handshake ends with a status, and the server goes on.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(handshake_ack_missing(target))),
    },
    Case {
        id: "source.half-close.ack",
        level: Level::Must,
        section: "1.3 Half-close, cancellation, stream end",
        sentence: "After the half-close of an ack stream what was acked is answered, and the stream ends with OK.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(half_close_ack(target))),
    },
    Case {
        id: "source.read-stream.reopened",
        level: Level::Must,
        section: "5.4 Stream failure, reconnect",
        sentence: "A read stream that is reset in mid-batch and opened anew reads on, and acks and nacks of what the \
                   old one delivered are taken.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(read_stream_reopened(target))),
    },
    Case {
        id: "source.calls.while-read-waits",
        level: Level::Should,
        section: "5.2 Connections and ordering",
        sentence: "Acks, nacks, PendingFn and PartitionsFn are answered while a read waits for records.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(calls_while_read_waits(target))),
    },
];

async fn handshake_independent(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let ack_first = Acker::open(&connection).await?;
    let read_second = Reader::open(&connection).await?;
    let other = Connection::to(target).await?;
    let read_first = Reader::open(&other).await?;
    let ack_second = Acker::open(&other).await?;
    drop((ack_first, read_second, read_first, ack_second));
    Ok(())
}

async fn handshake_ack_missing(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let unknown = Offset { offset: "never delivered".into(), partition_id: 0 };
    let mut call = connection.open(ACK_FN)?;
    call.send(&AckRequest { request: Some(Acked { offsets: vec![unknown] }), handshake: None }).await;
    call.fails().await?;
    works_on(target).await
}

async fn half_close_ack(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let records = read_exactly(&mut reader, 3).await?;
    let mut acker = Acker::open(&connection).await?;
    acker.send(offsets(&records)).await;
    acker.call.close();
    acker.answer().await?;
    acker.call.ends_ok().await
}

async fn read_stream_reopened(target: &Target) -> Result<(), Unproven> {
    /// How many records the batch that is cut short was to have.
    const CUT: usize = 20;
    let connection = Connection::to(target).await?;
    let there = usize::try_from(pending(&connection).await?).unwrap_or_default();
    let mut acker = Acker::open(&connection).await?;
    let mut reader = Reader::open(&connection).await?;
    let mut delivered = read_exactly(&mut reader, 10).await?;
    reader.call.send(&read_request(CUT, Duration::from_secs(1))).await;
    for _ in 0..CUT / 4 {
        let response: ReadResponse = reader.call.message("a record of the batch").await?;
        delivered.extend(response.result);
    }
    drop(reader);

    let mut reader = Reader::open(&connection).await?;
    let (acked, nacked) = delivered.split_at(delivered.len() / 2);
    acker.ack(offsets(acked)).await?;
    give_back(&connection, nacked).await?;
    let rest = read_all(&mut reader).await?;
    give_back(&connection, &rest).await?;
    // Of the batch that was cut short the source may hold back what nobody has acked or nacked.
    let seen: HashSet<Offset> = offsets(&delivered).into_iter().chain(offsets(&rest)).collect();
    let lost = there.saturating_sub(seen.len());
    check(lost <= CUT, &format!("the {there} records that were pending"), || {
        format!("{}; more are missing than the batch had that was cut short", seen.len())
    })?;
    let again: Vec<&Record> = rest.iter().filter(|record| acked.contains(record)).collect();
    check(again.is_empty(), "nothing again that was acked", || format!("{again:?}"))
}

async fn calls_while_read_waits(target: &Target) -> Result<(), Unproven> {
    const WAIT: Duration = Duration::from_secs(3);
    let expected = format!("answers before the read's {WAIT:?} were over");
    let connection = Connection::to(target).await?;
    let mut acker = Acker::open(&connection).await?;
    let mut reader = Reader::open(&connection).await?;
    let there = usize::try_from(pending(&connection).await?).unwrap_or_default();
    let mut all = read_exactly(&mut reader, there.saturating_sub(1)).await?;
    let nacked = all.split_off(all.len().saturating_sub(1));
    let acked = all.split_off(all.len().saturating_sub(1));

    let asked = Instant::now();
    reader.call.send(&read_request(10, WAIT)).await;
    // With the last record there is the read has begun, and waits for more.
    let begun: ReadResponse = reader.call.message("the last record").await?;
    all.extend(begun.result);
    acker.ack(offsets(&acked)).await?;
    pending(&connection).await?;
    partitions(&connection).await?;
    give_back(&connection, &nacked).await?;
    let took = asked.elapsed();
    let mut again = reader.batch(10).await?;
    all.append(&mut again);
    give_back(&connection, &all).await?;
    check(took < WAIT, &expected, || format!("the last of them after {took:?}"))
}
