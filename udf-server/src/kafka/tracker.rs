//! What became of each record of one partition, and how far the group may commit. Pure: no client, no clock.
//!
//! Records enter in offset order, are handed out, come back as acks and nacks in any order, and leave from the front.
//! Offsets have gaps (compaction, transaction markers), so records are addressed by the sequence in which they entered,
//! and an ack finds its record by the guess that there was no gap, then by binary search.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;

/// How much of a partition may be unfinished before it is read no further.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Records, those included that are done but wait behind one that is not.
    pub(super) records: usize,
    /// Bytes of their wire form. Records share buffers, so also what is done counts until it leaves from the front.
    pub(super) bytes: usize,
}

/// The most records of one partition.
const RECORDS: usize = 10_000;
/// The most bytes of one partition, and of all.
const BYTES: usize = 16 << 20;
const TOTAL_BYTES: usize = 256 << 20;

impl Limits {
    /// The limits of each partition where there are `partitions`.
    pub(super) fn of_each(partitions: usize) -> Self {
        Self { records: RECORDS, bytes: BYTES.min(TOTAL_BYTES / partitions.max(1)) }
    }
}

/// The records of one partition between the broker and their acks.
#[derive(Debug)]
pub(super) struct Tracker<T> {
    entries: VecDeque<Entry<T>>,
    /// The sequence of the front entry.
    base: u64,
    /// The sequence of the first entry that was never handed out.
    fresh: u64,
    /// Entries handed out before that are ready once more; all come before `fresh`.
    again: BTreeSet<u64>,
    /// Nacked entries by the time at which they are ready.
    delayed: BTreeSet<(Instant, u64)>,
    /// How many entries are handed out and neither acked nor nacked.
    in_flight: usize,
    bytes: usize,
    /// The offset after the last record; `None` before there was one.
    position: Option<i64>,
    limits: Limits,
}

#[derive(Debug)]
struct Entry<T> {
    offset: i64,
    len: usize,
    deliveries: u32,
    state: State,
    /// `None` once done, so that memory returns as early as it can.
    record: Option<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Sent,
    Delayed(Instant),
    Done,
}

impl<T: Clone> Tracker<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            entries: VecDeque::new(),
            base: 0,
            fresh: 0,
            again: BTreeSet::new(),
            delayed: BTreeSet::new(),
            in_flight: 0,
            bytes: 0,
            position: None,
            limits,
        }
    }

    /// Changes the limits. What is there already stays, and nothing more comes until it fits.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds the next record, `len` bytes long.
    ///
    /// An offset below the position means that the partition's log was cut or made anew: nothing known of the old one
    /// is true of the new one, so the tracker starts again from there and says `false`.
    pub(super) fn push(&mut self, offset: i64, len: usize, record: T) -> bool {
        let in_order = self.position.is_none_or(|position| offset >= position);
        if !in_order {
            let base = self.end();
            *self = Self { base, fresh: base, ..Self::new(self.limits) };
        }
        self.entries.push_back(Entry { offset, len, deliveries: 0, state: State::Ready, record: Some(record) });
        self.bytes += len;
        self.position = Some(offset + 1);
        in_order
    }

    /// How many more records fit; none once the bytes are used up, which the last record may overshoot.
    pub(super) fn room(&self) -> usize {
        if self.bytes >= self.limits.bytes { 0 } else { self.limits.records.saturating_sub(self.entries.len()) }
    }

    /// Hands out up to `max` records in offset order, those first that are to be delivered again.
    pub(super) fn take(&mut self, max: usize, now: Instant, out: &mut Vec<T>) -> usize {
        self.ripen(now);
        let mut taken = 0;
        while taken < max {
            let sequence = match self.again.pop_first() {
                Some(sequence) => sequence,
                None if self.fresh < self.end() => {
                    self.fresh += 1;
                    self.fresh - 1
                }
                None => break,
            };
            let Some(entry) = self.entry(sequence) else { break };
            let Some(record) = entry.record.clone() else { break };
            entry.state = State::Sent;
            entry.deliveries = entry.deliveries.saturating_add(1);
            self.in_flight += 1;
            out.push(record);
            taken += 1;
        }
        taken
    }

    /// Whether [`Tracker::take`] would hand out anything.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        self.fresh < self.end() || !self.again.is_empty() || self.next_due().is_some_and(|due| due <= now)
    }

    /// When the next delayed record is ready.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Takes note that a record is done with. `false`, and no effect, unless it was handed out and is not done yet.
    pub(super) fn ack(&mut self, offset: i64) -> bool {
        let Some(sequence) = self.find_delivered(offset) else { return false };
        let Some(entry) = self.entry(sequence) else { return false };
        let before = std::mem::replace(&mut entry.state, State::Done);
        entry.record = None;
        match before {
            State::Done => return false,
            State::Sent => self.in_flight -= 1,
            State::Ready => {
                self.again.remove(&sequence);
            }
            State::Delayed(due) => {
                self.delayed.remove(&(due, sequence));
            }
        }
        while let Some(front) = self.entries.pop_front_if(|entry| entry.state == State::Done) {
            self.base += 1;
            self.bytes -= front.len;
        }
        true
    }

    /// Takes note that a record is to be delivered again, not before `due`. Answers how often it was delivered so far;
    /// `None`, and no effect, unless it is in flight.
    pub(super) fn nack(&mut self, offset: i64, due: Instant) -> Option<u32> {
        let sequence = self.find_delivered(offset)?;
        let entry = self.entry(sequence).filter(|entry| entry.state == State::Sent)?;
        entry.state = State::Delayed(due);
        let deliveries = entry.deliveries;
        self.in_flight -= 1;
        self.delayed.insert((due, sequence));
        Some(deliveries)
    }

    /// Makes all that is in flight ready again, for a reader that has nothing of what the last one got. Acks for it are
    /// still taken.
    pub(super) fn requeue_sent(&mut self) {
        for (sequence, entry) in (self.base..).zip(&mut self.entries) {
            if entry.state == State::Sent {
                entry.state = State::Ready;
                self.again.insert(sequence);
            }
        }
        self.in_flight = 0;
    }

    /// The offset that the group may commit: that of the first record not done, or of the next one to come. `None`
    /// before the first record.
    pub(super) fn commit_point(&self) -> Option<i64> {
        self.entries.front().map(|entry| entry.offset).or(self.position)
    }

    /// How many records are handed out and neither acked nor nacked.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether every record that came is done.
    pub(super) fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn entry(&mut self, sequence: u64) -> Option<&mut Entry<T>> {
        let index = usize::try_from(sequence.checked_sub(self.base)?).ok()?;
        self.entries.get_mut(index)
    }

    /// The sequence of a record that was handed out at least once.
    fn find_delivered(&self, offset: i64) -> Option<u64> {
        let front = self.entries.front()?.offset;
        let guess = usize::try_from(offset.checked_sub(front)?).ok()?;
        let index = match self.entries.get(guess) {
            Some(entry) if entry.offset == offset => guess,
            _ => self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?,
        };
        let sequence = self.base + index as u64;
        (sequence < self.fresh).then_some(sequence)
    }

    fn ripen(&mut self, now: Instant) {
        while let Some((_, sequence)) = self.delayed.first().copied().filter(|(due, _)| *due <= now) {
            self.delayed.pop_first();
            if let Some(entry) = self.entry(sequence) {
                entry.state = State::Ready;
                self.again.insert(sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests;
