//! What is in flight: every message between its reading and its answer, for whoever looks from outside.
//!
//! The registry only observes: the bound is [`limit`](crate::limit)'s. Messages are told apart by a number of ours, because
//! a peer may send one id twice at once. Reading it works while handlers block every thread of the runtime, so it needs
//! neither the runtime nor the streams: only locks that are held for the copying of a few words.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

mod current;
pub(crate) mod watchdog;

pub(crate) use current::Current;

use current::Shown;

/// The most bytes of an id that are kept: enough to find the message, while a peer may send ids of any length.
const MAX_ID_BYTES: usize = 128;
/// What stands at the end of an id that was cut.
const CUT_MARK: &str = "…";
/// Streams run on different threads and meet at these locks only where their numbers happen to.
const SHARDS: usize = 16;
/// So few streams are not worth looking for those that have ended.
const FEW_STREAMS: usize = 16;

/// Where a message is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Read, and waiting for room within the limits or for its batch.
    Queued,
    /// Its handler has begun: it runs, or waits for something of its own.
    Handler,
    /// Its handler has failed and will be called again.
    Retrying,
    /// Its handler is done, and the peer has not taken the answer.
    Answered,
    /// Its handler is a tower service that is not ready: mostly a limit of one of its layers is reached.
    NotReady,
}

impl Stage {
    pub(crate) const ALL: [Self; 5] = [Self::Queued, Self::Handler, Self::Retrying, Self::Answered, Self::NotReady];

    /// Its name in logs, metrics and `/inflight`: `queued`, `handler`, `retrying`, `answered` or
    /// `not_ready`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Handler => "handler",
            Self::Retrying => "retrying",
            Self::Answered => "answered",
            Self::NotReady => "not_ready",
        }
    }

    /// What a message at this stage waits for.
    pub(crate) const fn waits_for(self) -> &'static str {
        match self {
            Self::Queued => "room within the limits, or the rest of its batch",
            Self::Handler => "its handler",
            Self::Retrying => "the next attempt of its handler",
            Self::Answered => "the peer, which has not taken the answer",
            Self::NotReady => "its tower service, which is not ready: a limit of one of its layers is reached",
        }
    }
}

/// A handler that has had its thread for longer than this blocks it, and what its connection has to write besides.
const BLOCKS: Duration = Duration::from_millis(50);
/// What a message waits for where it is not what its stage says.
const BLOCKING: &str = "its handler, which blocks the thread of its connection (see --execution blocking)";
const HELD_UP: &str = "its connection, whose thread a handler blocks (see --execution blocking)";
const PERHAPS_HELD_UP: &str =
    "the peer, which has not taken the answer, or its connection, if that is on a thread that a handler blocks";

#[derive(Debug)]
struct Message {
    sequence: u64,
    id: String,
    bytes: usize,
    stage: Stage,
    since: Instant,
}

impl Message {
    /// Overwrites what was here and keeps the buffer of its id.
    fn set(&mut self, sequence: u64, id: &str, bytes: usize, stage: Stage, since: Instant) {
        self.id.clear();
        push_cut(&mut self.id, id);
        (self.sequence, self.bytes, self.stage, self.since) = (sequence, bytes, stage, since);
    }

    fn empty(since: Instant) -> Self {
        Self { sequence: 0, id: String::new(), bytes: 0, stage: Stage::Handler, since }
    }

    fn seen(&self) -> Seen<'_> {
        let Self { sequence, ref id, bytes, stage, since } = *self;
        Seen { sequence, id, bytes, stage, since, polls_since: None }
    }
}

/// A message as those who look on see it.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    sequence: u64,
    id: &'a str,
    bytes: usize,
    stage: Stage,
    since: Instant,
    /// Since when its stream has had its thread for one handler, where it is known whether it has.
    polls_since: Option<Instant>,
}

/// Adds as much of an id as is kept.
fn push_cut(text: &mut String, id: &str) {
    if id.len() <= MAX_ID_BYTES {
        text.push_str(id);
    } else {
        text.push_str(&id[..id.floor_char_boundary(MAX_ID_BYTES)]);
        text.push_str(CUT_MARK);
    }
}

