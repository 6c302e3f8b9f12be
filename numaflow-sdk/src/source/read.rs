//! One `ReadFn` stream: each request starts a read, whose messages leave as they come, followed by the end of the batch.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Status, Streaming};

use super::batch::Shared;
use super::message::EncodedMessage;
use super::service::guarded;
use super::wire::Frame;
use super::{ReadRequest, Sourcer};
use crate::error;
use crate::metrics::{Tally, add};
use crate::pb::source::v1 as pb;
use crate::service::Context;

/// The response stream of one `ReadFn` call.
pub(super) struct ReadStream<S> {
    sourcer: Arc<S>,
    context: Arc<Context>,
    requests: Streaming<pb::ReadRequest>,
    state: State,
    /// Messages taken from the batch in one go, to be sent one by one.
    taken: VecDeque<EncodedMessage>,
    /// The read of the current batch: one task a batch, so that a source goes on while the peer is slow to take its
    /// messages.
    read: JoinSet<Result<(), Status>>,
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    tally: Tally,
    _open: TaskTrackerToken,
}

enum State {
    Handshake,
    /// Between two batches: the only place where the stream can end well.
    Idle,
    Reading {
        batch: Arc<Shared>,
        deadline: Instant,
    },
    /// The read has returned; what it left in the batch is still to be sent.
    Returned {
        batch: Arc<Shared>,
        deadline: Instant,
        result: Result<(), Status>,
    },
    /// The batch is empty and its time is not over: the platform would ask again at once.
    Waiting {
        until: Pin<Box<Sleep>>,
    },
    Finished,
}

impl<S: Sourcer> ReadStream<S> {
    pub(super) fn new(sourcer: Arc<S>, context: Arc<Context>, requests: Streaming<pb::ReadRequest>) -> Self {
        Self {
            sourcer,
            requests,
            state: State::Handshake,
            taken: VecDeque::new(),
            read: JoinSet::new(),
            closing: Some(Box::pin(context.drain.closing())),
            tally: Tally::new(context.metrics.clone()),
            _open: context.open_stream(),
            context,
        }
    }

    fn shake_hands(&mut self, first: Option<Result<pb::ReadRequest, Status>>) -> Result<Frame, Status> {
        let request = first.ok_or_else(error::closed_before_handshake)?.map_err(error::bad_frame)?;
        if !request.handshake.is_some_and(|handshake| handshake.sot) {
            return Err(error::no_handshake());
        }
        self.sourcer.reader_connected();
        self.state = State::Idle;
        Ok(Frame::Handshake)
    }

    /// Waits for the next request and starts its read; `Err` when the stream is over.
    fn poll_request(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Option<Status>>> {
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing = None;
        }
        if self.closing.is_none() {
            return Poll::Ready(Err(Some(error::draining())));
        }
        loop {
            let request = match ready!(Pin::new(&mut self.requests).poll_next(cx)) {
                None => return Poll::Ready(Err(None)),
                Some(Err(status)) => return Poll::Ready(Err(Some(error::bad_frame(status)))),
                Some(Ok(request)) => request,
            };
            let Some(wanted) = request.request else {
                if request.handshake.is_some() {
                    // A second handshake means nothing.
                    continue;
                }
                return Poll::Ready(Err(Some(error::missing_part("a request", ""))));
            };
            self.start(ReadRequest {
                count: usize::try_from(wanted.num_records).unwrap_or(usize::MAX),
                timeout: Duration::from_millis(wanted.timeout_in_ms.into()),
            });
            return Poll::Ready(Ok(()));
        }
    }

    fn start(&mut self, request: ReadRequest) {
        add(&self.context.metrics.source.reads, 1);
        let deadline = Instant::now() + request.timeout;
        let (mut batch, shared) = Shared::batch(request.count, deadline);
        let sourcer = self.sourcer.clone();
        let context = self.context.clone();
        self.read.spawn(async move { guarded(&context, async { sourcer.read(request, &mut batch).await }).await });
        self.state = State::Reading { batch: shared, deadline };
    }
}

impl<S: Sourcer> Stream for ReadStream<S> {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.taken.pop_front() {
                this.tally.sent(1, message.len());
                return Poll::Ready(Some(Ok(Frame::Message(message))));
            }
            this.tally.flush();
            match std::mem::replace(&mut this.state, State::Finished) {
                State::Handshake => {
                    this.state = State::Handshake;
                    let first = ready!(Pin::new(&mut this.requests).poll_next(cx));
                    this.state = State::Finished;
                    return Poll::Ready(Some(this.shake_hands(first)));
                }
                State::Idle => {
                    this.state = State::Idle;
                    if let Err(status) = ready!(this.poll_request(cx)) {
                        this.state = State::Finished;
                        return Poll::Ready(status.map(Err));
                    }
                }
                State::Reading { batch, deadline } => {
                    if batch.poll_take(cx, &mut this.taken).is_ready() {
                        this.state = State::Reading { batch, deadline };
                        continue;
                    }
                    let Poll::Ready(joined) = this.read.poll_join_next(cx) else {
                        this.state = State::Reading { batch, deadline };
                        return Poll::Pending;
                    };
                    let result = match joined {
                        Some(Ok(result)) => result,
                        Some(Err(error)) => Err(error::handler_lost(&this.context.container_type, &error)),
                        None => Ok(()),
                    };
                    this.state = State::Returned { batch, deadline, result };
                }
                State::Returned { batch, deadline, result } => {
                    if batch.poll_take(cx, &mut this.taken).is_ready() {
                        this.state = State::Returned { batch, deadline, result };
                        continue;
                    }
                    if let Err(status) = result {
                        return Poll::Ready(Some(Err(status)));
                    }
                    if !batch.may_end() && deadline > Instant::now() {
                        this.state = State::Waiting { until: Box::pin(sleep_until(deadline)) };
                        continue;
                    }
                    this.state = State::Idle;
                    return Poll::Ready(Some(Ok(Frame::EndOfTransmission)));
                }
                State::Waiting { mut until } => {
                    if until.as_mut().poll(cx).is_pending() {
                        this.state = State::Waiting { until };
                        return Poll::Pending;
                    }
                    this.state = State::Idle;
                    return Poll::Ready(Some(Ok(Frame::EndOfTransmission)));
                }
                State::Finished => return Poll::Ready(None),
            }
        }
    }
}
