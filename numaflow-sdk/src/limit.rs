//! The bound on what is in flight: messages and bytes, shared by all streams of a server.
//!
//! Messages are counted while their handler has them, bytes from when a message is read until its answer is handed to
//! HTTP/2. The peer decides when the second happens, because hyper does not poll the body of a stream whose peer reads
//! slowly; so a stream that is not read must not take what the others need. That is why a stream that finds no room is only
//! woken when some comes back, and looks again, instead of being given a permit that would then be nobody's; why what
//! one stream holds is bounded by what is left for the others ([`SHARE`]); and why a stream that holds nothing gets its turn
//! also where nothing is left, one stream at a time until its handler has finished. Bytes can exceed their limit by that
//! one message, by what each peer leaves unread of its own answers, by a quarter for messages that are being received, and
//! by the batches that are collected, which have a limit of their own.
//!
//! Those who wait are woken in the order in which they came, as many as there is room for: see [`line`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

mod adaptive;
mod line;
mod max_in_flight;

pub use max_in_flight::MaxInFlight;

use adaptive::Adaptive;
use line::{Line, Need, Place};

/// What a message takes besides what it was sent as: our own bookkeeping, roughly.
const OVERHEAD: usize = 256;
/// A stream that holds something may hold this many times what is free. One stream alone gets 8/9 of all bytes, two get
/// 8/17 each: whoever comes next finds something.
const SHARE: usize = 8;
/// The part of all bytes that messages which are being received may have besides: a quarter.
const RECEIVING: usize = 4;
/// The part of what all batches may have that small ones may have besides, shared by as many as there are: a quarter.
const SMALL_BATCHES: usize = 4;

/// The two limits of a server.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    room: Mutex<Room>,
    max_bytes: usize,
    /// Whether the limit of messages moves.
    adapts: bool,
}

#[derive(Debug)]
struct Room {
    max_messages: usize,
    /// Where the limit of messages comes from, if it moves.
    adaptive: Option<Adaptive>,
    /// The messages that handlers have.
    messages: usize,
    /// The most of them since a latency was last observed.
    peak: usize,
    /// The bytes held, but for those of the oversize admission.
    bytes: usize,
    /// Whether a message is in hand that was admitted although there was no room for its bytes.
    oversize: bool,
    /// The bytes of messages that are being received, which are not among the others: a peer that begins one and does not
    /// go on keeps nobody from anything but large messages.
    receiving: usize,
    /// Whether a message is being received that may have more than there is room for: if all waited for each other, none
    /// would ever be whole.
    leader: bool,
    /// The bytes of the batches that are collected, until their handlers have finished; they are among the bytes held.
    collected: usize,
    /// How many batches that are.
    batches: usize,
    /// Those who wait, for one thing at a time, so that giving back the other does not wake them for nothing: for leave to
    /// start a handler, to keep a message, and to receive more of one.
    for_permits: Line,
    for_holds: Line,
    for_receiving: Line,
}

/// What is in flight, as far as the limits count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) messages: usize,
    pub(crate) max_messages: usize,
    pub(crate) bytes: usize,
    pub(crate) max_bytes: usize,
    /// Whether the limit of messages moves.
    pub(crate) adapts: bool,
}

impl Limits {
    /// Both must be above zero.
    pub(crate) fn new(max_in_flight: MaxInFlight, max_bytes: usize) -> Self {
        let adaptive = match max_in_flight {
            MaxInFlight::Fixed(_) => None,
            MaxInFlight::Adaptive { floor, ceiling } => Some(Adaptive::new(floor, ceiling)),
        };
        let adapts = adaptive.is_some();
        let room = Room {
            max_messages: max_in_flight.first(),
            adaptive,
            messages: 0,
            peak: 0,
            bytes: 0,
            oversize: false,
            receiving: 0,
            leader: false,
            collected: 0,
            batches: 0,
            for_permits: Line::default(),
            for_holds: Line::default(),
            for_receiving: Line::default(),
        };
        Self { shared: Arc::new(Shared { room: Mutex::new(room), max_bytes, adapts }) }
    }

