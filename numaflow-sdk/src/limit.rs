//! The bound on what is in flight: messages and bytes, shared by all streams of a server.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a message takes besides its value: keys, id, headers and our own bookkeeping, roughly.
const OVERHEAD: usize = 256;

const NEVER_CLOSED: &str = "nobody closes these semaphores";

/// The two limits of a server.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

impl Limits {
    /// Both must be above zero.
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX);
        Self {
            messages: Arc::new(Semaphore::new(max_messages.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
        }
    }

    /// The permits that a message of this size needs; one larger than the limit takes all there are, and is in flight
    /// alone.
    fn cost(&self, size: usize) -> u32 {
        u32::try_from(size.saturating_add(OVERHEAD)).unwrap_or(u32::MAX).min(self.max_bytes)
    }
}

/// Leave for one message to be in flight; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _message: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

type Acquire = Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>;

/// One stream's place in the queue for permits. Waiters are served in order, so no stream starves another.
pub(crate) struct Admission {
    limits: Limits,
    acquire: Option<Acquire>,
}

#[expect(clippy::expect_used, reason = "a semaphore's acquire fails only when it was closed")]
impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, acquire: None }
    }

    /// Leave to read one message. Given back unused where no message is there yet: an idle stream holds nothing.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        if self.acquire.is_none()
            && let Ok(permit) = self.limits.messages.clone().try_acquire_owned()
        {
            return Poll::Ready(permit);
        }
        let messages = &self.limits.messages;
        let acquire = self.acquire.get_or_insert_with(|| {
            let messages = messages.clone();
            Box::pin(async move { messages.acquire_owned().await.expect(NEVER_CLOSED) })
        });
        let permit = ready!(acquire.as_mut().poll(cx));
        self.acquire = None;
        Poll::Ready(permit)
    }

    /// Leave to keep a message of `size` bytes, which has been read. To be called until it is ready.
    pub(crate) fn poll_bytes(&mut self, size: usize, cx: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        let cost = self.limits.cost(size);
        if self.acquire.is_none()
            && let Ok(permit) = self.limits.bytes.clone().try_acquire_many_owned(cost)
        {
            return Poll::Ready(permit);
        }
        let bytes = &self.limits.bytes;
        let acquire = self.acquire.get_or_insert_with(|| {
            let bytes = bytes.clone();
            Box::pin(async move { bytes.acquire_many_owned(cost).await.expect(NEVER_CLOSED) })
        });
        let permit = ready!(acquire.as_mut().poll(cx));
        self.acquire = None;
        Poll::Ready(permit)
    }
}

impl Permit {
    pub(crate) fn new(message: OwnedSemaphorePermit, bytes: OwnedSemaphorePermit) -> Self {
        Self { _message: message, _bytes: bytes }
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