/// A place for one message; kept when the message goes, so that the next one needs no allocation.
#[derive(Debug)]
struct Slot {
    message: Message,
    taken: bool,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

impl Shard {
    /// A slot that is marked as taken, for the caller to fill.
    fn take(&mut self, since: Instant) -> (usize, &mut Message) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { message: Message::empty(since), taken: false });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.taken = true;
        (index, &mut slot.message)
    }

    fn give_back(&mut self, index: usize) {
        self.slots[index].taken = false;
        self.free.push(index);
    }
}

#[derive(Debug, Default)]
struct Registry {
    next_sequence: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    currents: Mutex<Currents>,
    /// No handler begins any more.
    sealed: AtomicBool,
    /// How many calls of a source are being polled.
    polled: AtomicUsize,
}

/// The messages that streams have in hand at this moment, and the answers on their way.
#[derive(Debug, Default)]
struct Currents {
    /// Of streams that are open, and of some that have ended.
    shown: Vec<Weak<Mutex<Shown>>>,
    /// The number of them at which those that have ended are looked for.
    full: usize,
}

impl Currents {
    /// Ended streams are looked for whenever the list has doubled, so that the work for each one that is opened stays the
    /// same however many are open.
    fn push(&mut self, shown: Weak<Mutex<Shown>>) {
        if self.shown.len() >= self.full {
            self.shown.retain(|shown| shown.strong_count() > 0);
            self.full = 2 * self.shown.len().max(FEW_STREAMS);
        }
        self.shown.push(shown);
    }
}

/// The messages in flight of one server, over all its connections and streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight {
    registry: Arc<Registry>,
}

/// A message as [`InFlight::list`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Tells messages with the same id apart. Ascending within a stream, not over all of them.
    pub(crate) sequence: u64,
    /// The id that the peer gave it, cut to 128 bytes.
    pub(crate) id: String,
    pub(crate) stage: Stage,
    /// The time since it was read.
    pub(crate) age: Duration,
    pub(crate) bytes: usize,
    pub(crate) held_up: HeldUp,
}

/// Whether a handler blocks the thread that a message needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum HeldUp {
    #[default]
    No,
    /// One does, and it is not known whether it is this thread.
    Perhaps,
    Yes,
}

impl Listed {
    fn new(Seen { sequence, id, bytes, stage, since, polls_since }: Seen<'_>, now: Instant) -> Self {
        let held_up = if blocks(polls_since, now) { HeldUp::Yes } else { HeldUp::No };
        Self { sequence, id: id.to_owned(), stage, age: now.saturating_duration_since(since), bytes, held_up }
    }

    /// What it waits for, in words.
    pub(crate) const fn waits_for(&self) -> &'static str {
        match (self.stage, self.held_up) {
            (Stage::Handler, HeldUp::Yes) => BLOCKING,
            (Stage::Answered, HeldUp::Yes) => HELD_UP,
            (Stage::Answered, HeldUp::Perhaps) => PERHAPS_HELD_UP,
            (stage, _) => stage.waits_for(),
        }
    }
}

fn blocks(polls_since: Option<Instant>, now: Instant) -> bool {
    polls_since.is_some_and(|since| now.saturating_duration_since(since) > BLOCKS)
}

