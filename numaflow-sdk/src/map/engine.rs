//! One `MapFn` stream: the response body pulls requests, runs handlers and yields their answers, all in one place.
//!
//! A handler is polled once where its request was read. If it is ready, as most are, its answer is written without a task,
//! a channel or a wake-up in between. If it waits, it moves to a task of its own, because hyper does not poll a response
//! body while a chunk of it waits for the peer to make room: left here it would stand still whenever the peer reads slowly.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, ReusableBoxFuture, WaitForCancellationFutureOwned};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::attempt::{Done, Failed, attempt};
use super::core::{Core, Meaning, Parts};
use super::execution::{Call, Execution, OnTask, panicked};
use super::handler::{Handler, Request as _};
use super::options::Options;
use super::order::{Admission, Keys, Order};
use super::outputs::{Outlet, Output, Sink};
use super::policy::{Failure, Resolution, needs_input, resolve};
use super::requests::{Received, Requests};
use super::wire;
use super::work::{Few, Held, Work};
use super::writer::Writer;
use crate::frame::Message;
use crate::in_flight::{Current, Entry, Stage};
use crate::limit::{Hold, Permit, Share};
use crate::metrics::{self, Outcome, Tally};
use crate::panic::catching;
use crate::server::together::Turn;
use crate::service::Context;
use crate::text::Text;
use crate::{MapMode, MapRequest, error};

/// How long a stream goes on reading and answering after a handler has failed. The status ends the stream for all its
/// messages, so those that can be answered get the chance: else a redrive that sends the poison first would never let
/// the others through.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// How much is written before it is handed to HTTP/2: enough for one write to carry many answers, and little beside the
/// window of a peer.
const CHUNK: usize = 32 << 10;
/// After a handler that waited, so many messages are copied out of the buffer they were received in, where they are the
/// smaller part of it: those that wait too would each keep all of it.
const COPIED_AFTER_WAIT: u32 = 1024;
/// For how long a stream handles messages in place before the other streams of its connection, and its connection itself,
/// get their turn: a small part of the 100 ms in which the platform wants `IsReady` answered.
const TURN: Duration = Duration::from_millis(2);
/// So many answers of handlers on tasks are worth a write.
const FEW: usize = 32;
/// What a key, a header or a value of metadata takes besides its bytes, roughly: its place and an allocation.
const PART: usize = 64;
/// The boxes of calls that have ended which a stream keeps for the next ones.
const BOXES_KEPT: usize = 64;

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
    order: Option<Order<H::Request>>,
    /// Calls whose turn has come, with their keys.
    next: VecDeque<(Work<H::Request>, Keys)>,
    boxes: Vec<Call>,
    tasks: JoinSet<Ended>,
    /// Stream mode: the outputs of all handlers, in the order in which they were made.
    outputs: Option<(Sink, mpsc::Receiver<Output>)>,
    writer: Writer,
    share: Share,
    /// Leave for the next message, from the one before it in the same poll.
    permit: Option<Permit>,
    hold: Option<Hold>,
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
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    finished: bool,
    _open: TaskTrackerToken,
}

/// A message that was read and waits for room within the limits.
struct Waiting {
    id: Text,
    request: MapRequest,
    size: usize,
    hold: Option<Hold>,
    entry: Option<Entry>,
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
    held: Few<Held>,
    outlet: Option<Outlet>,
    keys: Option<Keys>,
    took: Duration,
}

