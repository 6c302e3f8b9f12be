//! One `ReadFn` stream: each request starts a read, whose messages leave as they come, followed by the end of the batch.
//!
//! The response body polls the read itself, which writes its messages into the chunk that leaves next: no task, no channel
//! and no wake-up is between the two. While the peer does not take what is there, hyper does not poll the body, and the
//! read stands still, as it would in [`Batch::push`]. A read that holds its thread goes to a task instead, or it would hold
//! its connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::batch::{Batch, Shared};
use super::held::{Distrust, Held};
use super::service::guarded;
use super::{ReadRequest, Sourcer};
use crate::in_flight::{Entry, Stage};
use crate::limit::Share;
use crate::metrics::{Failure, Tally, add};
use crate::pb::source::v1 as pb;
use crate::requests::Requests;
use crate::server::drain::Closing;
use crate::server::together::Turn;
use crate::service::Context;
use crate::{HandlerError, error};

/// For how long a stream reads before the other streams of its connection, and its connection itself, get their turn: a
/// small part of the 100 ms in which the platform wants `IsReady` answered.
const TURN: Duration = Duration::from_millis(2);

type Read = Held<Result<(), Status>>;

/// The response body of one `ReadFn` call.
pub(super) struct ReadBody<S> {
    sourcer: Arc<S>,
    context: Arc<Context>,
    requests: Requests,
    share: Share,
    state: State,
    batch: Arc<Shared>,
    /// Chunks taken from the batch in one go, to be sent one by one.
    taken: VecDeque<Bytes>,
    /// The read, where it is a task.
    task: JoinSet<(Result<(), Status>, Read)>,
    distrust: Distrust,
    turn: Turn,
    /// When the stream has had its turn; `None` between two turns.
    turn_ends: Option<Instant>,
    closing: Closing,
    tally: Tally,
    _open: TaskTrackerToken,
}

enum State {
    Handshake,
    /// The source is being told of its reader, by a task.
    Connecting(Entry),
    /// Between two batches: the only place where the stream can end well.
    Idle,
    /// `read` is `None` where it is a task. It is in flight from its deadline on: until then it may wait for messages.
    Reading {
        read: Option<Read>,
        deadline: Instant,
        entry: Entry,
    },
    /// The batch is empty and its time is not over: the platform would ask again at once.
    Waiting {
        until: Pin<Box<Sleep>>,
    },
    /// With a status, or well; behind what is left of the batch.
    Ending(Option<Status>),
    Finished,
}

impl<S: Sourcer> ReadBody<S> {
    pub(super) fn new(sourcer: Arc<S>, context: Arc<Context>, turn: Turn, body: Incoming) -> Self {
        Self {
            sourcer,
            requests: Requests::new(body, context.max_message_size),
            state: State::Handshake,
            batch: Arc::new(Shared::new(context.max_message_size)),
            taken: VecDeque::new(),
            task: JoinSet::new(),
            distrust: Distrust::new(),
            share: context.limits.share(),
            turn,
            turn_ends: None,
            closing: context.drain.closing(),
            tally: Tally::new(context.metrics.clone()),
            _open: context.open_stream(),
            context,
        }
    }

    /// The next request; `None` when the peer has closed its side.
    fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<pb::ReadRequest, Status>>> {
        let received = match ready!(self.requests.poll_next(&self.share, false, cx)) {
            None => return Poll::Ready(None),
            Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            Some(Ok(received)) => received,
        };
        let request = pb::ReadRequest::decode(received.message.bytes());
        self.requests.restore(received.message);
        Poll::Ready(Some(request.map_err(|problem| error::bad_message(&problem))))
    }

    /// Checks the handshake, and tells the source of its reader.
    fn shake_hands(&mut self, first: Option<Result<pb::ReadRequest, Status>>) -> Result<Entry, Status> {
        let request = first.ok_or_else(error::closed_before_handshake)??;
        if !request.handshake.is_some_and(|handshake| handshake.sot) {
            return Err(error::no_handshake());
        }
        let (sourcer, context) = (self.sourcer.clone(), self.context.clone());
        self.spawn(Held::new(&self.context.in_flight, async move {
            guarded(&context, async {
                sourcer.reader_connected();
                Ok(())
            })
            .await
        }));
        Ok(self.context.in_flight.enter("ReadFn: reader_connected", 0, Stage::Handler, Instant::now()))
    }

