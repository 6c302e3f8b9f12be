//! The batch that a read fills while the stream sends it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::message::EncodedMessage;

/// How much a batch holds before `push` waits for the stream to take it.
const ROOM: usize = 1 << 20;

/// The messages of one read. They leave while the read goes on; the end of the batch is the server's to send.
#[derive(Debug)]
pub struct Batch {
    shared: Arc<Shared>,
    remaining: usize,
    deadline: Instant,
}

/// The batch already holds as many messages as were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFull;

impl fmt::Display for BatchFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch already holds as many messages as were asked for")
    }
}

impl std::error::Error for BatchFull {}

impl Batch {
    /// Adds a message, waiting for room while the peer does not take what is there.
    ///
    /// # Errors
    ///
    /// [`BatchFull`] once there are as many messages as the request asked for; the message is not taken then, so ask
    /// [`Batch::is_full`] before taking one from where it comes from.
    ///
    /// # Cancel safety
    ///
    /// A push that is dropped while it waits has not added the message.
    pub async fn push(&mut self, message: impl Into<EncodedMessage>) -> Result<(), BatchFull> {
        if self.remaining == 0 {
            return Err(BatchFull);
        }
        let mut message = Some(message.into());
        poll_fn(|cx| self.shared.poll_push(cx, &mut message)).await;
        self.remaining -= 1;
        Ok(())
    }

    /// How many more messages the batch takes.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Whether the batch holds as many messages as were asked for.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.remaining == 0
    }

    /// What is left of the request's timeout; zero once it is over.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Lets this batch end as soon as the read returns, even when it is empty and there is time left. For a source that
    /// wants the platform's attention for something else, such as acks that wait; the platform asks again at once, so a
    /// source that does this must wait a little itself.
    pub fn end_early(&mut self) {
        self.shared.lock().may_end_early = true;
    }
}

/// What the read and the stream share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    buffer: Mutex<Buffer>,
}

#[derive(Debug, Default)]
struct Buffer {
    messages: VecDeque<EncodedMessage>,
    bytes: usize,
    pushed_any: bool,
    may_end_early: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    /// A batch for one read and the side its stream takes messages from.
    pub(super) fn batch(count: usize, deadline: Instant) -> (Batch, Arc<Self>) {
        let shared = Arc::new(Self::default());
        (Batch { shared: shared.clone(), remaining: count, deadline }, shared)
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // Nothing panics while it holds the lock.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_push(&self, cx: &Context<'_>, message: &mut Option<EncodedMessage>) -> Poll<()> {
        let mut buffer = self.lock();
        if buffer.bytes >= ROOM {
            buffer.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(message) = message.take() {
            buffer.bytes += message.len();
            buffer.messages.push_back(message);
            buffer.pushed_any = true;
        }
        let reader = buffer.reader.take();
        drop(buffer);
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Ready(())
    }

    /// Swaps all that is there into `taken`, which must be empty. `Pending` where there is nothing yet.
    pub(super) fn poll_take(&self, cx: &Context<'_>, taken: &mut VecDeque<EncodedMessage>) -> Poll<()> {
        let mut buffer = self.lock();
        if buffer.messages.is_empty() {
            buffer.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut buffer.messages, taken);
        buffer.bytes = 0;
        let writer = buffer.writer.take();
        drop(buffer);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(())
    }

    /// Whether the batch may end now that its read has returned: it held something, or the source said so.
    pub(super) fn may_end(&self) -> bool {
        let buffer = self.lock();
        buffer.pushed_any || buffer.may_end_early
    }
}
