//! One `MapFn` stream: the response body pulls requests, runs handlers and yields their answers, all in one place.
//!
//! A handler is polled once where its request was read. If it is ready, as most are, its answer is written without a task,
//! a channel or a wake-up in between. If it waits, it moves to a task of its own, because hyper does not poll a response
//! body while a chunk of it waits for the peer to make room: left here it would stand still whenever the peer reads slowly.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::attempt::Done;
use super::core::Core;
use super::execution::Call;
use super::handler::Handler;
use super::options::Options;
use super::order::{Keys, Order};
use super::outputs::{Outlet, Output, Sink};
use super::policy::needs_input;
use super::wire;
use super::work::{Few, Held, Work};
use super::writer::Writer;
use crate::in_flight::{Current, Entry};
use crate::limit::{Arriving, Hold, Permit, Receiving, Share};
use crate::metrics::{Outcome, Tally};
use crate::requests::Requests;
use crate::server::drain::Closing;
use crate::server::together::Turn;
use crate::service::Context;
use crate::text::Text;
use crate::{MapMode, MapRequest, error};

mod read;
mod run;

/// How long a stream goes on reading and answering after a handler has failed. The status ends the stream for all its
/// messages, so those that can be answered get the chance: else a redrive that sends the poison first would never let
/// the others through.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// How much is written before it is handed to HTTP/2: enough for one write to carry many answers, and little beside the
/// window of a peer.
const CHUNK: usize = 32 << 10;
/// For how long a stream handles messages in place before the other streams of its connection, and its connection itself,
/// get their turn: a small part of the 100 ms in which the platform wants `IsReady` answered.
const TURN: Duration = Duration::from_millis(2);
/// So many answers of handlers on tasks are worth a write.
const FEW: usize = 32;

/// The response body of one `MapFn` call.
pub(super) struct MapBody<H: Handler> {
    context: Arc<Context>,
    options: Arc<Options>,
    /// Whether a call gets copies of its messages along, for another attempt or a dead letter.
    keeps_inputs: bool,
    requests: Requests,
    core: Core,
    /// In a box, so that a stream can be moved whatever the handler is.
    handler: Box<H>,
    /// Tells when a handler that was not ready is: until then nothing is read.
    not_ready: Option<oneshot::Receiver<()>>,
    /// A message that was read and waits for room.
    waiting: Option<Waiting>,
    /// A batch that is being collected.
    batch: Option<Work<H::Request>>,
    /// The bytes that have arrived of the next message of the batch.
    arriving: Option<Arriving>,
    order: Option<Order<H::Request>>,
    /// Calls whose turn has come, with their keys.
    next: VecDeque<(Work<H::Request>, Keys)>,
    boxes: Vec<Call>,
    tasks: JoinSet<Ended>,
    /// Stream mode: the outputs of all handlers, in the order in which they were made.
    outputs: Option<(Sink, mpsc::Receiver<Output>)>,
    writer: Writer,
    share: Share,
    /// Whether there was no room for a message in the poll at hand.
    asked_for_room: bool,
    /// Leave for the next message, from the one before it in the same poll.
    permit: Option<Permit>,
    hold: Option<Hold>,
    /// For the answers that are written and that HTTP/2 has not taken.
    unsent: Option<Hold>,
    /// What the message at hand was received with.
    receiving: Option<Receiving>,
    /// The bytes that the message at hand keeps in memory, where it lies in what was received.
    pinned: usize,
    current: Current,
    /// Whether handlers went on tasks when they were last looked at.
    heavy: bool,
    copies_left: u32,
    now: Instant,
    turn: Turn,
    /// When the stream has had its turn; `None` between two turns.
    turn_ends: Option<Instant>,
    /// How many handlers on tasks have ended since something was last handed over.
    ended: usize,
    ending: Option<Ending>,
    closing: Closing,
    finished: bool,
    _open: TaskTrackerToken,
}

/// A message that was read and waits for room within the limits.
struct Waiting {
    id: Text,
    message: Kept,
    size: usize,
    pinned: usize,
    /// What it was received with, until there is room for it.
    receiving: Option<Receiving>,
    entry: Entry,
}