    /// A stream's part in the limits.
    pub(crate) fn share(&self) -> Share {
        let stream = Stream {
            limits: self.clone(),
            held: Arc::default(),
            for_permit: Place::default(),
            for_hold: Place::default(),
            for_receiving: Place::default(),
            paused: AtomicUsize::new(0),
            resumed: AtomicWaker::new(),
        };
        Share { stream: Arc::new(stream) }
    }

    pub(crate) fn usage(&self) -> Usage {
        let room = self.lock();
        Usage {
            messages: room.messages,
            max_messages: room.max_messages,
            bytes: room.bytes,
            max_bytes: self.shared.max_bytes,
            adapts: self.shared.adapts,
        }
    }

    /// A handler that waited has answered, so long after it began. Moves the limit of messages, if it is to move; those
    /// above a lower one finish in their own time.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        if !self.shared.adapts {
            return;
        }
        let mut guard = self.lock();
        let room = &mut *guard;
        let Some(adaptive) = &mut room.adaptive else { return };
        // Handlers that began together end together: when their latencies are looked at, none of them may be left.
        let peak = std::mem::replace(&mut room.peak, room.messages);
        adaptive.observe(latency, peak, now);
        let before = std::mem::replace(&mut room.max_messages, adaptive.limit());
        if room.max_messages > before {
            self.wake(guard, Room::wake_for_permit);
        }
    }

    /// To be called now and then, at intervals in which anybody who is woken surely looks. Room that was promised to a
    /// stream which does not look is offered to all others.
    pub(crate) fn pass_time(&self) {
        let mut room = self.lock();
        let Room { for_permits, for_holds, for_receiving, .. } = &mut *room;
        let lines = [for_permits, for_holds, for_receiving].map(Line::pass_time);
        drop(room);
        lines.into_iter().flatten().for_each(Waker::wake);
    }

    /// Wakes those for whom there is room now, after the lock is given up: most often nobody waits.
    fn wake(&self, mut room: MutexGuard<'_, Room>, next: fn(&mut Room, usize) -> Option<Waker>) {
        let max_bytes = self.shared.max_bytes;
        let Some(first) = next(&mut room, max_bytes) else { return };
        let others: Vec<_> = std::iter::from_fn(|| next(&mut room, max_bytes)).collect();
        drop(room);
        first.wake();
        others.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        // Nothing panics while it holds the lock.
        self.shared.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// The next one to be woken for a permit.
    fn wake_for_permit(&mut self, _max_bytes: usize) -> Option<Waker> {
        let free = self.max_messages.saturating_sub(self.messages);
        if free > self.for_permits.promised() { self.for_permits.wake(|_| true) } else { None }
    }

    /// The next one to be woken because there are bytes for its message.
    fn wake_for_hold(&mut self, max_bytes: usize) -> Option<Waker> {
        let free = max_bytes.saturating_sub(self.bytes).saturating_sub(self.for_holds.promised());
        let may_exceed = !self.oversize && self.for_holds.nobody_woken();
        self.for_holds.wake(|Need { amount, held }| {
            held.as_ref().is_some_and(|held| admission(held, *amount, free, may_exceed).is_some())
        })
    }

    /// The next one to be woken to receive more of a message.
    fn wake_for_receiving(&mut self, max_bytes: usize) -> Option<Waker> {
        let received = self.receiving.saturating_add(self.for_receiving.promised());
        let may_lead = !self.leader && self.for_receiving.nobody_woken();
        self.for_receiving.wake(|need| may_lead || received.saturating_add(need.amount) <= max_bytes / RECEIVING)
    }

    /// The bytes of all batches with `more` of one that has `own` with it.
    ///
    /// # Errors
    ///
    /// Where they are more than `limit` and the batch is not a small one.
    fn collect(&self, own: usize, more: usize, limit: usize) -> Result<usize, BatchesFull> {
        let all = self.collected + more;
        if all > limit && own > limit / SMALL_BATCHES / self.batches.max(1) {
            return Err(BatchesFull { own, all });
        }
        Ok(all)
    }

    fn give_back(&mut self, hold: &Hold) {
        let held = &hold.stream.held;
        if hold.oversize > 0 {
            self.oversize = false;
            held.oversize.store(false, Relaxed);
        }
        self.bytes -= hold.bytes;
        held.bytes.fetch_sub(hold.bytes + hold.oversize, Relaxed);
        if hold.batch {
            self.collected -= hold.bytes + hold.oversize;
            self.batches -= 1;
        }
    }
}

