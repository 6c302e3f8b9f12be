//! The bound on what is in flight: messages and bytes, shared by all streams of a server.
//!
//! A stream that finds no room leaves its waker and looks again when some comes back. It does not queue for a permit,
//! because hyper does not poll the body of a stream whose peer reads slowly: a permit that was handed to such a stream
//! would be nobody's, and all other streams would stand still.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a message takes besides what it was sent as: our own bookkeeping, roughly.
const OVERHEAD: usize = 256;

/// The two limits of a server.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    room: Arc<Mutex<Room>>,
    max_bytes: usize,
}

#[derive(Debug)]
struct Room {
    messages: usize,
    bytes: usize,
    /// The streams that found no room, in the order in which they came.
    waiting: Vec<Waker>,
}

impl Room {
    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }
}

impl Limits {
    /// Both must be above zero.
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let room = Room { messages: max_messages, bytes: max_bytes, waiting: Vec::new() };
        Self { room: Arc::new(Mutex::new(room)), max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        // Nothing panics while it holds the lock.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a message of this size takes; one larger than the limit takes all there is, and is in flight alone.
    fn cost(&self, size: usize) -> usize {
        size.saturating_add(OVERHEAD).min(self.max_bytes)
    }

    /// Leave to read one message. Given back unused where no message is there yet: an idle stream holds nothing.
    pub(crate) fn poll_message(&self, cx: &Context<'_>) -> Poll<Permit> {
        let mut room = self.lock();
        if room.messages == 0 {
            room.wait(cx);
            return Poll::Pending;
        }
        room.messages -= 1;
        Poll::Ready(Permit { limits: self.clone(), bytes: 0 })
    }
}

/// Leave for one message to be in flight; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
    bytes: usize,
}

impl Permit {
    /// Leave to keep a message of `size` bytes, which has been read.
    pub(crate) fn poll_bytes(&mut self, size: usize, cx: &Context<'_>) -> Poll<()> {
        let cost = self.limits.cost(size);
        let mut room = self.limits.lock();
        if room.bytes < cost {
            room.wait(cx);
            return Poll::Pending;
        }
        room.bytes -= cost;
        drop(room);
        self.bytes = cost;
        Poll::Ready(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut room = self.limits.lock();
        room.messages += 1;
        room.bytes += self.bytes;
        let waiting = std::mem::take(&mut room.waiting);
        drop(room);
        for waker in waiting {
            waker.wake();
        }
    }
}

const MIB: usize = 1 << 20;

/// A quarter of the container's memory limit, between 64 and 256 MiB; 256 MiB where there is no limit. With what it was
/// taken from. Read from the cgroup: `NUMAFLOW_MEMORY_LIMIT` is the whole node where no limit is set.
pub(crate) fn default_max_bytes() -> (usize, String) {
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse::<usize>().ok());
    let origin = match limit {
        Some(limit) => format!("from the memory limit of {} MiB", limit / MIB),
        None => "default without a memory limit".to_owned(),
    };
    (share_of(limit), origin)
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

    #[test]
    fn a_message_above_the_limit_takes_it_all() {
        let limits = Limits::new(1, 1000);
        assert_eq!(limits.cost(100), 100 + 256);
        assert_eq!(limits.cost(10_000), 1000);
        assert_eq!(limits.cost(usize::MAX), 1000);
    }
}
