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
/// How long a read and its ack may take, and how long reads may find nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// The least that a value has to have for a number in it.
pub(crate) const NUMBER: usize = 8;

/// What the records of a source have to be.
pub(crate) trait Expected {
    /// Takes the next record, or says what is wrong with it: `offset` is what the source calls its offset.
    fn arrive(&mut self, offset: &[u8], value_size: usize) -> Outcome<()>;

    /// Takes the end of a read that had `count` records of the `wanted` ones.
    fn end(&mut self, count: u64, wanted: u64) -> Outcome<()>;
}

/// Generated records: numbered, and never too few.
#[derive(Debug)]
pub(crate) struct Numbered {
    next: u64,
    value_size: usize,
}

impl Numbered {
    pub(crate) fn new(value_size: usize) -> Self {
        Self { next: 0, value_size }
    }
}

impl Expected for Numbered {
    fn arrive(&mut self, offset: &[u8], value_size: usize) -> Outcome<()> {
        if offset != self.next.to_be_bytes() || value_size != self.value_size {
            let Self { next, value_size: expected } = self;
            return Err(format!(
                "the source sent record {offset:?} with {value_size} bytes instead of record {next} with {expected}"
            )
            .into());
        }
        self.next += 1;
        Ok(())
    }

    fn end(&mut self, count: u64, wanted: u64) -> Outcome<()> {
        if count == wanted {
            return Ok(());
        }
        Err(format!("the source ended a read after {count} records of {wanted}").into())
    }
}

/// A source that is read from.
#[derive(Debug)]
pub(crate) struct Reading<E> {
    reads: Stream,
    acks: Stream,
    request: Vec<u8>,
    batch: u64,
    expected: E,
    /// The offsets of the last read's records, each as it is in an ack.
    offsets: Vec<u8>,
    /// The numbers in their values.
    numbers: Vec<u64>,
}

impl<E: Expected> Reading<E> {
    pub(crate) async fn new(connection: &mut Connection, batch: u64, expected: E) -> Outcome<Self> {
        let sot = Some(pb::Handshake { sot: true });
        let handshake = framed(&pb::ReadRequest { handshake: sot, request: None });
        let reads = connection.open("/source.v1.Source/ReadFn", handshake).await?;
        let handshake = framed(&pb::AckRequest { handshake: sot, request: None });
        let acks = connection.open("/source.v1.Source/AckFn", handshake).await?;
        let request = pb::read_request::Request { num_records: batch, timeout_in_ms: READ_TIMEOUT_MS };
        let request = framed(&pb::ReadRequest { request: Some(request), handshake: None });
        Ok(Self { reads, acks, request, batch, expected, offsets: Vec::new(), numbers: Vec::new() })
    }

    /// Reads and acks for `time`. The latency of a record is that of its read and its ack.
    pub(crate) async fn run(&mut self, time: Duration) -> Outcome<Window> {
        let started = Instant::now();
        self.run_until(started, |_| started.elapsed() >= time).await
    }

    /// Reads and acks until there were `count` records or, with the last read, somewhat more.
    pub(crate) async fn run_records(&mut self, count: u64) -> Outcome<Window> {
        self.run_until(Instant::now(), |records| records >= count).await
    }

    async fn run_until(&mut self, started: Instant, done: impl Fn(u64) -> bool) -> Outcome<Window> {
        let mut window = Window::new()?;
        let mut found = started;
        while !done(window.messages) {
            let read = Instant::now();
            let count = self.read().await?;
            self.ack().await?;
            let now = Instant::now();
            if count > 0 {
                window.record(count, now - read);
                found = now;
            } else if now - found > PATIENCE {
                let sum = window.messages;
                return Err(format!("reads find nothing for {PATIENCE:?}, after {sum} records").into());
            }
        }
        window.time = started.elapsed();
        Ok(window)
    }

    /// Reads once, to the end of the read, and says how many records that were.
    pub(crate) async fn read(&mut self) -> Outcome<u64> {
        timeout(PATIENCE, self.read_to_end()).await.map_err(|_| format!("a read takes longer than {PATIENCE:?}"))?
    }