/// Whether a stream that holds this may hold `cost` more where so much is free; and if so, whether beyond that. `may_exceed`
/// says whether nobody else does.
fn admission(held: &Bytes, cost: usize, free: usize, may_exceed: bool) -> Option<Admission> {
    let bytes = held.bytes.load(Relaxed);
    let fits = cost <= free && bytes.saturating_add(cost) <= SHARE.saturating_mul(free - cost);
    if bytes == 0 && cost <= free || fits && !held.oversize.load(Relaxed) {
        Some(Admission::Within)
    } else if bytes == 0 && may_exceed {
        Some(Admission::Oversize)
    } else {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Within,
    /// Although there was no room for it.
    Oversize,
}

/// One stream's part in the limits of its server.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    stream: Arc<Stream>,
}

/// What a stream holds. Changed under the lock of the room only.
#[derive(Debug, Default)]
struct Bytes {
    bytes: AtomicUsize,
    oversize: AtomicBool,
}

/// The fields are changed under the lock of the room only.
#[derive(Debug)]
struct Stream {
    limits: Limits,
    held: Arc<Bytes>,
    for_permit: Place,
    for_hold: Place,
    for_receiving: Place,
    /// Its handlers that stand still without a permit, because its peer takes nothing in.
    paused: AtomicUsize,
    /// Woken when none of them stands still any more.
    resumed: AtomicWaker,
}

impl Stream {
    fn is_in_line(&self) -> bool {
        [&self.for_permit, &self.for_hold, &self.for_receiving].into_iter().any(Place::is_in_line)
    }

    fn leave_line(&self) {
        let leave = |line: fn(&mut Room) -> &mut Line, place: &Place, next: fn(&mut Room, usize) -> Option<Waker>| {
            if place.is_in_line() {
                let mut room = self.limits.lock();
                if line(&mut room).leave(place) {
                    self.limits.wake(room, next);
                }
            }
        };
        leave(|room| &mut room.for_permits, &self.for_permit, Room::wake_for_permit);
        leave(|room| &mut room.for_holds, &self.for_hold, Room::wake_for_hold);
        leave(|room| &mut room.for_receiving, &self.for_receiving, Room::wake_for_receiving);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.leave_line();
    }
}

/// The batches of a server would have too many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchesFull {
    /// The bytes of the batch at hand.
    pub(crate) own: usize,
    /// Those of all batches.
    pub(crate) all: usize,
}

impl Share {
    /// Whether the stream is woken when there is room that it has asked for.
    pub(crate) fn is_in_line(&self) -> bool {
        self.stream.is_in_line()
    }

    /// The stream does not look again when it is woken, but by itself, and others need not wait for it. It keeps its place.
    pub(crate) fn leave_line(&self) {
        self.stream.leave_line();
    }

    /// Leave for one more message to be with its handler. Not kept where there is none: an idle stream holds nothing. A
    /// stream whose handlers stand still starts no others, so it never has more of both together than the limit.
    pub(crate) fn poll_permit(&self, cx: &Context<'_>) -> Poll<Permit> {
        let stream = &*self.stream;
        let mut room = stream.limits.lock();
        if stream.paused.load(Relaxed) > 0 {
            stream.resumed.register(cx.waker());
            if room.for_permits.leave(&stream.for_permit) {
                stream.limits.wake(room, Room::wake_for_permit);
            }
            return Poll::Pending;
        }
        poll_permit(&stream.limits, room, &stream.for_permit, cx)
    }