/// A message in the form in which it waits for room.
enum Kept {
    Request(MapRequest),
    /// As it was received, because it takes far more memory as a request.
    Frame(Bytes),
}

impl Kept {
    fn into_request(self) -> MapRequest {
        match self {
            Self::Request(request) => request,
            // It was decoded before.
            Self::Frame(frame) => {
                wire::decode(&frame, &frame).ok().and_then(|decoded| decoded.request).unwrap_or_default()
            }
        }
    }
}

/// Why the stream will end with a status, and when at the latest.
struct Ending {
    status: Status,
    deadline: Pin<Box<Sleep>>,
}

/// What a task of the stream came to.
#[expect(clippy::large_enum_variant, reason = "nearly all are calls, and a box for each would cost more than its move")]
enum Ended {
    /// A handler's call.
    Call(EndedCall),
    /// A failure whose status, backtrace included, has been made.
    Status(Status),
}

/// A handler's call that a task has brought to its end.
struct EndedCall {
    ids: Few<Text>,
    done: Done,
    call: Call,
    held: Held,
    outlet: Option<Outlet>,
    keys: Option<Keys>,
    took: Duration,
}

impl<H: Handler> MapBody<H> {
    pub(super) fn new(handler: H, context: Arc<Context>, options: Arc<Options>, turn: Turn, body: Incoming) -> Self {
        let now = Instant::now();
        let share = context.limits.share();
        options.pace.count_in(&context.metrics);
        Self {
            keeps_inputs: needs_input(&options.on_failure, &options.retry),
            requests: Requests::new(body, context.max_message_size),
            core: Core::new(options.mode),
            handler: Box::new(handler),
            not_ready: None,
            waiting: None,
            batch: None,
            order: options.key_ordered.then(Order::default),
            next: VecDeque::new(),
            boxes: Vec::new(),
            tasks: JoinSet::new(),
            outputs: (options.mode == MapMode::Stream).then(|| Sink::new(share.clone(), context.max_message_size)),
            writer: Writer::new(options.mode, context.max_message_size, Tally::new(context.metrics.clone())),
            share,
            asked_for_room: false,
            permit: None,
            hold: None,
            unsent: None,
            receiving: None,
            arriving: None,
            pinned: 0,
            current: context.in_flight.current(),
            heavy: true,
            copies_left: 0,
            now,
            turn,
            turn_ends: None,
            ended: 0,
            ending: None,
            closing: context.drain.closing(),
            finished: false,
            _open: context.open_stream(),
            context,
            options,
        }
    }

    /// Writes all that can be written, up to a chunk.
    fn poll_work(&mut self, cx: &mut TaskContext<'_>) {
        loop {
            // Answers of handlers that waited go before new input, so that a flood of it does not hold them back, and are
            // looked for once more after it, so that those it started are waited for.
            self.take_ended(cx);
            if self.poll_input(cx).is_pending() {
                self.take_ended(cx);
            }
            if !self.core.take_end_of_batch() {
                return;
            }
            self.writer.end_of_batch();
        }
    }

    /// Whether to let handlers on tasks go first, because a few have ended and others are likely to, as when one tick of the
    /// clock wakes many: a write for each answer would cost more than the answer. Once for each write.
    fn waits_for_more(&mut self) -> bool {
        let few = (1..FEW).contains(&self.ended) && !self.tasks.is_empty();
        self.ended = FEW;
        few
    }

    fn end_turn<T>(&mut self, cx: &TaskContext<'_>) -> Poll<T> {
        self.turn_ends = None;
        self.turn.end(cx);
        Poll::Pending
    }

    fn has_turn(&self) -> bool {
        self.turn_ends.is_none_or(|ends| self.now < ends)
    }

    /// Nothing more can be read, and the stream will end with this status.
    fn stop(&mut self, status: Status) {
        self.core.stop_reading();
        self.forget_batch();
        self.fail(status);
    }

    /// The stream will end with this status, or with the one that came first.
    fn fail(&mut self, status: Status) {
        self.ending.get_or_insert_with(|| Ending { status, deadline: Box::pin(tokio::time::sleep(FAILURE_GRACE)) });
    }

