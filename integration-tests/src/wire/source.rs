//! `source.v1.Source`: its messages, and what is said over it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::common::{Handshake, NackOptions, Timestamp};
use super::{Call, Connection, Next, UNIMPLEMENTED};
use crate::outcome::{Unproven, check};

pub(crate) const READ_FN: &str = "/source.v1.Source/ReadFn";
pub(crate) const ACK_FN: &str = "/source.v1.Source/AckFn";
pub(crate) const NACK_FN: &str = "/source.v1.Source/NackFn";
pub(crate) const PENDING_FN: &str = "/source.v1.Source/PendingFn";
pub(crate) const PARTITIONS_FN: &str = "/source.v1.Source/PartitionsFn";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) request: Option<Wanted>,
    #[prost(message, optional, tag = "2")]
    pub(crate) handshake: Option<Handshake>,
}

/// `ReadRequest.Request`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Wanted {
    #[prost(uint64, tag = "1")]
    pub(crate) num_records: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) timeout_in_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) result: Option<Record>,
    #[prost(message, optional, tag = "2")]
    pub(crate) status: Option<BatchStatus>,
    #[prost(message, optional, tag = "3")]
    pub(crate) handshake: Option<Handshake>,
}

/// `ReadResponse.Result`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) payload: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(crate) offset: Option<Offset>,
    #[prost(message, optional, tag = "3")]
    pub(crate) event_time: Option<Timestamp>,
}

/// `ReadResponse.Status`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct BatchStatus {
    #[prost(bool, tag = "1")]
    pub(crate) eot: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct Offset {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) offset: Bytes,
    #[prost(int32, tag = "2")]
    pub(crate) partition_id: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AckRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) request: Option<Acked>,
    #[prost(message, optional, tag = "2")]
    pub(crate) handshake: Option<Handshake>,
}

/// `AckRequest.Request`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Acked {
    #[prost(message, repeated, tag = "1")]
    pub(crate) offsets: Vec<Offset>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AckResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) result: Option<Success>,
    #[prost(message, optional, tag = "2")]
    pub(crate) handshake: Option<Handshake>,
}

/// `AckResponse.Result` and `NackResponse.Result`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Success {
    #[prost(message, optional, tag = "1")]
    pub(crate) success: Option<()>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NackRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) request: Vec<Nacked>,
}

/// `NackRequest.Request`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nacked {
    #[prost(message, repeated, tag = "1")]
    pub(crate) offsets: Vec<Offset>,
    #[prost(message, optional, tag = "2")]
    pub(crate) nack_options: Option<NackOptions>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NackResponse {
    #[prost(message, optional, tag = "1")]
    result: Option<Success>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PendingResponse {
    #[prost(message, optional, tag = "1")]
    result: Option<Count>,
}

/// `PendingResponse.Result`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Count {
    #[prost(int64, tag = "1")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartitionsResponse {
    #[prost(message, optional, tag = "1")]
    result: Option<Partitions>,
}

/// `PartitionsResponse.Result`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Partitions {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) partitions: Vec<i32>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) total_partitions: Option<i32>,
}

/// The first message of a `ReadFn` stream.
pub(crate) fn read_handshake() -> ReadRequest {
    ReadRequest { handshake: Some(Handshake { sot: true }), request: None }
}

/// A request for a batch.
pub(crate) fn read_request(count: usize, timeout: Duration) -> ReadRequest {
    let wanted =
        Wanted { num_records: count as u64, timeout_in_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX) };
    ReadRequest { request: Some(wanted), handshake: None }
}

/// A `ReadFn` stream after its handshake.
pub(crate) struct Reader {
    pub(crate) call: Call,
}

impl Reader {
    pub(crate) async fn open(connection: &Connection) -> Result<Self, Unproven> {
        let mut call = connection.open(READ_FN)?;
        call.shake_hands(&read_handshake(), |answer: &ReadResponse| answer.handshake).await?;
        Ok(Self { call })
    }

    /// Reads a batch, which must be framed as the platform needs it.
    pub(crate) async fn read(&mut self, count: usize, timeout: Duration) -> Result<Vec<Record>, Unproven> {
        self.call.send(&read_request(count, timeout)).await;
        self.batch(count).await
    }

