//! What became of each record of one partition, and how far the group may commit. Pure: no client, no clock.
//!
//! Records enter in offset order, are handed out, come back as acks and nacks in any order, and leave from the front.
//! Offsets have gaps (compaction, transaction markers), so records are addressed by the sequence in which they entered,
//! and an ack finds its record by the guess that there was no gap, then by binary search.
//!
//! The log of a partition can be cut: after an unclean leader election the brokers have no more than the records before
//! some offset, and other records take the offsets from there on. The tracker drops its records from that offset on and
//! keeps those before it. The platform may still have a record that was dropped, and its answer names only the offset. So
//! the new record of that offset is handed out after the answer for the former one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How much of a partition may be unfinished before it is read no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Limits {
    /// Records, those included that are done but wait behind one that is not.
    pub(super) records: usize,
    /// What they take in memory. Records share buffers, so also what is done counts until it leaves from the front.
    pub(super) bytes: usize,
}

/// The records of one partition between the broker and their acks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// How many entries are spent and not settled.
    spent: usize,
    /// The offsets of those of them that the dead-letter topic refuses.
    refused: BTreeSet<i64>,
    /// Records that the platform had, unanswered, when the log was cut before them: by offset, since when it has them.
    former: BTreeMap<i64, Instant>,
    /// How often the log was cut.
    cuts: u32,
    bytes: usize,
    /// The offset after the last record; `None` before there was one.
    position: Option<i64>,
    limits: Limits,
    flow: Flow,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry<T> {
    offset: i64,
    /// What it takes in memory.
    len: usize,
    deliveries: u32,
    /// How often the log had been cut when the record came: this tells records of the same offset apart.
    cuts: u32,
    state: State,
    /// `None` once done, so that memory returns as early as it can.
    record: Option<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Ready,
    /// Handed out at that time.
    Sent(Instant),
    Delayed(Instant),
    /// Delivered as often as it may be: it waits to be settled some other way.
    Spent,
    Done,
}

/// Whether records are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Flow {
    Open,
    /// The partition is given back: what is out may still be acked. It stood still at a record before, if at all.
    Closed {
        halted: Option<i64>,
    },
    /// The partition goes as far as this record, and no further until somebody has looked at it.
    Halted(i64),
}

/// A record that is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery<T> {
    pub(super) record: T,
    /// How often it was handed out, this time included.
    pub(super) times: u32,
}

/// What a nack came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Nacked<T> {
    /// The record is not in flight here: no effect.
    Unknown,
    /// It will be delivered again.
    Again,
    /// It was delivered this often, which is as often as it may be: it is spent until [`Tracker::settle`] is called with
    /// these `cuts`.
    Spent { record: T, deliveries: u32, cuts: u32 },
}

/// The effect of an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acked {
    /// The record was not in flight: no effect.
    Unknown,
    /// The record is done.
    Done,
    /// The log was cut before the record; the new record of its offset, if there is one, may be handed out now.
    Former,
}

/// The log was cut: an offset came that is below the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// The position before.
    pub(super) position: i64,
    /// How many records were dropped that were not done.
    pub(super) dropped: usize,
    /// How many of these the platform has.
    pub(super) in_flight: usize,
}

impl Cut {
    /// The cut that a record shows which comes where nothing was read yet, if there is one: its offset is below `position`.
    pub(super) fn before(position: i64, offset: i64) -> Option<Self> {
        (offset < position).then_some(Self { position, dropped: 0, in_flight: 0 })
    }
}

/// The first record that is not done, which everything behind it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) offset: i64,
    pub(super) deliveries: u32,
    /// Since when it is with the platform; `None` where it is not.
    pub(super) sent: Option<Instant>,
}

impl<T: Clone> Tracker<T> {
    /// A partition of which the group has everything before `start`, as far as that is known.
    pub(super) fn new(limits: Limits, start: Option<i64>) -> Self {
        Self {
            entries: VecDeque::new(),
            base: 0,
            fresh: 0,
            again: BTreeSet::new(),
            delayed: BTreeSet::new(),
            in_flight: 0,
            spent: 0,
            refused: BTreeSet::new(),
            former: BTreeMap::new(),
            cuts: 0,
            bytes: 0,
            position: start,
            limits,
            flow: Flow::Open,
        }
    }

