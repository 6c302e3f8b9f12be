//! How a stream reads: requests, as far as there is room for them, given to their handlers or collected for a batch.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use tonic::Status;

use super::{CHUNK, Kept, MapBody, Waiting};
use crate::frame::Message;
use crate::in_flight::{Entry, Stage};
use crate::limit::{BatchesFull, Permit};
use crate::map::core::{Meaning, Parts};
use crate::map::execution::Execution;
use crate::map::handler::{Handler, Request as _};
use crate::map::wire;
use crate::map::work::{Few, Held, Work};
use crate::metrics::{Outcome, add};
use crate::requests::Received;
use crate::text::Text;
use crate::{MapRequest, error};

/// A message that waits for room and has more than this in lists and tables is taken apart again when there is some: every
/// stream may have one that waits.
const KEPT_APART: usize = 64 << 10;

impl<H: Handler> MapBody<H> {
    /// Reads requests and starts their handlers; pending when nothing more can be read for now.
    pub(super) fn poll_input(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        while self.writer.len() < CHUNK && self.has_turn() {
            if let Some(not_ready) = &mut self.not_ready {
                // What its handler came to is told elsewhere.
                drop(ready!(Pin::new(not_ready).poll(cx)));
                self.not_ready = None;
            }
            // The message that waits may wait for the room that these have.
            self.run_next(cx);
            if !self.next.is_empty() {
                continue;
            }
            if let Some(waiting) = self.waiting.take() {
                if self.poll_room(waiting.size, cx).is_pending() {
                    self.waiting = Some(waiting);
                    return Poll::Pending;
                }
                let Waiting { id, message, size, pinned, receiving, entry } = waiting;
                self.pinned = pinned;
                self.start(id, message.into_request(), size, Some(entry), cx);
                drop(receiving);
                continue;
            }
            if !self.core.reads() {
                return Poll::Pending;
            }
            // A message is not read before it may be handled, but for a small one, which may be none, and for those of a
            // batch that was begun: two batches that were read in part would wait for each other.
            if self.permit.is_none()
                && self.batch.is_none()
                && !self.core.awaits_handshake()
                && ready!(self.requests.poll_needs_room(cx))
            {
                self.permit = Some(ready!(self.poll_permit(cx)));
            }
            let next = self.requests.poll_next(&self.share, self.batch.is_some(), cx);
            // It may wait for room to receive the rest of a large message.
            self.asked_for_room |= next.is_pending();
            if next.is_pending()
                && H::WHOLE_BATCH
                && let Err(status) = self.count_arrived()
            {
                self.refuse_batch(status, 0);
                continue;
            }
            match ready!(next) {
                Some(Ok(Received { message, receiving })) => {
                    self.receiving = receiving;
                    let polled = self.poll_received(&message, cx);
                    self.requests.restore(message);
                    ready!(polled);
                }
                Some(Err(status)) => self.stop(status),
                None => {
                    if let Err(fault) = self.core.half_closed() {
                        self.fail(error::map_fault(fault));
                    }
                    self.forget_batch();
                }
            }
        }
        Poll::Ready(())
    }

    /// Leave for a message to be with its handler.
    fn poll_permit(&mut self, cx: &TaskContext<'_>) -> Poll<Permit> {
        let permit = self.share.poll_permit(cx);
        if permit.is_pending() {
            self.asked_for_room = true;
            self.context.limit_reached();
        }
        permit
    }