    /// Acks what was read last, if that was anything.
    pub(crate) async fn ack(&mut self) -> Outcome<()> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        let acked = async {
            self.acks.send(ack(&self.offsets)?).await?;
            loop {
                if let Some(length) = self.acks.received.begin()? {
                    self.acks.received.advance(length);
                    return Ok(());
                }
                self.acks.receive().await?;
            }
        };
        timeout(PATIENCE, acked).await.map_err(|_| format!("an ack takes longer than {PATIENCE:?}"))?
    }

    /// The numbers that begin the values of what was read last.
    pub(crate) fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    async fn read_to_end(&mut self) -> Outcome<u64> {
        self.offsets.clear();
        self.numbers.clear();
        self.reads.send(self.request.clone()).await?;
        loop {
            let Some(length) = self.reads.received.begin()? else {
                self.reads.receive().await?;
                continue;
            };
            let start = self.offsets.len();
            match Response::read(&mut self.reads.received, length, &mut self.offsets)? {
                Response::Record { value_size, number } => {
                    self.expected.arrive(offset_of(&self.offsets[start..])?, value_size)?;
                    self.numbers.push(number);
                }
                Response::End => break,
            }
        }
        let count = self.numbers.len() as u64;
        self.expected.end(count, self.batch)?;
        Ok(count)
    }
}

/// What the client wants to know of a response to a read.
#[derive(Debug, PartialEq, Eq)]
enum Response {
    Record {
        value_size: usize,
        /// What the value begins with, where it is large enough.
        number: u64,
    },
    End,
}

impl Response {
    /// Reads a response, and appends the offset of its record to `offsets`.
    fn read(buffer: &mut Received, length: usize, offsets: &mut Vec<u8>) -> Outcome<Self> {
        let end = buffer.remaining() - length;
        let mut record = None;
        let mut eot = false;
        while buffer.remaining() > end {
            let (number, size) = field(buffer, end)?;
            let behind = buffer.remaining() - size;
            match number {
                1 => record = Some(read_record(buffer, behind, offsets)?),
                // Of a status, `eot` is field 1, a varint.
                2 => eot = size >= 2 && buffer.get_u16() == 0x0801,
                _ => {}
            }
            buffer.advance(buffer.remaining() - behind);
        }
        match record {
            Some((value_size, number)) if !eot => Ok(Self::Record { value_size, number }),
            None if eot => Ok(Self::End),
            _ => Err(format!("the source sent a response with record {record:?} and eot {eot}").into()),
        }
    }
}

/// The size of the value, and the number in it, of a record that ends where `end` bytes remain; its offset is appended to
/// `offsets`.
fn read_record(buffer: &mut Received, end: usize, offsets: &mut Vec<u8>) -> Outcome<(usize, u64)> {
    let mut value = (0, 0);
    while buffer.remaining() > end {
        let (number, size) = field(buffer, end)?;
        let behind = buffer.remaining() - size;
        match number {
            1 => value = (size, if size >= NUMBER { buffer.get_u64_le() } else { 0 }),
            2 => {
                offsets.put_u8(OFFSET);
                encode_varint(size as u64, offsets);
                offsets.put(buffer.take(size));
            }
            _ => {}
        }
        buffer.advance(buffer.remaining() - behind);
    }
    Ok(value)
}

/// The key of an offset among the others of an ack: field 1, with a length.
const OFFSET: u8 = 0x0a;

/// The bytes that a source made of an offset, which is as it is in an ack.
fn offset_of(mut offset: &[u8]) -> Outcome<&[u8]> {
    if !offset.is_empty() {
        field(&mut offset, 0)?;
        if !offset.is_empty() {
            let (number, size) = field(&mut offset, 0)?;
            if number == 1 {
                return Ok(&offset[..size]);
            }
        }
    }
    Err("the source sent a record without an offset".into())
}

