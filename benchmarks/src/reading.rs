//! A source's load: reads of so many records one after the other, each acked before the next, every record checked.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use tokio::time::timeout;

use crate::Outcome;
use crate::client::{Connection, Stream};
use crate::flight::Window;
use crate::pb::source::v1 as pb;
use crate::wire::{PREFIX, Received, field, framed, set_length};

/// The platform's read timeout.
const READ_TIMEOUT_MS: u32 = 1000;
/// How long a read and its ack may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The size of an offset: the records of all sources are numbered.
const OFFSET: usize = 8;
/// An offset in an ack, with the two keys and lengths around it.
const ACKED_OFFSET: usize = OFFSET + 4;

/// A source that is read from.
#[derive(Debug)]
pub(crate) struct Reading {
    reads: Stream,
    acks: Stream,
    request: Vec<u8>,
    batch: u64,
    value_size: usize,
    /// The number of the next record.
    next: u64,
}

impl Reading {
    pub(crate) async fn new(connection: &mut Connection, batch: u64, value_size: usize) -> Outcome<Self> {
        let sot = Some(pb::Handshake { sot: true });
        let handshake = framed(&pb::ReadRequest { handshake: sot, request: None });
        let reads = connection.open("/source.v1.Source/ReadFn", handshake).await?;
        let handshake = framed(&pb::AckRequest { handshake: sot, request: None });
        let acks = connection.open("/source.v1.Source/AckFn", handshake).await?;
        let request = pb::read_request::Request { num_records: batch, timeout_in_ms: READ_TIMEOUT_MS };
        let request = framed(&pb::ReadRequest { request: Some(request), handshake: None });
        Ok(Self { reads, acks, request, batch, value_size, next: 0 })
    }

    /// Reads and acks for `time`. The latency of a record is that of its read and its ack.
    pub(crate) async fn run(&mut self, time: Duration) -> Outcome<Window> {
        let started = Instant::now();
        let mut window = Window::new()?;
        while started.elapsed() < time {
            let read = Instant::now();
            timeout(PATIENCE, self.read_and_ack())
                .await
                .map_err(|_| format!("a read with its ack takes longer than {PATIENCE:?}"))??;
            window.record(self.batch, read.elapsed());
        }
        window.time = started.elapsed();
        Ok(window)
    }

    async fn read_and_ack(&mut self) -> Outcome<()> {
        let first = self.next;
        self.reads.send(self.request.clone()).await?;
        loop {
            let Some(length) = self.reads.received.begin()? else {
                self.reads.receive().await?;
                continue;
            };
            match Response::read(&mut self.reads.received, length)? {
                Response::Record { offset, value_size } => {
                    if offset != self.next || value_size != self.value_size {
                        let expected = self.next;
                        return Err(format!(
                            "the source sent record {offset} with {value_size} bytes instead of record {expected} with {}",
                            self.value_size
                        )
                        .into());
                    }
                    self.next += 1;
                }
                Response::End => break,
            }
        }
        let count = self.next - first;
        if count != self.batch {
            return Err(format!("the source ended a read after {count} records of {}", self.batch).into());
        }
        self.acks.send(ack(first..self.next)?).await?;
        loop {
            if let Some(length) = self.acks.received.begin()? {
                self.acks.received.advance(length);
                return Ok(());
            }
            self.acks.receive().await?;
        }
    }
}

/// What the client wants to know of a response to a read.
#[derive(Debug, PartialEq, Eq)]
enum Response {
    Record { offset: u64, value_size: usize },
    End,
}

impl Response {
    fn read(buffer: &mut Received, length: usize) -> Outcome<Self> {
        let end = buffer.remaining() - length;
        let mut record = None;
        let mut eot = false;
        while buffer.remaining() > end {
            let (number, size) = field(buffer, end)?;
            let behind = buffer.remaining() - size;
            match number {
                1 => record = Some(read_record(buffer, behind)?),
                // Of a status, `eot` is field 1, a varint.
                2 => eot = size >= 2 && buffer.get_u16() == 0x0801,
                _ => {}
            }
            buffer.advance(buffer.remaining() - behind);
        }
        match record {
            Some((Some(offset), value_size)) if !eot => Ok(Self::Record { offset, value_size }),
            None if eot => Ok(Self::End),
            _ => Err(format!("the source sent a response with record {record:?} and eot {eot}").into()),
        }
    }
}

/// The offset and the size of the value of a record that ends where `end` bytes remain.
fn read_record(buffer: &mut Received, end: usize) -> Outcome<(Option<u64>, usize)> {
    let mut offset = None;
    let mut value_size = 0;
    while buffer.remaining() > end {
        let (number, size) = field(buffer, end)?;
        let behind = buffer.remaining() - size;
        match number {
            1 => value_size = size,
            2 => {
                if let (1, OFFSET) = field(buffer, behind)? {
                    offset = Some(buffer.get_u64());
                }
            }
            _ => {}
        }
        buffer.advance(buffer.remaining() - behind);
    }
    Ok((offset, value_size))
}

/// The ack of these records.
fn ack(records: std::ops::Range<u64>) -> Outcome<Vec<u8>> {
    let offsets = (records.end - records.start) * ACKED_OFFSET as u64;
    let mut bytes = vec![0; PREFIX];
    bytes.reserve(usize::try_from(offsets)? + 1 + encoded_len_varint(offsets));
    bytes.put_u8(0x0a);
    encode_varint(offsets, &mut bytes);
    for record in records {
        bytes.put_slice(&[0x0a, 10, 0x0a, 8]);
        bytes.put_u64(record);
    }
    set_length(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn an_ack_is_what_prost_makes_of_it() {
        let offsets: Vec<pb::Offset> = (300..800_u64)
            .map(|record| pb::Offset { offset: record.to_be_bytes().to_vec().into(), partition_id: 0 })
            .collect();
        let expected = pb::AckRequest { request: Some(pb::ack_request::Request { offsets }), handshake: None };
        assert_eq!(ack(300..800).unwrap(), framed(&expected));
        assert_eq!(pb::AckRequest::decode(&ack(300..800).unwrap()[PREFIX..]).unwrap(), expected);
    }

    fn read(response: &pb::ReadResponse) -> Outcome<Response> {
        let mut received = Received::default();
        framed(response).chunks(3).for_each(|chunk| received.push(bytes::Bytes::copy_from_slice(chunk)));
        let length = received.begin()?.unwrap();
        let response = Response::read(&mut received, length)?;
        assert_eq!(received.remaining(), 0);
        Ok(response)
    }

    #[test]
    fn records_and_the_end_of_a_read_are_told_apart() {
        let result = pb::read_response::Result {
            payload: vec![b'x'; 100].into(),
            offset: Some(pb::Offset { offset: 77_u64.to_be_bytes().to_vec().into(), partition_id: 3 }),
            event_time: Some(prost_types::Timestamp { seconds: 1, nanos: 2 }),
            keys: vec!["key".to_owned()],
            ..pb::read_response::Result::default()
        };
        let record = pb::ReadResponse { result: Some(result), ..pb::ReadResponse::default() };
        assert_eq!(read(&record).unwrap(), Response::Record { offset: 77, value_size: 100 });
        let status = pb::read_response::Status { eot: true, ..pb::read_response::Status::default() };
        let end = pb::ReadResponse { status: Some(status.clone()), ..pb::ReadResponse::default() };
        assert_eq!(read(&end).unwrap(), Response::End);
        // A record beside the end would be lost to the platform.
        read(&pb::ReadResponse { status: Some(status), ..record }).unwrap_err();
        read(&pb::ReadResponse::default()).unwrap_err();
    }
}
