//! The bound on what is in flight: messages and bytes, shared by all streams of a server.
//!
//! Messages are counted while their handler has them, bytes from when a message is read until its answer is handed to
//! HTTP/2. The peer decides when the second happens, because hyper does not poll the body of a stream whose peer reads
//! slowly; so a stream that is not read must not take what the others need. That is why a stream that finds no room leaves
//! its waker and looks again when some comes back, instead of queueing for a permit that would then be nobody's; why what
//! one stream holds is bounded by what is left for the others ([`SHARE`]); and why a stream that holds nothing always gets
//! its turn.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

mod adaptive;
mod max_in_flight;

pub use max_in_flight::MaxInFlight;

use adaptive::Adaptive;

/// What a message takes besides what it was sent as: our own bookkeeping, roughly.
const OVERHEAD: usize = 256;
/// A stream that holds something may hold this many times what is free. One stream alone gets 8/9 of all bytes, two get
/// 8/17 each: whoever comes next finds something.
const SHARE: usize = 8;

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
    /// The streams that found no room, in the order in which they came.
    waiting: Vec<Waker>,
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
            waiting: Vec::new(),
        };
        Self { shared: Arc::new(Shared { room: Mutex::new(room), max_bytes, adapts }) }
    }

    /// A stream's part in the limits.
    pub(crate) fn share(&self) -> Share {
        let stream = Stream { limits: self.clone(), bytes: AtomicUsize::new(0), oversize: AtomicBool::new(false) };
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
            wake(guard);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        // Nothing panics while it holds the lock.
        self.shared.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes all who wait, after the lock is given up: most often nobody does, and then this costs nothing.
fn wake(mut room: MutexGuard<'_, Room>) {
    if room.waiting.is_empty() {
        return;
    }
    let waiting = std::mem::take(&mut room.waiting);
    drop(room);
    for waker in waiting {
        waker.wake();
    }
}

impl Room {
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn give_back(&mut self, hold: &Hold) {
        if hold.oversize {
            self.oversize = false;
            hold.stream.oversize.store(false, Relaxed);
        } else {
            self.bytes -= hold.bytes;
        }
        hold.stream.bytes.fetch_sub(hold.bytes, Relaxed);
    }
}

/// One stream's part in the limits of its server.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    stream: Arc<Stream>,
}

/// The fields are changed under the lock of the room only.
#[derive(Debug)]
struct Stream {
    limits: Limits,
    bytes: AtomicUsize,
    oversize: AtomicBool,
}

impl Share {
    /// Leave for one more message to be with its handler. Not kept where there is none: an idle stream holds nothing.
    pub(crate) fn poll_permit(&self, cx: &Context<'_>) -> Poll<Permit> {
        let mut room = self.stream.limits.lock();
        if room.messages >= room.max_messages {
            return room.wait(cx);
        }
        room.messages += 1;
        room.peak = room.peak.max(room.messages);
        Poll::Ready(Permit { limits: self.stream.limits.clone() })
    }

    /// A permit beyond the limit, for the other messages of a batch that was begun.
    pub(crate) fn permit_beyond(&self) -> Permit {
        self.stream.limits.lock().messages += 1;
        Permit { limits: self.stream.limits.clone() }
    }

    /// Leave to keep a message of `size` bytes.
    pub(crate) fn poll_hold(&self, size: usize, cx: &Context<'_>) -> Poll<Hold> {
        let cost = cost(size);
        let mut room = self.stream.limits.lock();
        let held = self.stream.bytes.load(Relaxed);
        let free = self.stream.limits.shared.max_bytes.saturating_sub(room.bytes);
        let fits = cost <= free && held.saturating_add(cost) <= SHARE.saturating_mul(free - cost);
        let oversize = if held == 0 && cost <= free || fits && !self.stream.oversize.load(Relaxed) {
            false
        } else if held == 0 && !room.oversize {
            true
        } else {
            return room.wait(cx);
        };
        if oversize {
            room.oversize = true;
            self.stream.oversize.store(true, Relaxed);
        } else {
            room.bytes += cost;
        }
        self.stream.bytes.store(held + cost, Relaxed);
        Poll::Ready(Hold { stream: self.stream.clone(), bytes: cost, oversize })
    }

    /// Leave beyond the limit, for the other messages of a batch that was begun.
    pub(crate) fn hold_beyond(&self, size: usize) -> Hold {
        let hold = Hold { stream: self.stream.clone(), bytes: cost(size), oversize: false };
        let mut room = self.stream.limits.lock();
        room.bytes += hold.bytes;
        self.stream.bytes.fetch_add(hold.bytes, Relaxed);
        hold
    }
}

fn cost(size: usize) -> usize {
    size.saturating_add(OVERHEAD)
}

/// Leave for one message to be with its handler; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut room = self.limits.lock();
        room.messages -= 1;
        wake(room);
    }
}

/// Leave to keep the bytes of one message, then of its answer; given back when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    stream: Arc<Stream>,
    bytes: usize,
    oversize: bool,
}

impl Hold {
    /// Whether a message of this size needs no more than is held already.
    pub(crate) fn covers(&self, size: usize) -> bool {
        cost(size) <= self.bytes
    }

    /// The handler is done with the message: from here on it is the answer that is held, whatever its size.
    pub(crate) fn becomes_answer(&mut self, size: usize) {
        let cost = cost(size);
        let mut room = self.stream.limits.lock();
        room.give_back(self);
        room.bytes += cost;
        self.stream.bytes.fetch_add(cost, Relaxed);
        (self.bytes, self.oversize) = (cost, false);
        wake(room);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut room = self.stream.limits.lock();
        room.give_back(self);
        wake(room);
    }
}

const MIB: usize = 1 << 20;

/// A quarter of the container's memory limit, between 64 and 256 MiB; 256 MiB where there is no limit. With what it was
/// taken from. Read from the cgroup: `NUMAFLOW_MEMORY_LIMIT` is the whole node where no limit is set.
pub(crate) fn default_max_bytes() -> (usize, String) {
    let limit = memory_limit();
    let origin = match limit {
        Some(limit) => format!("from the memory limit of {} MiB", limit / MIB),
        None => "default without a memory limit".to_owned(),
    };
    (share_of(limit), origin)
}

/// The most bytes of a batch that is collected for one call: half of the container's memory limit, between 128 and
/// 512 MiB, which is also what it is without a limit. A batch of the platform's default size (500) may have messages of a
/// megabyte on average then.
pub(crate) fn default_max_batch_bytes() -> usize {
    2 * share_of(memory_limit())
}

fn memory_limit() -> Option<usize> {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse().ok())
}

fn share_of(memory_limit: Option<usize>) -> usize {
    memory_limit.map_or(256 * MIB, |limit| (limit / 4).clamp(64 * MIB, 256 * MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_a_quarter_within_bounds() {
        assert_eq!(share_of(None), 256 * MIB);
        assert_eq!(share_of(Some(100 * MIB)), 64 * MIB);
        assert_eq!(share_of(Some(512 * MIB)), 128 * MIB);
        assert_eq!(share_of(Some(usize::MAX)), 256 * MIB);
    }
}