    /// Decodes what was received and does what it means.
    fn poll_received(&mut self, message: &Message, cx: &mut TaskContext<'_>) -> Poll<()> {
        let size = message.bytes().len();
        let outlives = self.outlives();
        // Where the buffer that it lies in is not to be kept for it, it has its bytes for itself.
        let copied = outlives && 2 * size < message.pinned;
        let decoded = if copied {
            let copy = Bytes::copy_from_slice(message.bytes());
            wire::decode(&copy, &copy)
        } else {
            wire::decode(message.buffer(), message.bytes())
        };
        self.pinned = if outlives { 0 } else { message.pinned };
        let request = match decoded {
            Ok(request) => request,
            Err(problem) => {
                self.writer.tally.read(size);
                self.writer.tally.finished(Outcome::BadFrame, 1);
                self.stop(error::bad_message(&problem));
                return Poll::Ready(());
            }
        };
        let wire::Request { id, request, handshake, status } = request;
        match self.core.read(Parts { message: request.is_some(), handshake, status }) {
            Ok(Meaning::Handshake) => self.writer.handshake(),
            Ok(Meaning::EndOfBatch) => {
                if let Some(work) = self.batch.take() {
                    self.begin(work, cx);
                }
            }
            Ok(Meaning::Nothing) => {}
            Ok(Meaning::Message) => {
                self.writer.tally.read(size);
                // The rules say so only where there is one.
                let request = request.unwrap_or_default();
                let apart = request.allocated();
                let kept = if outlives && !copied { size.max(message.pinned) } else { size };
                let size = kept.saturating_add(apart);
                if self.poll_room(size, cx).is_ready() {
                    self.start(id, request, size, None, cx);
                } else {
                    let kept = if apart > KEPT_APART {
                        Kept::Frame(Bytes::copy_from_slice(message.bytes()))
                    } else {
                        Kept::Request(request)
                    };
                    self.wait(id, kept, size);
                    return Poll::Pending;
                }
            }
            Err(fault) => {
                self.writer.tally.read(size);
                self.writer.tally.finished(Outcome::BadFrame, 1);
                self.fail(error::map_fault(fault));
            }
        }
        Poll::Ready(())
    }

    /// Whether the next message stays in memory for longer than this poll, as far as that can be known.
    fn outlives(&mut self) -> bool {
        let waited = self.copies_left > 0;
        self.copies_left = self.copies_left.saturating_sub(1);
        match self.options.execution {
            Execution::Automatic => H::WHOLE_BATCH || self.heavy || self.order.is_some() || waited,
            Execution::Tasks | Execution::Blocking { .. } => true,
        }
    }

    /// Room for a message of this size to be with its handler. A batch that was begun needs none.
    #[inline]
    fn poll_room(&mut self, size: usize, cx: &TaskContext<'_>) -> Poll<()> {
        if H::WHOLE_BATCH && self.batch.is_some() {
            return Poll::Ready(());
        }
        // What is left from the message before may do. Nothing is kept while the rest is waited for: hyper may not poll
        // this stream for long, and then others would go without.
        if self.permit.is_none() {
            self.permit = Some(ready!(self.poll_permit(cx)));
        }
        if !self.hold.as_ref().is_some_and(|hold| hold.covers(size)) {
            self.hold = None;
            let hold = self.share.poll_hold(size, cx);
            if hold.is_pending() {
                self.asked_for_room = true;
                self.context.limit_reached();
            }
            self.hold = Some(ready!(hold));
        }
        Poll::Ready(())
    }

    /// Gives a message that there is room for to its handler.
    #[inline]
    fn start(&mut self, id: Text, request: MapRequest, size: usize, entry: Option<Entry>, cx: &mut TaskContext<'_>) {
        (self.receiving, self.arriving) = (None, None);
        if H::WHOLE_BATCH && self.batch.is_some() {
            return self.collect(id, request, size, entry);
        }
        let request = H::Request::one(request);
        if H::WHOLE_BATCH {
            if size > self.options.max_batch_bytes {
                return self.refuse_batch(error::batch_too_large(1, size, self.options.max_batch_bytes), 1);
            }
            let mut held = self.held(entry.unwrap_or_else(|| self.list(&id, size)));
            held.begins_batch();
            self.batch = Some(Work { ids: Few::One(id), request, held: Some(held), size });
        } else if self.order.is_some() {
            let held = self.held(entry.unwrap_or_else(|| self.list(&id, size)));
            self.begin(Work { ids: Few::One(id), request, held: Some(held), size }, cx);
        } else {
            let held = entry.map(|entry| self.held(entry));
            self.run(Work { ids: Few::One(id), request, held, size }, None, cx);
        }
    }

