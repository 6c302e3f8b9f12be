//! One `MapFn` stream: the response stream pulls requests, runs handlers and yields their answers, all in one place.
//!
//! A handler is polled once where its request was read. If it is ready, as most are, its answer leaves without a task, a
//! channel or a wake-up in between. If it waits, it moves to a task of its own, because hyper does not poll a response
//! body while a chunk of it waits for the peer to make room: left here it would stand still whenever the peer reads slowly.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Status, Streaming};

use super::Mapper;
use crate::limit::Permit;
use crate::panic::{Panic, catch};
use crate::pb::map::v1 as pb;
use crate::service::Context;
use crate::{HandlerError, MapRequest, Messages, error};

/// How long a stream goes on reading and answering after a handler has failed. The status ends the stream for all its
/// messages, so those that can be answered get the chance: else a redrive that sends the poison first would never let
/// the others through.
const FAILURE_GRACE: Duration = Duration::from_secs(1);

/// What became of one message.
struct Answer {
    id: String,
    outcome: Result<Messages, Failure>,
}

enum Failure {
    Error(HandlerError),
    Panic(Panic),
    /// A failure whose status, backtrace included, has been made.
    Status(Status),
}

/// Where the stream is in reading requests.
enum Input {
    /// Nothing but the handshake may come.
    Handshake,
    Open,
    /// A request was read that waits for room within the byte limit.
    Parked(Box<pb::MapRequest>, Permit),
    /// The peer has closed its side, or the server reads no more.
    Ended,
}

/// Why the stream will end with a status, and when at the latest.
struct Ending {
    status: Status,
    deadline: Pin<Box<Sleep>>,
}

/// The response stream of one `MapFn` call.
pub(super) struct MapStream<M> {
    mapper: Arc<M>,
    context: Arc<Context>,
    requests: Streaming<pb::MapRequest>,
    input: Input,
    handlers: JoinSet<Answer>,
    ending: Option<Ending>,
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    finished: bool,
    _open: TaskTrackerToken,
}

impl<M: Mapper> MapStream<M> {
    pub(super) fn new(mapper: Arc<M>, context: Arc<Context>, requests: Streaming<pb::MapRequest>) -> Self {
        Self {
            mapper,
            requests,
            input: Input::Handshake,
            handlers: JoinSet::new(),
            ending: None,
            closing: Some(Box::pin(context.drain.closing())),
            finished: false,
            _open: context.drain.open_stream(),
            context,
        }
    }

