//! One `AckFn` stream: each request is answered once, in order.
//!
//! An ack is polled once where its connection is: if it is ready, as most are, its answer leaves without a task. One that
//! waits goes on as a task, so that it holds what it holds no longer than it needs to, also while hyper does not poll the
//! response body because the peer takes nothing in. One that may block its thread is a task from its start.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::task::JoinSet;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::Sourcer;
use super::calls::{self, Acked};
use super::held::{Distrust, Held};
use super::wire::{ACK_HANDSHAKE, ACKED};
use crate::error;
use crate::limit::Share;
use crate::requests::Requests;
use crate::server::drain::Closing;
use crate::service::Context;
use crate::unary::Request;

type Outcome = Result<Acked, Status>;

/// The response body of one `AckFn` call.
pub(super) struct AckBody<S> {
    sourcer: Arc<S>,
    context: Arc<Context>,
    requests: Requests,
    share: Share,
    state: State,
    /// The ack at hand, and whether it has blocked its thread.
    task: JoinSet<(Outcome, bool)>,
    distrust: Distrust,
    closing: Closing,
    _open: TaskTrackerToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Idle,
    /// A request is being carried out, by a task.
    Acking,
    Finished,
}

impl<S: Sourcer> AckBody<S> {
    pub(super) fn new(sourcer: Arc<S>, context: Arc<Context>, body: Incoming) -> Self {
        Self {
            sourcer,
            requests: Requests::new(body, context.max_message_size),
            share: context.limits.share(),
            state: State::Handshake,
            task: JoinSet::new(),
            distrust: Distrust::new(),
            closing: context.drain.closing(),
            _open: context.open_stream(),
            context,
        }
    }

    /// Begins to carry out a request.
    fn start(&mut self, request: Request, cx: &mut TaskContext<'_>) -> Poll<Outcome> {
        let is_first = self.state == State::Handshake;
        let acked = calls::ack(self.sourcer.clone(), self.context.clone(), self.share.clone(), request, is_first);
        let mut ack = Held::new(&self.context.in_flight, acked);
        self.state = State::Acking;
        // No handshake is the source's to answer.
        if is_first || !self.distrust.next() {
            let polled = Pin::new(&mut ack).poll(cx);
            if ack.blocks() {
                self.distrust.renew();
            }
            if polled.is_ready() {
                return polled;
            }
        }
        self.task.spawn(async move { ((&mut ack).await, ack.blocks()) });
        Poll::Pending
    }

    /// What the request at hand comes to.
    fn poll_task(&mut self, cx: &mut TaskContext<'_>) -> Poll<Outcome> {
        Poll::Ready(match ready!(self.task.poll_join_next(cx)) {
            Some(Ok((outcome, blocked))) => {
                if blocked {
                    self.distrust.renew();
                }
                outcome
            }
            Some(Err(error)) => Err(error::handler_lost(&self.context.container_type, &error)),
            // There is one for each request.
            None => Ok(Acked::Nothing),
        })
    }

    /// The next answer; `Err` when the stream is over.
    fn poll_answer(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Bytes, Option<Status>>> {
        loop {
            let outcome = match self.state {
                State::Handshake | State::Idle => {
                    if self.state == State::Idle && self.closing.poll(cx) {
                        return Poll::Ready(Err(Some(error::draining())));
                    }
                    let Some(received) = ready!(self.requests.poll_next(&self.share, false, cx)) else {
                        let first = self.state == State::Handshake;
                        return Poll::Ready(Err(first.then(error::closed_before_handshake)));
                    };
                    let request = Request::take(received?, &mut self.requests);
                    match self.start(request, cx) {
                        Poll::Ready(outcome) => outcome,
                        // The task wakes this one.
                        Poll::Pending => continue,
                    }
                }
                State::Acking => ready!(self.poll_task(cx)),
                State::Finished => return Poll::Ready(Err(None)),
            };
            self.state = State::Idle;
            match outcome? {
                Acked::Handshake => return Poll::Ready(Ok(Bytes::from_static(ACK_HANDSHAKE))),
                Acked::Nothing => {}
                Acked::Done(None) => return Poll::Ready(Ok(Bytes::from_static(ACKED))),
                Acked::Done(Some(entry)) => return Poll::Ready(Ok(entry.answer(Bytes::from_static(ACKED)))),
            }
        }
    }
}

impl<S: Sourcer> Body for AckBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.state == State::Finished {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(match ready!(self.poll_answer(cx)) {
            Ok(answer) => Frame::data(answer),
            Err(status) => {
                self.state = State::Finished;
                Frame::trailers(error::trailers(status.as_ref()))
            }
        })))
    }
}
