//! How a stream reads: requests, as far as there is room for them, given to their handlers or collected for a batch.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;

use super::{CHUNK, MapBody, Waiting};
use crate::frame::Message;
use crate::in_flight::{Entry, Stage};
use crate::limit::Hold;
use crate::map::core::{Meaning, Parts};
use crate::map::execution::Execution;
use crate::map::handler::{Handler, Request as _};
use crate::map::requests::Received;
use crate::map::wire;
use crate::map::work::{Few, Held, Work};
use crate::metrics::Outcome;
use crate::text::Text;
use crate::{MapRequest, error};

/// What a key, a header or a value of metadata takes besides its bytes, roughly: its place and an allocation.
const PART: usize = 64;

impl<H: Handler> MapBody<H> {
    /// Reads requests and starts their handlers; pending when nothing more can be read for now.
    pub(super) fn poll_input(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        while self.writer.len() < CHUNK && self.has_turn() {
            if let Some(not_ready) = &mut self.not_ready {
                // What its handler came to is told elsewhere.
                drop(ready!(Pin::new(not_ready).poll(cx)));
                self.not_ready = None;
            }
            if let Some(waiting) = self.waiting.take() {
                let Waiting { id, request, size, receiving, hold, entry } = waiting;
                self.receiving = receiving;
                ready!(self.poll_admit(id, request, size, hold, entry, cx));
                continue;
            }
            self.run_next(cx);
            if !self.core.reads() {
                return Poll::Pending;
            }
            // A message is not read before it may be handled, but for those of a batch that was begun: two batches that
            // were read in part would wait for each other.
            if self.permit.is_none() && self.batch.is_none() && !self.core.awaits_handshake() {
                match self.share.poll_permit(cx) {
                    Poll::Ready(permit) => self.permit = Some(permit),
                    Poll::Pending => {
                        if self.requests.has_more(cx) {
                            self.context.limit_reached();
                        }
                        return Poll::Pending;
                    }
                }
            }
            match ready!(self.requests.poll_next(&self.share, self.batch.is_some(), cx)) {
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

    /// Decodes what was received and does what it means.
    fn poll_received(&mut self, message: &Message, cx: &mut TaskContext<'_>) -> Poll<()> {
        let size = message.bytes().len();
        let decoded = match self.copy(message) {
            Some(copy) => wire::decode(&copy, &copy),
            None => wire::decode(message.buffer(), message.bytes()),
        };
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
                let size = size.saturating_add(PART * request.many_parts());
                return self.poll_admit(id, request, size, None, None, cx);
            }
            Err(fault) => {
                self.writer.tally.read(size);
                self.writer.tally.finished(Outcome::BadFrame, 1);
                self.fail(error::map_fault(fault));
            }
        }
        Poll::Ready(())
    }

    /// The bytes of a message for itself, where the buffer that they lie in is not to be kept for them.
    fn copy(&mut self, message: &Message) -> Option<Bytes> {
        let outlives = match self.options.execution {
            Execution::Automatic => H::WHOLE_BATCH || self.heavy || self.order.is_some() || self.copies_left > 0,
            Execution::Tasks | Execution::Blocking { .. } => true,
        };
        self.copies_left = self.copies_left.saturating_sub(1);
        (outlives && 2 * message.bytes().len() < message.pinned).then(|| Bytes::copy_from_slice(message.bytes()))
    }

    /// Gives a message to its handler once there is room for it.
    #[inline]
    fn poll_admit(
        &mut self,
        id: Text,
        request: MapRequest,
        size: usize,
        hold: Option<Hold>,
        entry: Option<Entry>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if H::WHOLE_BATCH && self.batch.is_some() {
            self.receiving = None;
            self.collect(id, request, size, entry);
            return Poll::Ready(());
        }
        // What is left from the message before may do.
        if hold.is_some() {
            self.hold = hold;
        } else if !self.hold.as_ref().is_some_and(|hold| hold.covers(size)) {
            self.hold = None;
            match self.share.poll_hold(size, cx) {
                Poll::Ready(hold) => self.hold = Some(hold),
                Poll::Pending => {
                    let receiving = self.receiving.take();
                    return self.wait(Waiting { id, request, size, receiving, hold: None, entry });
                }
            }
        }
        self.receiving = None;
        if self.permit.is_none() {
            match self.share.poll_permit(cx) {
                Poll::Ready(permit) => self.permit = Some(permit),
                Poll::Pending => {
                    let hold = self.hold.take();
                    return self.wait(Waiting { id, request, size, receiving: None, hold, entry });
                }
            }
        }
        let request = H::Request::one(request);
        if H::WHOLE_BATCH {
            if size > self.options.max_batch_bytes {
                self.refuse_batch(1, size);
                return Poll::Ready(());
            }
            let held = self.held(entry.unwrap_or_else(|| self.list(&id, size)));
            self.batch = Some(Work { ids: Few::One(id), request, held: Some(held), size });
        } else if self.order.is_some() {
            let held = self.held(entry.unwrap_or_else(|| self.list(&id, size)));
            self.begin(Work { ids: Few::One(id), request, held: Some(held), size }, cx);
        } else {
            let held = entry.map(|entry| self.held(entry));
            self.run(Work { ids: Few::One(id), request, held, size }, None, cx);
        }
        Poll::Ready(())
    }

    /// Lists a message that does not run yet.
    pub(super) fn list(&self, id: &Text, size: usize) -> Entry {
        self.context.in_flight.enter(id.as_str(), size, Stage::Queued, self.now)
    }

    /// What the stream holds for the message at hand, for the message to take along.
    pub(super) fn held(&mut self, entry: Entry) -> Few<Held> {
        Few::One(Held::new(self.permit.take(), self.hold.take(), Some(entry)))
    }

    /// Keeps a message that there is no room for. Nothing else is read meanwhile.
    fn wait(&mut self, mut waiting: Waiting) -> Poll<()> {
        self.context.limit_reached();
        let Waiting { id, size, entry, .. } = &mut waiting;
        entry.get_or_insert_with(|| self.list(id, *size));
        self.waiting = Some(waiting);
        Poll::Pending
    }

    /// Adds a message to the batch that is being collected, whatever the limits say: a batch is read to its end.
    fn collect(&mut self, id: Text, request: MapRequest, size: usize, entry: Option<Entry>) {
        let entry = entry.unwrap_or_else(|| self.list(&id, size));
        let Some(batch) = &mut self.batch else { return };
        batch.size = batch.size.saturating_add(size);
        if batch.size > self.options.max_batch_bytes {
            let (messages, size) = (batch.ids.as_slice().len() + 1, batch.size);
            return self.refuse_batch(messages, size);
        }
        let hold = self.share.hold_beyond(size);
        batch.ids.push(id);
        batch.request.add(request);
        if let Some(held) = &mut batch.held {
            held.push(Held::new(Some(self.share.permit_beyond()), Some(hold), Some(entry)));
        }
    }

    /// Ends the stream for a batch that is too large with the message at hand.
    fn refuse_batch(&mut self, messages: usize, size: usize) {
        self.core.forgot(1);
        self.writer.tally.finished(Outcome::Cancelled, 1);
        self.stop(error::batch_too_large(messages, size, self.options.max_batch_bytes));
    }

    /// Forgets a batch that will not be complete: no answer is made up for what was not asked in full.
    pub(super) fn forget_batch(&mut self) {
        // Its first message may still wait for room.
        let waiting = if H::WHOLE_BATCH { self.waiting.take() } else { None };
        let collected = self.batch.take().map_or(0, |batch| batch.ids.as_slice().len());
        let messages = collected + usize::from(waiting.is_some());
        self.core.forgot(messages);
        self.writer.tally.finished(Outcome::Cancelled, messages);
    }
}