impl<H: Handler> MapBody<H> {
    pub(super) fn new(handler: H, context: Arc<Context>, options: Arc<Options>, turn: Turn, body: Incoming) -> Self {
        let now = Instant::now();
        let share = context.limits.share();
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
            permit: None,
            hold: None,
            current: context.in_flight.current(),
            heavy: true,
            copies_left: 0,
            now,
            turn,
            turn_ends: None,
            ended: 0,
            ending: None,
            closing: Some(Box::pin(context.drain.closing())),
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

    /// Reads requests and starts their handlers; pending when nothing more can be read for now.
    fn poll_input(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        while self.writer.len() < CHUNK && self.has_turn() {
            if let Some(not_ready) = &mut self.not_ready {
                // What its handler came to is told elsewhere.
                drop(ready!(Pin::new(not_ready).poll(cx)));
                self.not_ready = None;
            }
            if let Some(waiting) = self.waiting.take() {
                let Waiting { id, request, size, hold, entry } = waiting;
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
                        if self.requests.has_more() {
                            self.context.limit_reached();
                        }
                        return Poll::Pending;
                    }
                }
            }
            match ready!(self.requests.poll_next(&self.share, self.batch.is_some(), cx)) {
                Some(Ok(Received { message, hold })) => {
                    let polled = self.poll_received(&message, hold, cx);
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

    /// Decodes what was received and does what it means.
    fn poll_received(&mut self, message: &Message, hold: Option<Hold>, cx: &mut TaskContext<'_>) -> Poll<()> {
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
                return self.poll_admit(id, request, size, hold, None, cx);
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
            self.collect(Waiting { id, request, size, hold, entry });
            return Poll::Ready(());
        }
        // What is left from the message before may do.
        if let Some(mut hold) = hold {
            if !hold.covers(size) {
                hold.grow(size);
            }
            self.hold = Some(hold);
        } else if !self.hold.as_ref().is_some_and(|hold| hold.covers(size)) {
            self.hold = None;
            match self.share.poll_hold(size, cx) {
                Poll::Ready(hold) => self.hold = Some(hold),
                Poll::Pending => return self.wait(Waiting { id, request, size, hold: None, entry }),
            }
        }
        if self.permit.is_none() {
            match self.share.poll_permit(cx) {
                Poll::Ready(permit) => self.permit = Some(permit),
                Poll::Pending => {
                    let hold = self.hold.take();
                    return self.wait(Waiting { id, request, size, hold, entry });
                }
            }
        }
        let request = H::Request::one(request);
        if H::WHOLE_BATCH {
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
    fn list(&self, id: &Text, size: usize) -> Entry {
        self.context.in_flight.enter(id.as_str(), size, Stage::Queued, self.now)
    }

    /// What the stream holds for the message at hand, for the message to take along.
    fn held(&mut self, entry: Entry) -> Few<Held> {
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
    fn collect(&mut self, waiting: Waiting) {
        let Waiting { id, request, size, hold, entry } = waiting;
        let entry = entry.unwrap_or_else(|| self.list(&id, size));
        let Some(batch) = &mut self.batch else { return };
        let limit = self.options.max_batch_bytes;
        batch.size = batch.size.saturating_add(size);
        if batch.size > limit {
            let status = error::batch_too_large(batch.ids.as_slice().len() + 1, batch.size, limit);
            self.core.forgot(1);
            self.writer.tally.finished(Outcome::Cancelled, 1);
            self.stop(status);
            return;
        }
        let hold = hold.unwrap_or_else(|| self.share.hold_beyond(size));
        batch.ids.push(id);
        batch.request.add(request);
        if let Some(held) = &mut batch.held {
            held.push(Held::new(Some(self.share.permit_beyond()), Some(hold), Some(entry)));
        }
    }

    /// Forgets a batch that will not be complete: no answer is made up for what was not asked in full.
    fn forget_batch(&mut self) {
        // Its first message may still wait for room.
        let waiting = if H::WHOLE_BATCH { self.waiting.take() } else { None };
        let collected = self.batch.take().map_or(0, |batch| batch.ids.as_slice().len());
        let messages = collected + usize::from(waiting.is_some());
        self.core.forgot(messages);
        self.writer.tally.finished(Outcome::Cancelled, messages);
    }

    /// Starts a call, unless it has to wait for one with the same keys.
    fn begin(&mut self, work: Work<H::Request>, cx: &mut TaskContext<'_>) {
        let Some(order) = &mut self.order else {
            return self.run(work, None, cx);
        };
        match order.admit(work) {
            Admission::Now(work, keys) => self.run(work, keys, cx),
            Admission::Later => {}
            Admission::Never => self.lose(Outcome::Cancelled, 1),
        }
    }

    /// Starts the calls whose turn has come.
    fn run_next(&mut self, cx: &mut TaskContext<'_>) {
        while let Some((work, keys)) = self.next.pop_front() {
            self.run(work, Some(keys), cx);
        }
    }

    /// Puts a call in its box, once its handler is ready for it.
    fn prepare(&mut self, call: &mut Call, request: H::Request, outlet: Option<&Outlet>, cx: &mut TaskContext<'_>) {
        let ready = self.handler.poll_ready(cx);
        match ready {
            Poll::Ready(Ok(())) if !self.keeps_inputs => {
                call.set(self.handler.call(request, outlet));
            }
            Poll::Ready(Err(error)) => call.set(async move { Err(error.into()) }),
            Poll::Ready(Ok(())) | Poll::Pending => {
                // The handler goes along, with its place in whatever it waits for, and a new one serves the next message.
                let next = Box::new((*self.handler).clone());
                let handler = std::mem::replace(&mut self.handler, next);
                let ready = ready.is_pending().then(|| {
                    let (ready, not_ready) = oneshot::channel();
                    self.not_ready = Some(not_ready);
                    ready
                });
                let outlet = outlet.cloned();
                if self.keeps_inputs {
                    let (options, metrics) = (self.options.clone(), self.context.metrics.clone());
                    call.set(attempt(handler, ready, request, outlet, options, metrics));
                } else {
                    call.set(once_ready(handler, ready, request, outlet));
                }
            }
        }
    }

    /// Runs a call: in place as far as it goes, on a task from there on.
    fn run(&mut self, work: Work<H::Request>, keys: Option<Keys>, cx: &mut TaskContext<'_>) {
        let Work { ids, request, held, size } = work;
        let outlet = match (&self.outputs, ids.as_slice()) {
            (Some((sink, _)), [id]) => Some(sink.outlet(id.clone())),
            _ => None,
        };
        let mut call = self.boxes.pop().unwrap_or_else(|| ReusableBoxFuture::new(pending()));
        let in_place = self.runs_in_place();
        if in_place {
            self.show(&ids, held.as_ref(), size);
        }
        // User code runs also before there is a future: what it panics with there is what the call comes to.
        let polled = catching(|| {
            self.prepare(&mut call, request, outlet.as_ref(), cx);
            if in_place { call.poll(cx) } else { Poll::Pending }
        });
        let polled = polled.unwrap_or_else(|panic| Poll::Ready(panicked(&mut call, panic)));
        if in_place || polled.is_ready() {
            let now = Instant::now();
            let took = now - self.now;
            self.now = now;
            self.options.pace.observe(took);
            if let Poll::Ready(done) = polled {
                self.keep(call);
                self.writer.tally.took(took);
                self.finish(ids, done, outlet.as_ref(), keys);
                return;
            }
            self.copies_left = COPIED_AFTER_WAIT;
        }
        let held = match (held, ids.as_slice()) {
            (Some(held), _) => held,
            (None, [_]) if in_place => {
                Few::One(Held::new(self.permit.take(), self.hold.take(), self.current.enter(Stage::Handler)))
            }
            (None, [id, ..]) => self.held(self.list(id, size)),
            (None, []) => return,
        };
        if !in_place {
            held.as_slice().iter().for_each(|held| held.stage(Stage::Handler));
        }
        self.spawn(ids, call, held, outlet, keys);
    }

    /// Shows the messages of a call that is about to be polled in place: those that are listed are so in their own right,
    /// and a single one that is not is what the stream has in hand.
    #[inline]
    fn show(&self, ids: &Few<Text>, held: Option<&Few<Held>>, size: usize) {
        match (held, ids) {
            (Some(held), _) => {
                self.current.rest();
                held.as_slice().iter().for_each(|held| held.stage(Stage::Handler));
            }
            (None, Few::One(id)) => self.current.begin(id.as_str(), size, self.now),
            (None, Few::Many(_)) => {}
        }
    }

    fn runs_in_place(&mut self) -> bool {
        self.heavy = self.options.pace.is_heavy(self.heavy);
        match self.options.execution {
            Execution::Automatic => !self.heavy,
            Execution::Tasks | Execution::Blocking { .. } => false,
        }
    }

    fn spawn(&mut self, ids: Few<Text>, call: Call, mut held: Few<Held>, outlet: Option<Outlet>, keys: Option<Keys>) {
        let begun = self.now;
        if let (Some(outlet), [held]) = (&outlet, held.as_mut_slice()) {
            outlet.keep(held.take_permit());
        }
        let mut call = OnTask::new(call, self.options.pace.clone());
        let run = async move {
            let done = (&mut call).await;
            let took = begun.elapsed();
            let mut size = done.as_ref().map_or(0, |answers| answers.size(ids.as_slice()));
            drop(outlet.as_ref().and_then(Outlet::take_permit));
            for held in held.as_mut_slice() {
                held.answered(std::mem::take(&mut size));
            }
            Ended::Call(EndedCall { ids, done, call: call.into_call(), held, outlet, keys, took })
        };
        match self.options.execution {
            Execution::Automatic | Execution::Tasks => drop(self.tasks.spawn(run)),
            Execution::Blocking { .. } => {
                let threads = self.options.threads.clone();
                let container = self.context.container_type.clone();
                self.tasks.spawn(async move {
                    let thread = threads.acquire_owned().await;
                    let runtime = Handle::current();
                    // Where this task is aborted, the handler is dropped at its next await, as on any task.
                    let aborted = CancellationToken::new();
                    let _aborted = aborted.clone().drop_guard();
                    let blocking = tokio::task::spawn_blocking(move || {
                        // Held to the end, also where nobody waits for it any more: the thread is taken that long.
                        let _thread = thread;
                        runtime.block_on(aborted.run_until_cancelled(run))
                    });
                    match blocking.await {
                        Ok(Some(ended)) => ended,
                        // Only where this task is gone.
                        Ok(None) => pending().await,
                        Err(error) => Ended::Status(error::handler_lost(&container, &error)),
                    }
                });
            }
        }
    }

    /// Keeps the box of a call that has ended for the next one.
    fn keep(&mut self, call: Call) {
        if self.boxes.len() < BOXES_KEPT {
            self.boxes.push(call);
        }
    }

    /// Takes what tasks have come to.
    fn take_ended(&mut self, cx: &mut TaskContext<'_>) {
        while self.writer.len() < CHUNK {
            self.take_outputs(cx);
            // Polling says that there is nothing once this task has had its share of the thread. New messages would be read
            // all the same, and what has ended would pile up.
            let ended = match self.tasks.try_join_next() {
                Some(ended) => Poll::Ready(Some(ended)),
                None => self.tasks.poll_join_next(cx),
            };
            match ended {
                Poll::Ready(Some(Ok(Ended::Call(ended)))) => {
                    self.ended = self.ended.saturating_add(1);
                    let EndedCall { ids, done, call, held, outlet, keys, took } = ended;
                    self.keep(call);
                    self.writer.tally.took(took);
                    if done.is_ok() && !H::WHOLE_BATCH {
                        self.context.limits.observe(took, self.now);
                    }
                    self.finish(ids, done, outlet.as_ref(), keys);
                    // What it kept goes with the chunk that its answer is in now, but for its place in the list.
                    self.current.answered(held.into_entries());
                    self.run_next(cx);
                }
                Poll::Ready(Some(Ok(Ended::Status(status)))) => self.fail(status),
                Poll::Ready(Some(Err(error))) => self.fail(error::handler_lost(&self.context.container_type, &error)),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// Stream mode: writes outputs as they are made, up to a chunk: handlers on other threads go on making them.
    fn take_outputs(&mut self, cx: &mut TaskContext<'_>) {
        if let Some((_, outputs)) = &mut self.outputs {
            while self.writer.len() < CHUNK
                && let Poll::Ready(Some(output)) = outputs.poll_recv(cx)
            {
                self.writer.output(&output.id, &output.message);
            }
        }
    }

    /// Stream mode: writes all outputs that were made before this call. Not by polling, which finds nothing once this task
    /// has had its share of the thread, and an output would then leave behind the end of its message.
    fn write_outputs(&mut self) {
        if let Some((_, outputs)) = &mut self.outputs {
            for _ in 0..outputs.len() {
                let Ok(output) = outputs.try_recv() else { return };
                self.writer.output(&output.id, &output.message);
            }
        }
    }

    /// Writes the answers of a call, or does what its failure asks for.
    fn finish(&mut self, ids: Few<Text>, done: Done, outlet: Option<&Outlet>, keys: Option<Keys>) {
        // What it sent goes before the end of it.
        self.write_outputs();
        let ids = ids.as_slice();
        let written = done.and_then(|answers| self.writer.answers(ids, &answers));
        let lost = match written {
            Ok(()) => {
                self.core.answered(ids.len());
                0
            }
            Err(failed) => self.failed(ids, *failed, outlet.is_some_and(Outlet::was_used)),
        };
        if let (Some(order), Some(keys)) = (&mut self.order, keys) {
            if lost > 0 {
                let behind = order.broken(&keys);
                self.lose(Outcome::Cancelled, behind);
            } else {
                self.next.extend(order.finished(keys));
            }
        }
    }

    /// Does what the policy, or the error itself, says about a failure: how many messages are lost to the stream.
    fn failed(&mut self, ids: &[Text], failed: Failed, output_left: bool) -> usize {
        let Failed { failure, inputs } = failed;
        let kind = failure.kind();
        self.context.metrics.handler_failed(kind);
        if self.options.exit_on_panic && kind == metrics::Failure::Panic {
            self.context.drain.end_after_panic();
        }
        let id = ids.first().map(Text::as_str).unwrap_or_default();
        tracing::error!(id, messages = ids.len(), failure = failure.text(), "the handler failed");
        // What an error brings along is one message, which can't stand for each of a batch.
        let brought = failure.brought_input().filter(|_| ids.len() == 1).cloned();
        let mut inputs = brought.into_iter().chain(inputs);
        for (index, id) in ids.iter().enumerate() {
            let answered = match resolve(&self.options.on_failure, &failure, inputs.next(), output_left) {
                // A dead letter that is larger than the peer takes has no way out but the status.
                Resolution::Answer(messages) => self.writer.instead(id, &messages).is_ok(),
                Resolution::EndStream => false,
            };
            if !answered {
                let lost = ids.len() - index;
                self.lose(Outcome::from(kind), lost);
                self.end_for(failure);
                return lost;
            }
            self.core.answered(1);
        }
        0
    }

    /// These messages will not be answered: the stream ends before.
    fn lose(&mut self, outcome: Outcome, messages: usize) {
        self.core.lost(messages);
        self.writer.tally.finished(outcome, messages);
    }

    /// The stream ends with the status of this failure.
    fn end_for(&mut self, failure: Failure) {
        match failure {
            Failure::Error(error) => self.fail(error::handler_failed(&self.context.container_type, &error)),
            Failure::Panic(panic) => {
                let context = self.context.clone();
                // Resolving a backtrace takes long, and other messages must not wait for it.
                self.tasks
                    .spawn_blocking(move || Ended::Status(error::handler_panicked(&context.container_type, &panic)));
            }
        }
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
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing = None;
            self.core.stop_reading();
            if let Some(held) = self.batch.as_ref().and_then(|batch| batch.held.as_ref()) {
                let entries = held.as_slice().iter().filter_map(Held::entry);
                self.context.drain.give_up(entries.map(|entry| entry.listed(self.now)));
            }
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
            None if over => Poll::Ready(self.closing.is_none().then(error::draining)),
            None => Poll::Pending,
        }
    }
}

/// Calls a handler when it is ready, and tells the stream that it is.
async fn once_ready<H: Handler>(
    mut handler: Box<H>,
    ready: Option<oneshot::Sender<()>>,
    request: H::Request,
    outlet: Option<Outlet>,
) -> Done {
    poll_fn(|cx| handler.poll_ready(cx)).await?;
    // The stream reads on, if it is still there.
    drop(ready);
    handler.call(request, outlet.as_ref()).await
}

impl<H: Handler> Body for MapBody<H> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(None);
        }
        this.now = Instant::now();
        if !this.has_turn() {
            return this.end_turn(cx);
        }
        this.turn_ends.get_or_insert(this.now + TURN);
        this.poll_closing(cx);
        this.poll_work(cx);
        // An idle stream holds nothing, and what was handled in place is handed over below.
        (this.permit, this.hold) = (None, None);
        this.writer.tally.flush();
        if this.waits_for_more() {
            return this.end_turn(cx);
        }
        this.ended = 0;
        if let Some(chunk) = this.writer.take() {
            return Poll::Ready(Some(Ok(Frame::data(this.current.hand_over(chunk)))));
        }
        this.current.end();
        if !this.has_turn() {
            // What was handled in this turn had no answers.
            return this.end_turn(cx);
        }
        this.turn_ends = None;
        let status = ready!(this.poll_end(cx));
        this.finished = true;
        this.tasks.abort_all();
        Poll::Ready(Some(Ok(Frame::trailers(error::trailers(status.as_ref())))))
    }
}

impl<H: Handler> Drop for MapBody<H> {
    fn drop(&mut self) {
        self.writer.tally.finished(Outcome::Cancelled, self.core.unanswered());
    }
}