    /// Lists a message that does not run yet.
    pub(super) fn list(&self, id: &Text, size: usize) -> Entry {
        self.context.in_flight.enter(id.as_str(), size, Stage::Queued, self.now)
    }

    /// What the stream holds for the message at hand, for the message to take along.
    pub(super) fn held(&mut self, entry: Entry) -> Held {
        Held::new(self.permit.take(), self.hold.take(), Some(entry))
    }

    /// Keeps a message that there is no room for. Nothing else is read meanwhile.
    fn wait(&mut self, id: Text, message: Kept, size: usize) {
        let entry = self.list(&id, size);
        let (pinned, receiving) = (self.pinned, self.receiving.take());
        self.waiting = Some(Waiting { id, message, size, pinned, receiving, entry });
    }

    /// Adds a message to the batch that is being collected, whatever the limits say: a batch is read to its end.
    fn collect(&mut self, id: Text, request: MapRequest, size: usize, entry: Option<Entry>) {
        let entry = entry.unwrap_or_else(|| self.list(&id, size));
        let Some(batch) = &mut self.batch else { return };
        let (messages, limit) = (batch.ids.as_slice().len() + 1, self.options.max_batch_bytes);
        if let Some(held) = &mut batch.held
            && let Err(full) = held.add(&self.share, size, limit, entry)
        {
            return self.refuse_batch(too_large(messages, full, limit), 1);
        }
        batch.size = batch.size.saturating_add(size);
        batch.ids.push(id);
        batch.request.add(request);
    }

    /// Counts the bytes that have arrived of the next, incomplete message of the batch that is being collected.
    ///
    /// # Errors
    ///
    /// Where the batch is too large with it.
    fn count_arrived(&mut self) -> Result<(), Status> {
        let (Some(batch), arrived @ 1..) = (&self.batch, self.requests.arrived()) else { return Ok(()) };
        let (messages, limit) = (batch.ids.as_slice().len() + 1, self.options.max_batch_bytes);
        let arriving = self.arriving.get_or_insert_with(|| self.share.arriving());
        arriving.grow_to(arrived, batch.size, limit).map_err(|full| too_large(messages, full, limit))
    }

    /// Ends the stream for a batch that is too large with as many messages that were read and are not in it.
    fn refuse_batch(&mut self, status: Status, messages: usize) {
        self.core.forgot(messages);
        self.writer.tally.finished(Outcome::Cancelled, messages);
        add(&self.context.metrics.refused_batches, 1);
        if let Some(more) = self.options.told.refused_batches.pass(self.now) {
            let reason = status.message();
            crate::logging::warn!(
                more,
                "a batch is refused: {reason} (told once in 10 s; `more` others since the last time)"
            );
        }
        self.stop(status);
    }

    /// Forgets a batch that will not be complete: no answer is made up for what was not asked in full.
    pub(super) fn forget_batch(&mut self) {
        self.arriving = None;
        // Its first message may still wait for room.
        let waiting = if H::WHOLE_BATCH { self.waiting.take() } else { None };
        let collected = self.batch.take().map_or(0, |batch| batch.ids.as_slice().len());
        let messages = collected + usize::from(waiting.is_some());
        self.core.forgot(messages);
        self.writer.tally.finished(Outcome::Cancelled, messages);
    }
}

/// Why a batch is refused.
fn too_large(messages: usize, BatchesFull { own, all }: BatchesFull, limit: usize) -> Status {
    if own > limit { error::batch_too_large(messages, own, limit) } else { error::batches_too_large(all, limit) }
}