    /// Receives a batch that was asked for.
    pub(crate) async fn batch(&mut self, count: usize) -> Result<Vec<Record>, Unproven> {
        let mut records = Vec::new();
        loop {
            let response: ReadResponse = self.call.message("a record or the end of the batch").await?;
            let eot = response.status.is_some_and(|status| status.eot);
            match response.result {
                None if eot => return Ok(records),
                Some(record) if !eot => {
                    records.push(record);
                    check(records.len() <= count, &format!("at most {count} records"), || "one more".to_owned())?;
                }
                _ => {
                    let expected = "messages with either a record or the end of the batch";
                    return Err(Unproven::broken(expected, format!("{response:?}")));
                }
            }
        }
    }
}

/// Checks that a record has what the platform needs of each.
pub(crate) fn check_record(record: &Record) -> Result<(), Unproven> {
    let offset = record.offset.as_ref();
    let came = || format!("{record:?}");
    check(offset.is_some_and(|offset| !offset.offset.is_empty()), "an offset that is not empty", came)?;
    let in_range = offset.is_some_and(|offset| (0..=65_535).contains(&offset.partition_id));
    check(in_range, "a partition from 0 to 65,535", came)?;
    check(record.event_time.is_some(), "an event time", came)
}

/// The offsets of records.
pub(crate) fn offsets(records: &[Record]) -> Vec<Offset> {
    records.iter().filter_map(|record| record.offset.clone()).collect()
}

/// An `AckFn` stream after its handshake.
pub(crate) struct Acker {
    pub(crate) call: Call,
}

impl Acker {
    pub(crate) async fn open(connection: &Connection) -> Result<Self, Unproven> {
        let mut call = connection.open(ACK_FN)?;
        let handshake = AckRequest { handshake: Some(Handshake { sot: true }), request: None };
        call.shake_hands(&handshake, |answer: &AckResponse| answer.handshake).await?;
        Ok(Self { call })
    }

    pub(crate) async fn send(&mut self, offsets: Vec<Offset>) {
        self.call.send(&AckRequest { request: Some(Acked { offsets }), handshake: None }).await;
    }

    pub(crate) async fn answer(&mut self) -> Result<(), Unproven> {
        let response: AckResponse = self.call.message("the answer to an ack").await?;
        let success = response.result.is_some_and(|result| result.success.is_some());
        check(success, "an AckResponse with result.success set", || format!("{response:?}"))
    }

    pub(crate) async fn ack(&mut self, offsets: Vec<Offset>) -> Result<(), Unproven> {
        self.send(offsets).await;
        self.answer().await
    }
}

/// Nacks elements of offsets, each with its own options. Not every SDK has a nack for sources.
pub(crate) async fn nack(connection: &Connection, elements: Vec<Nacked>) -> Result<(), Unproven> {
    const EXPECTED: &str = "a NackResponse with result set";
    let mut call = connection.open(NACK_FN)?;
    call.send(&NackRequest { request: elements }).await;
    call.close();
    let response = match call.next(EXPECTED).await? {
        Next::Message(encoded) => NackResponse::decode(encoded)
            .map_err(|error| Unproven::broken(EXPECTED, format!("a message that cannot be decoded: {error}")))?,
        Next::End(status) if status.code == UNIMPLEMENTED => return Err(Unproven::NotOffered("NackFn".to_owned())),
        Next::End(status) => return Err(Unproven::broken(EXPECTED, status.to_string())),
    };
    check(response.result.is_some(), EXPECTED, || "none".to_owned())?;
    call.ends_ok().await
}

/// Hands records back, so that the next case finds them. Where that can't be done, a process has records for many cases.
pub(crate) async fn give_back(connection: &Connection, records: &[Record]) -> Result<(), Unproven> {
    match nack(connection, vec![Nacked { offsets: offsets(records), nack_options: None }]).await {
        Err(Unproven::NotOffered(_)) => Ok(()),
        outcome => outcome,
    }
}

pub(crate) async fn pending(connection: &Connection) -> Result<i64, Unproven> {
    let response: PendingResponse = connection.unary(PENDING_FN, &()).await?;
    let result = response.result.ok_or_else(|| Unproven::broken("a PendingResponse with result set", "none"))?;
    Ok(result.count)
}

pub(crate) async fn partitions(connection: &Connection) -> Result<Partitions, Unproven> {
    let response: PartitionsResponse = connection.unary(PARTITIONS_FN, &()).await?;
    response.result.ok_or_else(|| Unproven::broken("a PartitionsResponse with result set", "none"))
}
