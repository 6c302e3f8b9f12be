//! The outputs of stream mode on their way from a handler to its stream.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, slice};

use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::wire;
use crate::Message;
use crate::limit::{Paused, Permit, Share};
use crate::text::Text;

/// The outputs that wait in a stream. What waits longer waits in its handler.
const QUEUED: usize = 64;
/// The bytes of outputs that wait in a stream, counted in units; an output above it waits alone.
const QUEUED_UNITS: usize = 256;
const UNIT: usize = 4 << 10;

/// One output, for the stream to send.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) id: Text,
    pub(super) message: Message,
    /// Its part of the bytes that may wait.
    _room: Option<OwnedSemaphorePermit>,
}

/// Where all handlers of a stream put their outputs.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    sender: mpsc::Sender<Output>,
    room: Arc<Semaphore>,
    share: Share,
    max_message_size: usize,
}

impl Sink {
    pub(super) fn new(share: Share, max_message_size: usize) -> (Self, mpsc::Receiver<Output>) {
        let (sender, receiver) = mpsc::channel(QUEUED);
        (Self { sender, room: Arc::new(Semaphore::new(QUEUED_UNITS)), share, max_message_size }, receiver)
    }

    /// Where the handler of one message puts its outputs.
    pub(super) fn outlet(&self, id: Text) -> Outlet {
        Outlet { sink: self.clone(), id, call: Arc::default() }
    }
}

/// What a handler's call and its outputs share.
#[derive(Debug, Default)]
struct Shared {
    used: AtomicBool,
    state: Mutex<State>,
}

/// How far a call is.
#[derive(Debug, Default)]
struct State {
    /// The permit of a call on a task, while it does not stand still.
    permit: Option<Permit>,
    /// The call is over, and its outputs, which may outlive it on a task of the user's, are neither sent nor counted.
    over: bool,
}

/// Where the handler of one message puts its outputs.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    sink: Sink,
    id: Text,
    call: Arc<Shared>,
}

impl Outlet {
    /// Whether an output has left, which cannot be taken back.
    pub(super) fn was_used(&self) -> bool {
        self.call.used.load(Relaxed)
    }

    /// Keeps the permit of the call, now that it goes on as a task, unless it is over.
    pub(super) fn keep(&self, permit: Option<Permit>) {
        let mut state = self.state();
        if !state.over {
            state.permit = permit;
        }
    }

    /// The call is over, and what is left of its permit is given back.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.over = true;
        let permit = state.permit.take();
        drop(state);
        drop(permit);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.call.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, message: Message) -> Result<(), SendError> {
        let (length, limit) =
            (wire::encoded_len(self.id.as_bytes(), slice::from_ref(&message)), self.sink.max_message_size);
        if length > limit {
            return Err(SendError::TooLarge { length, limit });
        }
        let mut standing = Standing { outlet: self, paused: None };
        let (place, room) = {
            let mut reserved = pin!(self.reserve(length));
            poll_fn(|cx| {
                let polled = reserved.as_mut().poll(cx);
                if polled.is_pending()
                    && let Some(permit) = self.state().permit.take()
                {
                    standing.paused = Some(self.sink.share.pause(permit));
                }
                polled
            })
            .await?
        };
        standing.go_on().await;
        // Locked until the output is in its place: none comes behind the end of its message.
        let state = self.state();
        if state.over {
            return Err(SendError::Closed);
        }
        self.call.used.store(true, Relaxed);
        place.send(Output { id: self.id.clone(), message, _room: room });
        Ok(())
    }

    /// A place for an output of this length, and its part of the bytes.
    async fn reserve(
        &self,
        length: usize,
    ) -> Result<(mpsc::Permit<'_, Output>, Option<OwnedSemaphorePermit>), SendError> {
        let units = (length / UNIT).min(QUEUED_UNITS);
        let room = match u32::try_from(units).unwrap_or(u32::MAX) {
            0 => None,
            units => Some(self.sink.room.clone().acquire_many_owned(units).await.map_err(|_| SendError::Closed)?),
        };
        let place = self.sink.sender.reserve().await.map_err(|_| SendError::Closed)?;
        Ok((place, room))
    }
}

/// The outlet of a call on a task, which is over when this goes, also where the task is aborted.
pub(super) struct UntilOver(Option<Outlet>);

impl UntilOver {
    pub(super) fn new(outlet: Option<Outlet>) -> Self {
        Self(outlet)
    }

    /// The call is over.
    pub(super) fn end(mut self) -> Option<Outlet> {
        self.0.take().inspect(Outlet::end)
    }
}

impl Drop for UntilOver {
    fn drop(&mut self) {
        if let Some(outlet) = &self.0 {
            outlet.end();
        }
    }
}

/// A handler that may stand still, and then has given its permit back.
struct Standing<'a> {
    outlet: &'a Outlet,
    paused: Option<Paused>,
}

impl Standing<'_> {
    /// Waits for a permit again, where it was given back.
    async fn go_on(&mut self) {
        if let Some(paused) = &self.paused {
            let permit = poll_fn(|cx| paused.poll_resume(cx)).await;
            self.outlet.keep(Some(permit));
            self.paused = None;
        }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        // The handler has given up waiting, or its stream is gone, and it runs on, room or not: then it is counted.
        if self.paused.is_some() {
            self.outlet.keep(Some(self.outlet.sink.share.permit_beyond()));
        }
    }
}

/// Takes the outputs of one message in stream mode, each of which leaves as soon as the peer has room for it.
#[derive(Debug)]
pub struct Outputs {
    outlet: Outlet,
}

impl Outputs {
    pub(super) fn new(outlet: Outlet) -> Self {
        Self { outlet }
    }

    /// Sends one output. Waits while the peer takes nothing in, so that a handler is never ahead of it by more than some
    /// dozens of outputs or a megabyte.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] when the stream has ended: the platform will send the message again, so the handler may as
    /// well stop. Also when the handler has returned, which has ended the message: outputs that were moved to a task are
    /// of use only as long as the handler waits for it. [`SendError::TooLarge`] for an output that the peer would not take.
    ///
    /// # Cancel safety
    ///
    /// When cancelled, the output was not sent.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        self.outlet.send(message.into()).await
    }
}

/// Why an output was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The stream has ended, or the handler has returned.
    Closed,
    /// The output is larger than the peer takes.
    TooLarge {
        /// Its length on the wire in bytes.
        length: usize,
        /// The most that a message may have.
        limit: usize,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str(
                "the stream has ended, whose messages the platform sends again, or the handler has returned",
            ),
            Self::TooLarge { length, limit } => {
                write!(f, "an output has {length} bytes, and the limit of this server is {limit}: send less at once")
            }
        }
    }
}

impl std::error::Error for SendError {}