    /// Gives a permit back for as long as its handler can't go on until the peer takes something in. Otherwise one peer
    /// that does not read could keep the permits of all others.
    pub(crate) fn pause(&self, permit: Permit) -> Paused {
        let room = self.stream.limits.lock();
        self.stream.paused.fetch_add(1, Relaxed);
        drop(room);
        drop(permit);
        Paused { stream: self.stream.clone(), place: Place::default() }
    }

    /// A permit beyond the limit.
    pub(crate) fn permit_beyond(&self) -> Permit {
        self.stream.limits.lock().messages += 1;
        Permit { limits: self.stream.limits.clone(), messages: 1 }
    }

    /// Leave to keep a message of `size` bytes.
    pub(crate) fn poll_hold(&self, size: usize, cx: &Context<'_>) -> Poll<Hold> {
        let cost = cost(size);
        let stream = &*self.stream;
        let max_bytes = stream.limits.shared.max_bytes;
        let mut room = stream.limits.lock();
        let free = max_bytes.saturating_sub(room.bytes);
        let Some(admission) = admission(&stream.held, cost, free, !room.oversize) else {
            let need = Need { amount: cost, held: Some(stream.held.clone()) };
            if room.for_holds.wait(&stream.for_hold, need, cx.waker()) {
                stream.limits.wake(room, Room::wake_for_hold);
            }
            return Poll::Pending;
        };
        let was_woken = room.for_holds.served(&stream.for_hold);
        stream.held.bytes.fetch_add(cost, Relaxed);
        let mut hold = Hold { stream: self.stream.clone(), bytes: 0, oversize: 0, batch: false };
        match admission {
            Admission::Within => {
                room.bytes += cost;
                hold.bytes = cost;
            }
            Admission::Oversize => {
                room.oversize = true;
                stream.held.oversize.store(true, Relaxed);
                hold.oversize = cost;
            }
        }
        if was_woken {
            stream.limits.wake(room, Room::wake_for_hold);
        }
        Poll::Ready(hold)
    }

    /// What is being received; nothing at first.
    pub(crate) fn receiving(&self) -> Receiving {
        Receiving { stream: self.stream.clone(), bytes: 0, leads: false }
    }

    /// Leave beyond the limit, for what is there already.
    pub(crate) fn hold_beyond(&self, size: usize) -> Hold {
        let hold = Hold { stream: self.stream.clone(), bytes: cost(size), oversize: 0, batch: false };
        let mut room = self.stream.limits.lock();
        room.bytes += hold.bytes;
        self.stream.held.bytes.fetch_add(hold.bytes, Relaxed);
        hold
    }

    /// Leave beyond the limit for one more message of a batch that was begun, whose first message has `permit` and `hold`.
    ///
    /// # Errors
    ///
    /// Where all batches together are larger than `limit` with it. A small one may go on all the same: else a peer that does
    /// not complete a large one could keep the others from completing theirs.
    pub(crate) fn add_to_batch(
        &self,
        permit: &mut Permit,
        hold: &mut Hold,
        size: usize,
        limit: usize,
    ) -> Result<(), BatchesFull> {
        let cost = cost(size);
        let mut room = self.stream.limits.lock();
        let all = room.collect(hold.bytes + hold.oversize + cost, cost, limit)?;
        room.messages += 1;
        permit.messages += 1;
        room.bytes += cost;
        room.collected = all;
        hold.bytes += cost;
        self.stream.held.bytes.fetch_add(cost, Relaxed);
        Ok(())
    }

    /// A count of the bytes that have arrived of a message of a batch; it begins at zero.
    pub(crate) fn arriving(&self) -> Arriving {
        Arriving { limits: self.stream.limits.clone(), bytes: 0 }
    }
}

/// A permit, or a place in line for one.
fn poll_permit(limits: &Limits, mut room: MutexGuard<'_, Room>, place: &Place, cx: &Context<'_>) -> Poll<Permit> {
    if room.messages >= room.max_messages {
        room.for_permits.wait(place, Need { amount: 1, held: None }, cx.waker());
        return Poll::Pending;
    }
    room.for_permits.served(place);
    room.messages += 1;
    room.peak = room.peak.max(room.messages);
    Poll::Ready(Permit { limits: limits.clone(), messages: 1 })
}