/// What is in flight, in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// How many messages are at each stage, in the order of [`Stage::ALL`].
    pub(crate) by_stage: [usize; Stage::ALL.len()],
    pub(crate) bytes: usize,
    /// The age of the oldest message; zero when there is none.
    pub(crate) oldest_age: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InFlight {
    /// Lists a message until the entry is dropped. `since` is when it was read; one that is yet to come lists the message from
    /// then on.
    pub(crate) fn enter(&self, id: &str, bytes: usize, stage: Stage, since: Instant) -> Entry {
        let sequence = self.registry.next_sequence.fetch_add(1, Ordering::Relaxed);
        self.enter_as(sequence, id, bytes, stage, since)
    }

    fn enter_as(&self, sequence: u64, id: &str, bytes: usize, stage: Stage, since: Instant) -> Entry {
        #[expect(clippy::cast_possible_truncation, reason = "below the number of shards")]
        let shard = (sequence % SHARDS as u64) as usize;
        let mut slots = lock(&self.registry.shards[shard]);
        let (slot, message) = slots.take(since);
        message.set(sequence, id, bytes, stage, since);
        drop(slots);
        Entry { in_flight: self.clone(), shard, slot }
    }

    /// The place where one stream shows the messages that it handles in place.
    pub(crate) fn current(&self) -> Current {
        Current::new(self.clone())
    }

    /// From here on no handler begins, so that [`list`](Self::list) has every message that a handler was given.
    pub(crate) fn seal(&self) {
        self.registry.sealed.store(true, Ordering::Release);
    }

    /// Whether no handler may begin any more. Asked once a message is listed and before its handler begins: a message that
    /// is listed too late to be seen is listed after the seal.
    pub(crate) fn is_sealed(&self) -> bool {
        self.registry.sealed.load(Ordering::Acquire)
    }

    /// Counts a call of a source as being polled until the guard is dropped.
    pub(crate) fn poll(&self) -> Polled<'_> {
        self.registry.polled.fetch_add(1, Ordering::Relaxed);
        Polled { count: &self.registry.polled }
    }

    /// Whether a call of a source is being polled: its thread may be blocked.
    pub(crate) fn any_polled(&self) -> bool {
        self.registry.polled.load(Ordering::Relaxed) > 0
    }

    /// Calls `visit` with every message that is in flight at `now`, and twice with one that moves to an entry of its own
    /// meanwhile. No two locks are held at once but that of the list of streams, which only streams that open or close wait
    /// for.
    fn each(&self, now: Instant, mut visit: impl FnMut(Seen<'_>)) {
        let mut visit = |message: Seen<'_>| {
            if message.since <= now {
                visit(message);
            }
        };
        for shown in lock(&self.registry.currents).shown.iter().filter_map(Weak::upgrade) {
            lock(&shown).each(&mut visit);
        }
        for shard in &self.registry.shards {
            lock(shard).slots.iter().filter(|slot| slot.taken).for_each(|slot| visit(slot.message.seen()));
        }
    }

    /// Every message in flight, the oldest first.
    pub(crate) fn list(&self, now: Instant) -> Vec<Listed> {
        let mut messages = Vec::new();
        self.each(now, |message| messages.push((message.since, Listed::new(message, now))));
        messages.sort_by_key(|(since, listed)| (*since, listed.sequence));
        messages.dedup_by_key(|(_, listed)| listed.sequence);
        let mut listed: Vec<_> = messages.into_iter().map(|(_, listed)| listed).collect();
        if self.any_blocks(now) {
            for message in listed.iter_mut().filter(|message| message.held_up == HeldUp::No) {
                message.held_up = HeldUp::Perhaps;
            }
        }
        listed
    }

    /// Whether a handler blocks the thread of its connection.
    fn any_blocks(&self, now: Instant) -> bool {
        let currents = lock(&self.registry.currents);
        currents.shown.iter().filter_map(Weak::upgrade).any(|shown| blocks(lock(&shown).polls_since(), now))
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        let mut empty = true;
        self.each(Instant::now(), |_| empty = false);
        empty
    }

    /// The figures of what is in flight, which are cheaper to have than the list.
    pub(crate) fn summary(&self, now: Instant) -> Summary {
        let mut summary = Summary::default();
        self.each(now, |message| {
            summary.by_stage[message.stage as usize] += 1;
            summary.bytes += message.bytes;
            summary.oldest_age = summary.oldest_age.max(now.saturating_duration_since(message.since));
        });
        summary
    }
}

/// A call that is being polled, until this is dropped.
#[derive(Debug)]
pub(crate) struct Polled<'a> {
    count: &'a AtomicUsize,
}

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps a message listed until it is dropped, whatever becomes of its handler.
#[derive(Debug)]
#[must_use = "the message is listed only as long as this is kept"]
pub(crate) struct Entry {
    in_flight: InFlight,
    shard: usize,
    slot: usize,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Shard> {
        lock(&self.in_flight.registry.shards[self.shard])
    }

    /// The message as it is now.
    pub(crate) fn listed(&self, now: Instant) -> Listed {
        Listed::new(self.lock().slots[self.slot].message.seen(), now)
    }