    /// Waits for the next request; `Err` when the stream is over.
    fn poll_request(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<ReadRequest, Option<Status>>> {
        if self.closing.poll(cx) {
            return Poll::Ready(Err(Some(error::draining())));
        }
        loop {
            let request = match ready!(self.poll_next(cx)) {
                None => return Poll::Ready(Err(None)),
                Some(Err(status)) => return Poll::Ready(Err(Some(status))),
                Some(Ok(request)) => request,
            };
            let Some(wanted) = request.request else {
                if request.handshake.is_some() {
                    // A second handshake means nothing.
                    continue;
                }
                return Poll::Ready(Err(Some(error::empty_message())));
            };
            return Poll::Ready(Ok(ReadRequest {
                count: usize::try_from(wanted.num_records).unwrap_or(usize::MAX),
                timeout: Duration::from_millis(wanted.timeout_in_ms.into()),
            }));
        }
    }

    fn start(&mut self, request: ReadRequest) -> State {
        add(&self.context.metrics.source.reads, 1);
        let deadline = Instant::now() + request.timeout;
        self.batch.begin();
        let mut batch = Batch::new(self.batch.clone(), request.count, deadline);
        let sourcer = self.sourcer.clone();
        let context = self.context.clone();
        let future = async move { guarded(&context, async { sourcer.read(request, &mut batch).await }).await };
        let read = Held::new(&self.context.in_flight, future);
        let entry = self.context.in_flight.enter("ReadFn", 0, Stage::Handler, deadline);
        if !self.distrust.next() {
            return State::Reading { read: Some(read), deadline, entry };
        }
        self.spawn(read);
        State::Reading { read: None, deadline, entry }
    }

    fn spawn(&mut self, mut read: Read) {
        self.task.spawn(async move { ((&mut read).await, read) });
    }

    /// Polls the read, wherever it is.
    fn poll_read(&mut self, place: &mut Option<Read>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        let (polled, blocks) = match place {
            Some(read) => (Pin::new(&mut *read).poll(cx), read.blocks()),
            None => match ready!(self.task.poll_join_next(cx)) {
                Some(Ok((result, read))) => (Poll::Ready(result), read.blocks()),
                Some(Err(error)) => {
                    (Poll::Ready(Err(error::handler_lost(&self.context.container_type, &error))), false)
                }
                None => (Poll::Ready(Ok(())), false),
            },
        };
        if blocks {
            self.distrust.renew();
            if polled.is_pending()
                && let Some(read) = place.take()
            {
                self.spawn(read);
                // It wakes this task when it is over.
                return self.poll_read(place, cx);
            }
        }
        polled
    }

    /// Moves what was pushed to where it is sent from.
    fn take(&mut self, cx: &TaskContext<'_>) {
        let pushed = self.batch.take(cx, &mut self.taken);
        if pushed.messages > 0 {
            self.tally.sent(pushed.messages, pushed.bytes);
            self.tally.flush();
        }
        if let Some(length) = pushed.too_large {
            self.state = State::Ending(Some(self.refuse(length)));
        }
    }

    /// Ends the batch, behind what is left of it.
    fn end_batch(&mut self, cx: &TaskContext<'_>) {
        self.batch.end();
        self.state = State::Idle;
        self.take(cx);
    }

    /// The status of a read whose message is too large to be sent.
    fn refuse(&self, length: usize) -> Status {
        let limit = self.context.max_message_size;
        let problem = HandlerError::new(format!(
            "the source made a message of {length} bytes, and the limit of this server is {limit}: make smaller ones, or \
             raise its max_message_size"
        ));
        self.context.metrics.handler_failed(Failure::Error);
        crate::logging::error!(error = error::chain(problem.as_error()), "the source failed");
        error::handler_failed(&self.context.container_type, &problem)
    }

    fn poll_chunk(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if let Some(chunk) = self.taken.pop_front() {
                if let State::Reading { entry, .. } = &self.state {
                    // Until this is polled again the peer has not taken it.
                    entry.stage(Stage::Answered);
                }
                return Poll::Ready(Some(Frame::data(chunk)));
            }
            match std::mem::replace(&mut self.state, State::Finished) {
                State::Handshake => {
                    self.state = State::Handshake;
                    let first = ready!(self.poll_next(cx));
                    self.state = match self.shake_hands(first) {
                        Ok(entry) => State::Connecting(entry),
                        Err(status) => State::Ending(Some(status)),
                    };
                }
                State::Connecting(entry) => {
                    self.state = State::Connecting(entry);
                    self.state = match ready!(self.poll_read(&mut None, cx)) {
                        Ok(()) => {
                            self.batch.shake_hands();
                            State::Idle
                        }
                        Err(status) => State::Ending(Some(status)),
                    };
                    self.take(cx);
                }
                State::Idle => {
                    self.state = State::Idle;
                    self.state = match ready!(self.poll_request(cx)) {
                        Ok(request) => self.start(request),
                        Err(status) => State::Ending(status),
                    };
                }
                State::Reading { mut read, deadline, entry } => match self.poll_read(&mut read, cx) {
                    Poll::Pending => {
                        entry.stage(Stage::Handler);
                        let is_task = read.is_none();
                        self.state = State::Reading { read, deadline, entry };
                        if is_task {
                            ready!(self.batch.poll_pushed(cx));
                        }
                        self.take(cx);
                        if self.taken.is_empty() && matches!(self.state, State::Reading { .. }) {
                            return Poll::Pending;
                        }
                    }
                    Poll::Ready(Err(status)) => {
                        self.state = State::Ending(Some(status));
                        self.take(cx);
                    }
                    Poll::Ready(Ok(())) if self.batch.may_end() || deadline <= Instant::now() => self.end_batch(cx),
                    Poll::Ready(Ok(())) => self.state = State::Waiting { until: Box::pin(sleep_until(deadline)) },
                },
                State::Waiting { mut until } => {
                    // A drain does not wait for the time of a batch that is empty.
                    if until.as_mut().poll(cx).is_pending() && !self.closing.poll(cx) {
                        self.state = State::Waiting { until };
                        return Poll::Pending;
                    }
                    self.end_batch(cx);
                }
                State::Ending(status) => {
                    self.task.abort_all();
                    return Poll::Ready(Some(Frame::trailers(error::trailers(status.as_ref()))));
                }
                State::Finished => return Poll::Ready(None),
            }
        }
    }
}

impl<S: Sourcer> Body for ReadBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let now = Instant::now();
        if self.turn_ends.is_some_and(|ends| ends <= now) {
            self.turn_ends = None;
            self.turn.end(cx);
            return Poll::Pending;
        }
        self.turn_ends.get_or_insert(now + TURN);
        let polled = self.poll_chunk(cx);
        if polled.is_pending() {
            self.turn_ends = None;
        }
        polled.map(|frame| frame.map(Ok))
    }
}