    /// Changes the limits. What is there already stays, and nothing more comes until it fits.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds the next record, `len` bytes long in its wire form.
    ///
    /// An offset below the position means that the log was cut there, or that the topic was deleted and created anew. The
    /// records at and above the offset are dropped. Those below it stay: where the log was cut they are still in it, and of
    /// a topic that is gone they hold the commit point no higher than the first record of the new one. They leave as all
    /// others do, when they are done.
    pub(super) fn push(&mut self, offset: i64, len: usize, record: T) -> Option<Cut> {
        let cut = self.position.filter(|position| offset < *position).map(|position| self.cut(offset, position));
        // What it takes to keep track of a record counts too: where records are small it is as much as they are.
        let len = len + 2 * size_of::<Entry<T>>();
        let (cuts, state) = (self.cuts, State::Ready);
        self.entries.push_back(Entry { offset, len, deliveries: 0, cuts, state, record: Some(record) });
        self.bytes += len;
        self.position = Some(offset + 1);
        cut
    }

    /// Takes note that the topic was deleted and created anew, and that its first record comes next: nothing of the former
    /// one is left. `None` where nothing of that had come.
    pub(super) fn begin_anew(&mut self) -> Option<Cut> {
        let cut = self.position.filter(|position| *position > 0).map(|position| self.cut(0, position));
        self.position = Some(0);
        cut
    }