    /// The message has come to this stage.
    pub(crate) fn stage(&self, stage: Stage) {
        self.lock().slots[self.slot].message.stage = stage;
    }

    /// The answer in `chunk`, with which the message stays listed until HTTP/2 lets go of it.
    pub(crate) fn answer(self, chunk: Bytes) -> Bytes {
        self.stage(Stage::Answered);
        Bytes::from_owner(Answer { chunk, _entry: self })
    }
}

/// The answer to one message.
struct Answer {
    chunk: Bytes,
    _entry: Entry,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.lock().give_back(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ids(in_flight: &InFlight, now: Instant) -> Vec<String> {
        in_flight.list(now).into_iter().map(|listed| listed.id).collect()
    }

    #[test]
    fn the_oldest_comes_first() {
        let (in_flight, start) = (InFlight::default(), Instant::now());
        let _second = in_flight.enter("second", 10, Stage::Queued, start + SECOND);
        let _first = in_flight.enter("first", 20, Stage::Handler, start);
        let current = in_flight.current();
        current.begin(&"third".to_owned().into(), 30, start + 2 * SECOND);
        assert_eq!(ids(&in_flight, start + 5 * SECOND), ["first", "second", "third"]);
        let ages: Vec<_> = in_flight.list(start + 5 * SECOND).into_iter().map(|listed| listed.age).collect();
        assert_eq!(ages, [5 * SECOND, 4 * SECOND, 3 * SECOND]);
        let summary = in_flight.summary(start + 5 * SECOND);
        assert_eq!(summary, Summary { by_stage: [1, 2, 0, 0, 0], bytes: 60, oldest_age: 5 * SECOND });
    }

    #[test]
    fn what_begins_later_is_not_in_flight_before() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let _later = in_flight.enter("later", 1, Stage::Handler, now + SECOND);
        assert_eq!((ids(&in_flight, now).len(), in_flight.summary(now)), (0, Summary::default()));
        assert_eq!(ids(&in_flight, now + SECOND), ["later"]);
        assert_eq!(in_flight.list(now + 3 * SECOND)[0].age, 2 * SECOND);
    }

    #[test]
    fn the_same_id_twice_is_two_messages() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let one = in_flight.enter("x", 1, Stage::Handler, now);
        let _other = in_flight.enter("x", 1, Stage::Handler, now);
        let listed = in_flight.list(now);
        assert_eq!((listed.len(), listed[0].id == listed[1].id), (2, true));
        assert_ne!(listed[0].sequence, listed[1].sequence);
        drop(one);
        assert_eq!(in_flight.list(now), listed[1..]);
    }

    #[test]
    fn an_entry_leaves_also_when_its_task_panics() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let entry = in_flight.enter("x", 1, Stage::Handler, now);
        let task = move || {
            let _entry = entry;
            panic!("as planned");
        };
        std::thread::spawn(task).join().unwrap_err();
        assert_eq!(in_flight.summary(now), Summary::default());
    }

    #[test]
    fn places_are_used_again() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        for _ in 0..10 * SHARDS {
            let entry = in_flight.enter("x", 1, Stage::Queued, now);
            entry.stage(Stage::Answered);
            assert_eq!(in_flight.summary(now).by_stage, [0, 0, 0, 1, 0]);
        }
        let places = in_flight.registry.shards.iter().map(|shard| lock(shard).slots.len());
        assert!(places.max() <= Some(1));
        assert_eq!(in_flight.summary(now), Summary::default());
    }

    #[test]
    fn a_long_id_is_cut_between_characters() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let _entry = in_flight.enter(&"ü".repeat(5000), 1, Stage::Handler, now);
        let _odd = in_flight.enter(&format!("x{}", "ü".repeat(5000)), 1, Stage::Handler, now);
        let _whole = in_flight.enter(&"x".repeat(MAX_ID_BYTES), 1, Stage::Handler, now);
        let expected = [format!("{}…", "ü".repeat(64)), format!("x{}…", "ü".repeat(63)), "x".repeat(MAX_ID_BYTES)];
        assert_eq!(ids(&in_flight, now), expected);
    }
}