    /// Looks whether the server wants streams to end: then nothing more is read.
    fn poll_closing(&mut self, cx: &mut TaskContext<'_>) {
        if !self.closing.has_begun() && self.closing.poll(cx) {
            self.core.stop_reading();
            let collected = self.batch.as_ref().and_then(|batch| batch.held.as_ref()).map_or(&[][..], Held::entries);
            let waiting = self.waiting.as_ref().filter(|_| H::WHOLE_BATCH).map(|waiting| &waiting.entry);
            let entries = collected.iter().chain(waiting);
            self.context.drain.give_up(entries.map(|entry| entry.listed(self.now)));
            self.forget_batch();
        }
    }

    /// The status that the stream ends with, once it is time.
    fn poll_end(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Status>> {
        let over = self.core.is_over() && self.tasks.is_empty() && self.waiting.is_none();
        match &mut self.ending {
            Some(ending) => {
                if ending.deadline.as_mut().poll(cx).is_pending() && !over {
                    return Poll::Pending;
                }
                Poll::Ready(Some(ending.status.clone()))
            }
            None if over => Poll::Ready(self.closing.has_begun().then(error::draining)),
            None => Poll::Pending,
        }
    }
}

impl<H: Handler> MapBody<H> {
    /// What the messages of a call that has ended held, kept until their answers have left.
    fn keep_until_sent(&mut self, held: Held) {
        let (hold, entries) = held.into_parts();
        match (&mut self.unsent, hold) {
            (Some(unsent), Some(hold)) => unsent.merge(hold),
            (unsent, hold) => *unsent = unsent.take().or(hold),
        }
        match entries {
            None => {}
            Some(Few::One(entry)) => self.current.answered([entry]),
            Some(Few::Many(entries)) => self.current.answered(entries),
        }
    }

    /// Gives back the bytes of answers that HTTP/2 has taken. An idle stream holds nothing.
    fn hold_unsent(&mut self) {
        let (hold, unsent, left) = (self.hold.take(), self.unsent.take(), self.writer.len());
        if left == 0 {
            return;
        }
        let mut unsent = unsent.or(hold).unwrap_or_else(|| self.share.hold_beyond(left));
        unsent.becomes_answer(left);
        self.unsent = Some(unsent);
    }

    fn poll_chunk(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        self.now = Instant::now();
        if !self.has_turn() {
            return self.end_turn(cx);
        }
        self.turn_ends.get_or_insert(self.now + TURN);
        self.poll_closing(cx);
        if !self.writer.is_being_taken() {
            self.poll_work(cx);
        }
        // An idle stream holds nothing, and what was handled in place is handed over below.
        self.permit = None;
        self.writer.tally.flush();
        if !self.writer.is_being_taken() && self.waits_for_more() {
            self.hold_unsent();
            return self.end_turn(cx);
        }
        self.ended = 0;
        let taken = self.writer.take();
        self.hold_unsent();
        if let Some((chunk, is_all)) = taken {
            // Messages are listed until the last of what answers them is written.
            let chunk = if is_all { self.current.hand_over(chunk) } else { chunk };
            return Poll::Ready(Some(Frame::data(chunk)));
        }
        self.current.end();
        if !self.has_turn() {
            // What was handled in this turn had no answers.
            return self.end_turn(cx);
        }
        self.turn_ends = None;
        let status = ready!(self.poll_end(cx));
        self.finished = true;
        self.tasks.abort_all();
        Poll::Ready(Some(Frame::trailers(error::trailers(status.as_ref()))))
    }
}

impl<H: Handler> Body for MapBody<H> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.poll_chunk(cx);
        // Only a stream that will be polled when it is woken stays in line for room: one that has handed over a chunk is
        // polled when its peer has taken it, and one that waits for something else leaves the room to others.
        let asked = std::mem::take(&mut self.asked_for_room);
        if self.share.is_in_line() && !(asked && polled.is_pending()) {
            self.share.leave_line();
        }
        polled.map(|frame| frame.map(Ok))
    }
}

impl<H: Handler> Drop for MapBody<H> {
    fn drop(&mut self) {
        self.share.leave_line();
        self.writer.tally.finished(Outcome::Cancelled, self.core.unanswered());
    }
}