    /// Drops the records at and above `offset`.
    fn cut(&mut self, offset: i64, position: i64) -> Cut {
        let mut cut = Cut { position, dropped: 0, in_flight: 0 };
        self.cuts += 1;
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.offset >= offset) {
            self.bytes -= entry.len;
            cut.dropped += usize::from(entry.state != State::Done);
            match entry.state {
                State::Sent(sent) => {
                    cut.in_flight += 1;
                    self.in_flight -= 1;
                    self.former.insert(entry.offset, sent);
                }
                State::Spent => self.spent -= 1,
                State::Ready | State::Delayed(_) | State::Done => {}
            }
        }
        self.refused.split_off(&offset);
        let end = self.end();
        self.fresh = self.fresh.min(end);
        self.again.split_off(&end);
        self.delayed.retain(|(_, sequence)| *sequence < end);
        if let Flow::Halted(at) = self.flow
            && at >= offset
        {
            self.flow = Flow::Open;
        }
        cut
    }

    /// Takes note that there is no record before `position` that is yet to come: what is there are markers of
    /// transactions, or records that nobody is to see. Without effect while some record is not done.
    pub(super) fn skip_to(&mut self, position: i64) {
        if self.flow == Flow::Open && self.is_idle() && self.position.is_none_or(|known| known < position) {
            self.position = Some(position);
        }
    }

    /// How many more records fit; none once the bytes are used up, which the last record may overshoot.
    pub(super) fn room(&self) -> usize {
        match self.flow {
            Flow::Open if self.refused.is_empty() && self.bytes < self.limits.bytes => {
                self.limits.records.saturating_sub(self.entries.len() + self.former.len())
            }
            Flow::Open | Flow::Closed { .. } | Flow::Halted(_) => 0,
        }
    }

    /// Whether there is room for half of what fits: enough to begin to read again.
    pub(super) fn has_room_again(&self) -> bool {
        self.flow == Flow::Open && self.bytes <= self.limits.bytes / 2 && self.entries.len() <= self.limits.records / 2
    }

    /// Hands out up to `max` records in offset order, those first that are to be delivered again.
    pub(super) fn take(&mut self, max: usize, now: Instant, out: &mut Vec<Delivery<T>>) -> usize {
        self.ripen(now);
        let mut taken = 0;
        while taken < max
            && let Some(sequence) = self.next()
        {
            if !self.again.remove(&sequence) {
                self.fresh = sequence + 1;
            }
            let Some(entry) = self.entry(sequence) else { break };
            // A record that was spent as it came is passed over.
            if entry.state != State::Ready {
                continue;
            }
            let Some(record) = entry.record.clone() else { break };
            entry.state = State::Sent(now);
            entry.deliveries = entry.deliveries.saturating_add(1);
            out.push(Delivery { record, times: entry.deliveries });
            self.in_flight += 1;
            taken += 1;
        }
        taken
    }

    /// Whether [`Tracker::take`] has anything to hand out, but for records that were spent as they came.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        self.next().is_some() || self.next_due().is_some_and(|due| due <= now)
    }

    /// When the next delayed record is ready.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.iter().find(|(_, sequence)| self.may_go(*sequence)).map(|(due, _)| *due)
    }

    /// Since when a record is with the platform; `None` if it is not.
    pub(super) fn sent(&self, offset: i64) -> Option<Instant> {
        let place = self.place(self.find(offset)?)?;
        if let State::Sent(sent) = self.entries[place].state { Some(sent) } else { None }
    }

    /// Takes note that the platform is done with a record.
    pub(super) fn ack(&mut self, offset: i64) -> Acked {
        match self.find_delivered(offset) {
            Some(sequence) if self.finish(sequence) => Acked::Done,
            // A record that was handed out has no former one.
            Some(_) => Acked::Unknown,
            None if self.former.remove(&offset).is_some() => Acked::Former,
            None => Acked::Unknown,
        }
    }

    /// Takes note that a record is to be delivered again, not before `due`; but not more than `max` times in all. A record
    /// that the log was cut before is not: the platform has given it back, and nobody else has it.
    pub(super) fn nack(&mut self, offset: i64, due: Instant, max: Option<u32>) -> Nacked<T> {
        let Some(sequence) = self.find_delivered(offset) else {
            self.former.remove(&offset);
            return Nacked::Unknown;
        };
        let Some(entry) = self.entry(sequence) else { return Nacked::Unknown };
        let State::Sent(_) = entry.state else { return Nacked::Unknown };
        let (deliveries, cuts) = (entry.deliveries, entry.cuts);
        let nacked = match &entry.record {
            Some(record) if max.is_some_and(|max| deliveries >= max) => {
                let record = record.clone();
                entry.state = State::Spent;
                self.spent += 1;
                Nacked::Spent { record, deliveries, cuts }
            }
            _ => {
                entry.state = State::Delayed(due);
                self.delayed.insert((due, sequence));
                Nacked::Again
            }
        };
        self.in_flight -= 1;
        nacked
    }

    /// Makes a record spent that was never handed out, and returns its number of cuts for [`Tracker::settle`]. `None` unless
    /// it is such a record.
    pub(super) fn spend(&mut self, offset: i64) -> Option<u32> {
        let sequence = self.find(offset).filter(|sequence| *sequence >= self.fresh)?;
        let entry = self.entry(sequence).filter(|entry| entry.state == State::Ready)?;
        entry.state = State::Spent;
        let cuts = entry.cuts;
        self.spent += 1;
        Some(cuts)
    }

    /// Takes note that a spent record is done with: it is where it was to go instead. `false`, and no effect, unless it is
    /// spent, and the same one: after the log was cut another record may have its offset.
    pub(super) fn settle(&mut self, offset: i64, cuts: u32) -> bool {
        let Some(sequence) = self.find(offset) else { return false };
        let is_it = self.entry(sequence).is_some_and(|entry| entry.state == State::Spent && entry.cuts == cuts);
        is_it && self.finish(sequence)
    }

    /// Stops at a record: from there on nothing is handed out any more, and nothing more is read. What comes before it goes
    /// its way, and acks for what is out are taken.
    pub(super) fn halt(&mut self, offset: i64) {
        self.flow = match self.flow {
            Flow::Open => Flow::Halted(offset),
            Flow::Halted(first) => Flow::Halted(first.min(offset)),
            closed @ Flow::Closed { .. } => closed,
        };
    }

    /// Stops at a spent record until it is settled: the dead-letter topic refuses it. `false`, and no effect, unless it is
    /// spent.
    pub(super) fn refuse(&mut self, offset: i64) -> bool {
        let is_spent = self.is_spent(offset);
        if is_spent {
            self.refused.insert(offset);
        }
        is_spent
    }

    /// Whether a record is spent and not settled.
    pub(super) fn is_spent(&self, offset: i64) -> bool {
        let place = self.find(offset).and_then(|sequence| self.place(sequence));
        place.is_some_and(|place| self.entries[place].state == State::Spent)
    }

    /// The record at which the partition stands still.
    pub(super) fn halted(&self) -> Option<i64> {
        self.halted_for_good().into_iter().chain(self.refused.first().copied()).min()
    }

    /// The record at which the partition stands still until it is assigned anew.
    fn halted_for_good(&self) -> Option<i64> {
        match self.flow {
            Flow::Halted(offset) => Some(offset),
            Flow::Closed { halted } => halted,
            Flow::Open => None,
        }
    }

    /// Hands out nothing from here on, and forgets what never was; acks and nacks are still taken.
    pub(super) fn close(&mut self) {
        self.flow = Flow::Closed { halted: self.halted_for_good() };
        let is_untouched = |entry: &mut Entry<T>| entry.deliveries == 0 && entry.state != State::Done;
        while let Some(entry) = self.entries.pop_back_if(is_untouched) {
            self.bytes -= entry.len;
            self.spent -= usize::from(entry.state == State::Spent);
            self.refused.remove(&entry.offset);
            // The first of them is where the next owner begins.
            self.position = Some(entry.offset);
        }
        self.fresh = self.fresh.min(self.end());
    }

    /// Whether nothing is out any more: no record is with the platform, and none on its way to be settled.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight == 0 && (self.spent == self.refused.len() || self.halted_for_good().is_some())
    }

    /// Makes all that is in flight ready again, for a reader that has nothing of what the last one got. Acks for it are
    /// still taken. Answers for records that the log was cut before are not waited for any more.
    pub(super) fn requeue_sent(&mut self) {
        self.requeue(|_| true);
    }

    /// As [`Tracker::requeue_sent`] for what was handed out at least `timeout` ago; how many records that were.
    pub(super) fn expire(&mut self, now: Instant, timeout: Duration) -> usize {
        self.requeue(|sent| now.duration_since(sent) >= timeout)
    }

    fn requeue(&mut self, which: impl Fn(Instant) -> bool) -> usize {
        let before = self.in_flight();
        self.former.retain(|_, sent| !which(*sent));
        for (sequence, entry) in (self.base..).zip(&mut self.entries) {
            if let State::Sent(sent) = entry.state
                && which(sent)
            {
                entry.state = State::Ready;
                self.again.insert(sequence);
                self.in_flight -= 1;
            }
        }
        before - self.in_flight()
    }

    /// The offset that the group may commit: that of the first record not done, or of the next one to come. `None`
    /// before the first record.
    pub(super) fn commit_point(&self) -> Option<i64> {
        #[cfg(feature = "fault-commit-maximum")]
        if let Some(last) = self.entries.iter().rfind(|entry| entry.state == State::Done) {
            return Some(last.offset + 1);
        }
        self.entries.front().map(|entry| entry.offset).or(self.position)
    }

    /// Whether the commit point is beyond the first record that came: some record has left from the front.
    pub(super) fn has_moved(&self) -> bool {
        self.base > 0
    }

    /// The offset after the last record that came.
    pub(super) fn position(&self) -> Option<i64> {
        self.position
    }

    /// The first record that is not done. Where it waits for the answer for a former one, it counts as sent when that was.
    pub(super) fn front(&self) -> Option<Front> {
        let entry = self.entries.front()?;
        let sent =
            if let State::Sent(sent) = entry.state { Some(sent) } else { self.former.get(&entry.offset).copied() };
        Some(Front { offset: entry.offset, deliveries: entry.deliveries, sent })
    }

    /// How many records are handed out and neither acked nor nacked, those included that the log was cut before.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight + self.former.len()
    }

    /// How many records are kept: ready, out, delayed, spent, or done behind one that is not.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes that the records hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether every record that came is done.
    pub(super) fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    fn finish(&mut self, sequence: u64) -> bool {
        let Some(entry) = self.entry(sequence) else { return false };
        let (before, offset) = (std::mem::replace(&mut entry.state, State::Done), entry.offset);
        entry.record = None;
        match before {
            State::Done => return false,
            State::Sent(_) => self.in_flight -= 1,
            State::Spent => {
                self.spent -= 1;
                self.refused.remove(&offset);
            }
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
        self.fresh = self.fresh.max(self.base);
        true
    }

    /// The sequence of the record that is handed out next: one that was before, or the first that wasn't. All that are to
    /// be handed out again come before it.
    fn next(&self) -> Option<u64> {
        let fresh = (self.fresh < self.end()).then_some(self.fresh);
        self.again.first().copied().or(fresh).filter(|sequence| self.may_go(*sequence))
    }

    fn may_go(&self, sequence: u64) -> bool {
        if matches!(self.flow, Flow::Closed { .. }) {
            return false;
        }
        let entry = || self.place(sequence).map(|place| &self.entries[place]);
        let waits = |entry: &Entry<T>| entry.state == State::Ready && self.former.contains_key(&entry.offset);
        if !self.former.is_empty() && entry().is_some_and(waits) {
            return false;
        }
        let Some(halted) = self.halted() else { return true };
        entry().is_some_and(|entry| entry.offset < halted)
    }

    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn entry(&mut self, sequence: u64) -> Option<&mut Entry<T>> {
        let place = self.place(sequence)?;
        self.entries.get_mut(place)
    }

    fn place(&self, sequence: u64) -> Option<usize> {
        let place = usize::try_from(sequence.checked_sub(self.base)?).ok()?;
        (place < self.entries.len()).then_some(place)
    }

    fn find(&self, offset: i64) -> Option<u64> {
        let front = self.entries.front()?.offset;
        let guess = usize::try_from(offset.checked_sub(front)?).ok()?;
        let index = match self.entries.get(guess) {
            Some(entry) if entry.offset == offset => guess,
            _ => self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?,
        };
        Some(self.base + index as u64)
    }

    /// The sequence of a record that was handed out at least once.
    fn find_delivered(&mut self, offset: i64) -> Option<u64> {
        let sequence = self.find(offset)?;
        (self.entry(sequence)?.deliveries > 0).then_some(sequence)
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