fn cost(size: usize) -> usize {
    size.saturating_add(OVERHEAD)
}

/// Leave for a message to be with its handler, or for those of a batch; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
    messages: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut room = self.limits.lock();
        room.messages -= self.messages;
        self.limits.wake(room, Room::wake_for_permit);
    }
}

/// A handler that stands still without its permit.
#[derive(Debug)]
pub(crate) struct Paused {
    stream: Arc<Stream>,
    place: Place,
}

impl Paused {
    /// A permit for the handler to go on with, as soon as there is one. What was paused is over when it is dropped.
    pub(crate) fn poll_resume(&self, cx: &Context<'_>) -> Poll<Permit> {
        let limits = &self.stream.limits;
        poll_permit(limits, limits.lock(), &self.place, cx)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let limits = &self.stream.limits;
        let mut room = limits.lock();
        let was_woken = room.for_permits.leave(&self.place);
        let last = self.stream.paused.fetch_sub(1, Relaxed) == 1;
        if was_woken {
            limits.wake(room, Room::wake_for_permit);
        } else {
            drop(room);
        }
        if last {
            self.stream.resumed.wake();
        }
    }
}

/// Leave to keep the bytes of the messages of one call, then of their answers; given back when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    stream: Arc<Stream>,
    bytes: usize,
    /// Those that there was no room for.
    oversize: usize,
    /// Whether they are those of a batch that is collected.
    batch: bool,
}

impl Hold {
    /// Whether a message of this size needs no more than is held already.
    pub(crate) fn covers(&self, size: usize) -> bool {
        cost(size) <= self.bytes + self.oversize
    }

    /// The message is the first one of a batch that is collected.
    pub(crate) fn begins_batch(&mut self) {
        let mut room = self.stream.limits.lock();
        self.batch = true;
        room.batches += 1;
        room.collected += self.bytes + self.oversize;
    }

    /// The message keeps this much in memory, whether there is room for it or not.
    pub(crate) fn grow_to(&mut self, size: usize) {
        let more = cost(size).saturating_sub(self.bytes + self.oversize);
        if more > 0 {
            let mut room = self.stream.limits.lock();
            room.bytes += more;
            room.collected += if self.batch { more } else { 0 };
            self.bytes += more;
            self.stream.held.bytes.fetch_add(more, Relaxed);
        }
    }

    /// The handler is done with the message: from here on it is the answer that is held, whatever its size.
    pub(crate) fn becomes_answer(&mut self, size: usize) {
        let cost = cost(size);
        let limits = &self.stream.limits;
        let mut room = limits.lock();
        room.give_back(self);
        room.bytes += cost;
        self.stream.held.bytes.fetch_add(cost, Relaxed);
        (self.bytes, self.oversize, self.batch) = (cost, 0, false);
        limits.wake(room, Room::wake_for_hold);
    }

    /// Takes over what is held for other answers of the same stream.
    pub(crate) fn merge(&mut self, mut other: Self) {
        debug_assert!(!other.batch && other.oversize == 0, "handlers have finished with what is merged");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.bytes + self.oversize > 0 {
            let limits = &self.stream.limits;
            let mut room = limits.lock();
            room.give_back(self);
            limits.wake(room, Room::wake_for_hold);
        }
    }
}

/// What has been received of a message that is not whole; given back when dropped. Counted as it arrives: what a peer
/// announces and does not send costs nothing.
#[derive(Debug)]
pub(crate) struct Receiving {
    stream: Arc<Stream>,
    bytes: usize,
    leads: bool,
}

