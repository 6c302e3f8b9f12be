//! A source of numbered records.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use numaflow_sdk::HandlerError;
use numaflow_sdk::source::{Batch, Message, NackOffset, Offset, Partitions, ReadRequest, Sourcer};
use tokio::sync::Notify;
use tokio::time::timeout;

const RECORDS: u16 = 1000;
const PARTITIONS: u16 = 2;
/// What every offset begins with: bytes that are no text.
const BINARY: &[u8] = &[0x00, 0xff, 0x80];

pub(crate) struct Contract {
    records: Mutex<Records>,
    /// Told when there is something to read again.
    nacked: Notify,
}

struct Records {
    unread: VecDeque<u16>,
    /// Delivered, and neither acked nor nacked.
    delivered: HashSet<Offset>,
}

impl Default for Contract {
    fn default() -> Self {
        let records = Records { unread: (0..RECORDS).collect(), delivered: HashSet::new() };
        Self { records: Mutex::new(records), nacked: Notify::new() }
    }
}

impl Contract {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self) -> Option<Message> {
        let mut records = self.records();
        let number = records.unread.pop_front()?;
        let offset = Offset::new([BINARY, &number.to_be_bytes()].concat(), number % PARTITIONS);
        records.delivered.insert(offset.clone());
        Some(Message::new(number.to_string(), offset, UNIX_EPOCH + Duration::from_secs(number.into())))
    }
}

impl Sourcer for Contract {
    async fn read(&self, _request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        loop {
            while !batch.is_full()
                && let Some(message) = self.deliver()
            {
                batch.push(message).await?;
            }
            if batch.is_full() || timeout(batch.time_left(), self.nacked.notified()).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn ack(&self, offsets: Vec<Offset>) -> Result<(), HandlerError> {
        let mut records = self.records();
        for offset in offsets {
            records.delivered.remove(&offset);
        }
        Ok(())
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        let mut records = self.records();
        for NackOffset { offset, .. } in offsets {
            let number = offset.as_bytes().strip_prefix(BINARY).and_then(|number| number.try_into().ok());
            if let Some(number) = number
                && records.delivered.remove(&offset)
            {
                records.unread.push_back(u16::from_be_bytes(number));
            }
        }
        self.nacked.notify_one();
        Ok(())
    }

    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        Ok(Some(self.records().unread.len() as u64))
    }

    async fn partitions(&self) -> Result<Option<Partitions>, HandlerError> {
        Ok(Some(Partitions::new(0..PARTITIONS).with_total(PARTITIONS.into())))
    }
}