/// The ack of records with these offsets.
fn ack(offsets: &[u8]) -> Outcome<Vec<u8>> {
    let length = offsets.len() as u64;
    let mut bytes = Vec::with_capacity(PREFIX + 1 + encoded_len_varint(length) + offsets.len());
    bytes.resize(PREFIX, 0);
    // The request is field 1 too.
    bytes.put_u8(OFFSET);
    encode_varint(length, &mut bytes);
    bytes.put_slice(offsets);
    set_length(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn record(offset: pb::Offset) -> pb::ReadResponse {
        let result = pb::read_response::Result {
            payload: [&7_u64.to_le_bytes()[..], &[b'x'; 92]].concat().into(),
            offset: Some(offset),
            event_time: Some(prost_types::Timestamp { seconds: 1, nanos: 2 }),
            keys: vec!["key".to_owned()],
            ..pb::read_response::Result::default()
        };
        pb::ReadResponse { result: Some(result), ..pb::ReadResponse::default() }
    }

    fn read(response: &pb::ReadResponse, offsets: &mut Vec<u8>) -> Outcome<Response> {
        let mut received = Received::default();
        framed(response).chunks(3).for_each(|chunk| received.push(bytes::Bytes::copy_from_slice(chunk)));
        let length = received.begin()?.unwrap();
        let response = Response::read(&mut received, length, offsets)?;
        assert_eq!(received.remaining(), 0);
        Ok(response)
    }

    #[test]
    fn an_ack_has_the_offsets_as_they_came() {
        let offset = |number: u64, partition_id| pb::Offset {
            offset: format!("topic:{partition_id}:{number}").into(),
            partition_id,
        };
        let sent: Vec<pb::Offset> = (300..800).map(|number| offset(number, (number % 3) as i32)).collect();
        let mut offsets = Vec::new();
        for offset in &sent {
            let start = offsets.len();
            let response = read(&record(offset.clone()), &mut offsets).unwrap();
            assert_eq!(response, Response::Record { value_size: 100, number: 7 });
            assert_eq!(offset_of(&offsets[start..]).unwrap(), offset.offset);
        }
        let expected = pb::AckRequest { request: Some(pb::ack_request::Request { offsets: sent }), handshake: None };
        assert_eq!(ack(&offsets).unwrap(), framed(&expected));
        assert_eq!(pb::AckRequest::decode(&ack(&offsets).unwrap()[PREFIX..]).unwrap(), expected);
    }

    #[test]
    fn records_and_the_end_of_a_read_are_told_apart() {
        let record = record(pb::Offset { offset: 77_u64.to_be_bytes().to_vec().into(), partition_id: 3 });
        let mut offsets = Vec::new();
        assert_eq!(read(&record, &mut offsets).unwrap(), Response::Record { value_size: 100, number: 7 });
        assert_eq!(offset_of(&offsets).unwrap(), 77_u64.to_be_bytes());
        offset_of(&[]).unwrap_err();
        let status = pb::read_response::Status { eot: true, ..pb::read_response::Status::default() };
        let end = pb::ReadResponse { status: Some(status.clone()), ..pb::ReadResponse::default() };
        assert_eq!(read(&end, &mut offsets).unwrap(), Response::End);
        // A record beside the end would be lost to the platform.
        read(&pb::ReadResponse { status: Some(status), ..record }, &mut offsets).unwrap_err();
        read(&pb::ReadResponse::default(), &mut offsets).unwrap_err();
    }

    #[test]
    fn generated_records_come_in_order_and_as_many_as_were_wanted() {
        let mut expected = Numbered::new(100);
        expected.arrive(&0_u64.to_be_bytes(), 100).unwrap();
        expected.arrive(&0_u64.to_be_bytes(), 100).unwrap_err();
        expected.arrive(&2_u64.to_be_bytes(), 100).unwrap_err();
        expected.arrive(&1_u64.to_be_bytes(), 99).unwrap_err();
        expected.arrive(&1_u64.to_be_bytes(), 100).unwrap();
        expected.end(2, 2).unwrap();
        expected.end(2, 3).unwrap_err();
    }
}
