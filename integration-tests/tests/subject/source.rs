//! A source of numbered records.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use numaflow_sdk::HandlerError;
use numaflow_sdk::source::{Batch, Message, NackOffset, Offset, Partitions, ReadRequest, Sourcer};
use tokio::sync::Notify;
use tokio::time::timeout;

const RECORDS: u16 = 1000;
const PARTITIONS: u16 = 2;
/// A read of so many fails; one of one more panics.
const FAILING_READ: usize = 997;
const ASKED_FOR: &str = "the suite asked for this";
/// What every offset begins with: bytes that are no text.
const BINARY: &[u8] = &[0x00, 0xff, 0x80];

pub(crate) struct Contract {
    records: Mutex<Records>,
    /// Told when there is something to read again.
    nacked: Notify,
}

struct Records {
    unread: VecDeque<u16>,
    /// Nacked with a delay, and when that is over.
    later: BTreeSet<(Instant, u16)>,
    /// Delivered, and neither acked nor nacked.
    delivered: BTreeSet<Offset>,
    /// How often each was delivered.
    deliveries: HashMap<u16, u32>,
}

impl Default for Contract {
    fn default() -> Self {
        let records = Records {
            unread: (0..RECORDS).collect(),
            later: BTreeSet::new(),
            delivered: BTreeSet::new(),
            deliveries: HashMap::new(),
        };
        Self { records: Mutex::new(records), nacked: Notify::new() }
    }
}

impl Contract {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self) -> Option<Message> {
        let mut records = self.records();
        let due = records.later.first().is_some_and(|(due, _)| *due <= Instant::now());
        let number =
            if due { records.later.pop_first().map(|(_, number)| number) } else { records.unread.pop_front() }?;
        *records.deliveries.entry(number).or_default() += 1;
        let offset = Offset::new([BINARY, &number.to_be_bytes()].concat(), number % PARTITIONS);
        records.delivered.insert(offset.clone());
        Some(Message::new(number.to_string(), offset, UNIX_EPOCH + Duration::from_secs(number.into())))
    }
}

impl Sourcer for Contract {
    async fn read(&self, request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        if request.count == FAILING_READ {
            return Err(HandlerError::new(ASKED_FOR));
        }
        if request.count == FAILING_READ + 1 {
            panicked();
        }
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
            if offset.as_bytes().strip_prefix(BINARY) == Some(b"panic") {
                drop(records);
                panicked();
            }
            records.delivered.remove(&offset);
            if let Some(number) = number(&offset) {
                records.later.retain(|(_, later)| *later != number);
            }
        }
        Ok(())
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        let mut records = self.records();
        for NackOffset { offset, options, .. } in offsets {
            let Some(number) = number(&offset) else { continue };
            let deliveries = records.deliveries.get(&number).copied().unwrap_or_default();
            if records.delivered.remove(&offset) && options.max_deliveries.is_none_or(|most| deliveries < most) {
                match options.delay {
                    Some(delay) => drop(records.later.insert((Instant::now() + delay, number))),
                    None => records.unread.push_back(number),
                }
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

/// The record that an offset is of; `None` for offsets that are not of this source.
fn number(offset: &Offset) -> Option<u16> {
    offset.as_bytes().strip_prefix(BINARY)?.try_into().ok().map(u16::from_be_bytes)
}

#[expect(clippy::panic, reason = "the contract asks for one")]
fn panicked() -> ! {
    panic!("{ASKED_FOR}")
}