    /// Reads requests and starts their handlers until one has its answer at once or nothing more can be read.
    fn poll_input(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<pb::MapResponse, Status>> {
        loop {
            match std::mem::replace(&mut self.input, Input::Open) {
                Input::Ended => {
                    self.input = Input::Ended;
                    return Poll::Pending;
                }
                Input::Handshake => {
                    self.input = Input::Handshake;
                    let first = ready!(Pin::new(&mut self.requests).poll_next(cx));
                    return Poll::Ready(self.shake_hands(first));
                }
                Input::Open => {
                    let permit = ready!(self.context.limits.poll_message(cx));
                    // The permit goes back here when no message is there yet.
                    match ready!(Pin::new(&mut self.requests).poll_next(cx)) {
                        Some(Ok(request)) => {
                            if let Some(response) = ready!(self.poll_start(request, permit, cx)) {
                                return Poll::Ready(Ok(response));
                            }
                        }
                        Some(Err(status)) => {
                            self.input = Input::Ended;
                            self.fail(error::bad_frame(status));
                        }
                        None => self.input = Input::Ended,
                    }
                }
                Input::Parked(request, permit) => {
                    if let Some(response) = ready!(self.poll_start(*request, permit, cx)) {
                        return Poll::Ready(Ok(response));
                    }
                }
            }
        }
    }

    /// Starts the handler of a request once there is room for its bytes; `Some` when its answer is there at once.
    fn poll_start(
        &mut self,
        request: pb::MapRequest,
        mut permit: Permit,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<pb::MapResponse>> {
        if request.request.is_none() {
            // A second handshake and an end of transmission mean nothing in unary mode.
            if request.handshake.is_none() && request.status.is_none() {
                self.input = Input::Ended;
                self.fail(error::missing_part("a request", &request.id));
            }
            return Poll::Ready(None);
        }
        match permit.poll_bytes(request.encoded_len(), cx) {
            Poll::Ready(()) => Poll::Ready(self.start(request, permit, cx)),
            Poll::Pending => {
                self.input = Input::Parked(Box::new(request), permit);
                Poll::Pending
            }
        }
    }

    fn shake_hands(&mut self, first: Option<Result<pb::MapRequest, Status>>) -> Result<pb::MapResponse, Status> {
        self.input = Input::Ended;
        let request = first.ok_or_else(error::closed_before_handshake)?.map_err(error::bad_frame)?;
        if !request.handshake.is_some_and(|handshake| handshake.sot) {
            return Err(error::no_handshake());
        }
        self.input = Input::Open;
        Ok(pb::MapResponse { handshake: Some(pb::Handshake { sot: true }), ..Default::default() })
    }

    /// Starts the handler of one message; `Some` when its answer is there at once.
    fn start(&mut self, request: pb::MapRequest, permit: Permit, cx: &mut TaskContext<'_>) -> Option<pb::MapResponse> {
        let id = request.id;
        let request = MapRequest::from_wire(id.clone(), request.request.unwrap_or_default());
        let mapper = self.mapper.clone();
        let mut handler = catch(async move { mapper.map(request).await });
        match Pin::new(&mut handler).poll(cx) {
            Poll::Ready(result) => {
                drop(permit);
                self.finish(Answer { id, outcome: outcome(result) })
            }
            Poll::Pending => {
                self.handlers.spawn(async move {
                    let result = handler.await;
                    // Not kept until the answer is taken: a stream whose peer does not read would hold what the others
                    // need. It starts nothing new meanwhile, so its answers are no more than the limit either.
                    drop(permit);
                    Answer { id, outcome: outcome(result) }
                });
                None
            }
        }
    }

    /// The response of the next handler that has finished on its task.
    fn poll_handlers(&mut self, cx: &mut TaskContext<'_>) -> Option<pb::MapResponse> {
        while let Poll::Ready(Some(joined)) = self.handlers.poll_join_next(cx) {
            match joined {
                Ok(answer) => {
                    if let Some(response) = self.finish(answer) {
                        return Some(response);
                    }
                }
                Err(error) => self.fail(error::handler_lost(&self.context.container_type, &error)),
            }
        }
        None
    }

    /// Turns an answer into its response.
    fn finish(&mut self, answer: Answer) -> Option<pb::MapResponse> {
        let Answer { id, outcome } = answer;
        match outcome {
            Ok(messages) => Some(pb::MapResponse { results: messages.into_wire(), id, ..Default::default() }),
            Err(Failure::Error(error)) => {
                tracing::error!(id, %error, "the handler failed");
                self.fail(error::handler_failed(&self.context.container_type, &error));
                None
            }
            Err(Failure::Panic(panic)) => {
                tracing::error!(id, %panic, "the handler panicked");
                let context = self.context.clone();
                // Resolving a backtrace takes long, and other messages must not wait for it.
                self.handlers.spawn_blocking(move || {
                    let status = error::handler_panicked(&context.container_type, &panic);
                    Answer { id, outcome: Err(Failure::Status(status)) }
                });
                None
            }
            Err(Failure::Status(status)) => {
                self.fail(status);
                None
            }
        }
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
            self.input = Input::Ended;
        }
    }

    fn end(&mut self, status: Option<Status>) -> Poll<Option<Result<pb::MapResponse, Status>>> {
        self.finished = true;
        self.handlers.abort_all();
        Poll::Ready(status.map(Err))
    }
}

impl<M: Mapper> Stream for MapStream<M> {
    type Item = Result<pb::MapResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(None);
        }
        this.poll_closing(cx);
        // Answers of handlers that waited go before new input, so that a flood of it does not hold them back, and are
        // looked for once more after it, so that those it started are waited for.
        if let Some(response) = this.poll_handlers(cx) {
            return Poll::Ready(Some(Ok(response)));
        }
        match this.poll_input(cx) {
            Poll::Ready(Ok(response)) => return Poll::Ready(Some(Ok(response))),
            Poll::Ready(Err(status)) => return this.end(Some(status)),
            Poll::Pending => {}
        }
        if let Some(response) = this.poll_handlers(cx) {
            return Poll::Ready(Some(Ok(response)));
        }
        let idle = matches!(this.input, Input::Ended) && this.handlers.is_empty();
        match &mut this.ending {
            Some(ending) => {
                if ending.deadline.as_mut().poll(cx).is_pending() && !idle {
                    return Poll::Pending;
                }
                let status = ending.status.clone();
                this.end(Some(status))
            }
            None if idle => {
                let draining = this.closing.is_none().then(error::draining);
                this.end(draining)
            }
            None => Poll::Pending,
        }
    }
}

fn outcome(result: Result<Result<Messages, HandlerError>, Panic>) -> Result<Messages, Failure> {
    match result {
        Ok(Ok(messages)) => Ok(messages),
        Ok(Err(error)) => Err(Failure::Error(error)),
        Err(panic) => Err(Failure::Panic(panic)),
    }
}