impl Receiving {
    /// Leave to have received this much of it.
    pub(crate) fn poll_grow(&mut self, size: usize, cx: &Context<'_>) -> Poll<()> {
        let more = size.saturating_sub(self.bytes);
        if more == 0 {
            return Poll::Ready(());
        }
        let Stream { limits, for_receiving, .. } = &*self.stream;
        let mut room = limits.lock();
        if !self.leads && room.receiving + more > limits.shared.max_bytes / RECEIVING {
            if room.leader {
                if room.for_receiving.wait(for_receiving, Need { amount: more, held: None }, cx.waker()) {
                    limits.wake(room, Room::wake_for_receiving);
                }
                return Poll::Pending;
            }
            room.leader = true;
            self.leads = true;
        }
        let was_woken = room.for_receiving.served(for_receiving);
        room.receiving += more;
        self.bytes += more;
        if was_woken {
            limits.wake(room, Room::wake_for_receiving);
        }
        Poll::Ready(())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.bytes == 0 && !self.leads {
            return;
        }
        let limits = &self.stream.limits;
        let mut room = limits.lock();
        room.receiving -= self.bytes;
        if self.leads {
            room.leader = false;
        }
        limits.wake(room, Room::wake_for_receiving);
    }
}

/// What has been received of a message that is not whole, and belongs to a batch which was begun: it counts among the batches and
/// waits for nothing. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Arriving {
    limits: Limits,
    bytes: usize,
}

impl Arriving {
    /// This much of the message is there; the batch has `collected` bytes without it.
    ///
    /// # Errors
    ///
    /// As those of [`Share::add_to_batch`].
    pub(crate) fn grow_to(&mut self, size: usize, collected: usize, limit: usize) -> Result<(), BatchesFull> {
        let more = size.saturating_sub(self.bytes);
        let mut room = self.limits.lock();
        room.collected = room.collect(collected.saturating_add(size), more, limit)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.limits.lock().collected -= self.bytes;
    }
}

const MIB: usize = 1 << 20;

/// A quarter of the container's memory limit, between 64 and 256 MiB but never more than half of the limit; 256 MiB where
/// there is no limit. With what it was taken from. Read from the cgroup: `NUMAFLOW_MEMORY_LIMIT` is the whole node where no limit is set.
pub(crate) fn default_max_bytes() -> (usize, String) {
    let limit = memory_limit();
    let origin = match limit {
        Some(limit) => format!("from the memory limit of {} MiB", limit / MIB),
        None => "default without a memory limit".to_owned(),
    };
    (share_of(limit), origin)
}

/// The most bytes in flight of a server that is told nothing else: a quarter of the container's memory limit, at least 64
/// MiB (in a container with less than 128 MiB, half of its limit) and at most 256 MiB, which is also what it is without a
/// memory limit.
///
/// It is what [`Server::max_in_flight_bytes`](crate::Server::max_in_flight_bytes) is by default. A source that holds
/// messages before they are read takes it for its own bound.
#[must_use]
pub fn default_max_in_flight_bytes() -> usize {
    share_of(memory_limit())
}

/// The most bytes of all batches that are collected for one call each: half of the container's memory limit, at least
/// 128 MiB (in a container with less, its limit) and at most 512 MiB, which is also what it is without a limit. A batch of
/// the platform's default size (500) may have messages of a megabyte on average then.
pub(crate) fn default_max_batch_bytes() -> usize {
    2 * share_of(memory_limit())
}

/// Says in the log that a container's memory has no room for what may be in flight in it: nothing else tells of it before
/// the container is killed.
pub(crate) fn warn_beyond_memory(max_bytes: usize) {
    if let Some(limit) = memory_limit()
        && max_bytes > limit
    {
        crate::logging::warn!(
            max_in_flight_bytes = max_bytes,
            memory_limit = limit,
            "more bytes may be in flight than the container may have, which will be killed then: lower max-in-flight-bytes, or \
             raise the container's memory limit"
        );
    }
}

fn memory_limit() -> Option<usize> {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse().ok())
        // The older hierarchy says eight exbibytes where there is no limit.
        .filter(|limit| *limit < 1 << 50)
}

fn share_of(memory_limit: Option<usize>) -> usize {
    memory_limit.map_or(256 * MIB, |limit| (limit / 4).clamp(64 * MIB, 256 * MIB).min(limit / 2).max(1))
}

#[cfg(test)]
mod tests;
