//! The numbered records of a source, and what became of each.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{ASKED_FOR, panicked};

/// A read of so many records fails.
pub(crate) const FAILING_READ: usize = 997;
/// A read of so many records panics.
pub(crate) const PANICKING_READ: usize = 998;
pub(crate) const PARTITIONS: u16 = 2;

const RECORDS: u16 = 1000;
/// What every offset begins with: bytes that are no text.
const BINARY: &[u8] = &[0x00, 0xff, 0x80];
/// What follows in the offset whose ack panics.
const PANICKING_ACK: &[u8] = b"panic";

/// One of the records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    number: u16,
}

impl Record {
    pub(crate) fn value(self) -> String {
        self.number.to_string()
    }

    pub(crate) fn offset(self) -> Vec<u8> {
        [BINARY, &self.number.to_be_bytes()].concat()
    }

    pub(crate) fn partition(self) -> u16 {
        self.number % PARTITIONS
    }

    pub(crate) fn event_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.number.into())
    }
}

/// All records of the process.
#[derive(Debug)]
pub(crate) struct Records {
    state: Mutex<State>,
    /// Told when there may be something to deliver again.
    nacked: Notify,
}

#[derive(Debug)]
struct State {
    unread: Range<u16>,
    /// Nacked, and when each may be delivered again.
    again: BTreeSet<(Instant, u16)>,
    /// Delivered, and neither acked nor nacked.
    delivered: BTreeSet<u16>,
    /// How often each was delivered that is not acked.
    deliveries: HashMap<u16, u32>,
}

impl Default for Records {
    fn default() -> Self {
        let state = State {
            unread: 0..RECORDS,
            again: BTreeSet::new(),
            delivered: BTreeSet::new(),
            deliveries: HashMap::new(),
        };
        Self { state: Mutex::new(state), nacked: Notify::new() }
    }
}

impl Records {
    /// The next record to deliver; waits for one until `deadline`.
    pub(crate) async fn next(&self, deadline: Instant) -> Option<Record> {
        loop {
            // From before the look, so that a nack in between is not missed.
            let nacked = self.nacked.notified();
            let due = {
                let mut state = self.state();
                if let Some(number) = state.take() {
                    return Some(Record { number });
                }
                state.again.first().map_or(deadline, |(due, _)| deadline.min(*due))
            };
            if timeout_at(due, nacked).await.is_err() && due == deadline {
                return None;
            }
        }
    }

    /// The record is done with, whatever was heard of it before.
    ///
    /// # Panics
    ///
    /// At the offset that asks for it.
    pub(crate) fn ack(&self, offset: &[u8]) {
        if offset.strip_prefix(BINARY) == Some(PANICKING_ACK) {
            panicked(ASKED_FOR);
        }
        if let Some(number) = number(offset) {
            let mut state = self.state();
            state.delivered.remove(&number);
            state.deliveries.remove(&number);
            state.again.retain(|(_, again)| *again != number);
        }
    }

    /// The record, if it is on its way, is to be delivered again after `delay`, unless it was `max_deliveries` times.
    pub(crate) fn nack(&self, offset: &[u8], delay: Duration, max_deliveries: Option<u32>) {
        let mut state = self.state();
        if let Some(number) = number(offset)
            && state.delivered.remove(&number)
            && max_deliveries.is_none_or(|most| state.deliveries.get(&number).is_some_and(|times| *times < most))
        {
            state.again.insert((Instant::now() + delay, number));
            self.nacked.notify_waiters();
        }
    }

    /// How many a read could deliver now.
    pub(crate) fn pending(&self) -> usize {
        let state = self.state();
        let now = Instant::now();
        state.unread.len() + state.again.iter().take_while(|(due, _)| *due <= now).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A record that may be delivered now; those that were nacked come first.
    fn take(&mut self) -> Option<u16> {
        let again = self.again.first().is_some_and(|(due, _)| *due <= Instant::now());
        let number = if again { self.again.pop_first().map(|(_, number)| number) } else { self.unread.next() }?;
        self.delivered.insert(number);
        *self.deliveries.entry(number).or_default() += 1;
        Some(number)
    }
}

/// The record that an offset is of; `None` for offsets that are not of this source.
fn number(offset: &[u8]) -> Option<u16> {
    offset.strip_prefix(BINARY)?.try_into().ok().map(u16::from_be_bytes)
}
