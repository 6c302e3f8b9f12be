//! One `AckFn` stream: each request is answered once, in order.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::requests::Requests;
use super::service::guarded;
use super::wire::{ACK_HANDSHAKE, ACKED};
use super::{Offset, Sourcer};
use crate::error;
use crate::metrics::add;
use crate::pb::source::v1 as pb;
use crate::service::Context;

type Ack = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The response body of one `AckFn` call.
pub(super) struct AckBody<S> {
    sourcer: Arc<S>,
    context: Arc<Context>,
    requests: Requests<pb::AckRequest>,
    state: State,
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _open: TaskTrackerToken,
}

enum State {
    Handshake,
    Idle,
    Acking(Ack),
    Finished,
}

impl<S: Sourcer> AckBody<S> {
    pub(super) fn new(sourcer: Arc<S>, context: Arc<Context>, body: Incoming) -> Self {
        Self {
            sourcer,
            requests: Requests::new(body, context.max_message_size),
            state: State::Handshake,
            closing: Some(Box::pin(context.drain.closing())),
            _open: context.open_stream(),
            context,
        }
    }

    fn shake_hands(first: Option<Result<pb::AckRequest, Status>>) -> Result<(), Status> {
        let request = first.ok_or_else(error::closed_before_handshake)??;
        if request.handshake.is_some_and(|handshake| handshake.sot) { Ok(()) } else { Err(error::no_handshake()) }
    }

    /// The ack of the next request; `None` for a request that carries nothing, `Err` when the stream is over.
    fn ack(&self, request: Option<Result<pb::AckRequest, Status>>) -> Result<Option<Ack>, Option<Status>> {
        let request = request.ok_or(None)?.map_err(Some)?;
        let Some(wanted) = request.request else {
            if request.handshake.is_some() {
                // A second handshake means nothing.
                return Ok(None);
            }
            return Err(Some(error::empty_message()));
        };
        let offsets: Vec<Offset> = wanted.offsets.into_iter().map(Offset::from_wire).collect();
        let sourcer = self.sourcer.clone();
        let context = self.context.clone();
        Ok(Some(Box::pin(async move {
            if offsets.is_empty() {
                return Ok(());
            }
            let count = offsets.len();
            guarded(&context, async { sourcer.ack(offsets).await }).await?;
            add(&context.metrics.source.acks, count);
            Ok(())
        })))
    }

    /// The next answer; `Err` when the stream is over.
    fn poll_answer(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<&'static [u8], Option<Status>>> {
        loop {
            match &mut self.state {
                State::Handshake => {
                    let first = ready!(self.requests.poll_next(cx));
                    Self::shake_hands(first)?;
                    self.state = State::Idle;
                    return Poll::Ready(Ok(ACK_HANDSHAKE));
                }
                State::Idle => {
                    if let Some(closing) = &mut self.closing
                        && closing.as_mut().poll(cx).is_ready()
                    {
                        self.closing = None;
                    }
                    if self.closing.is_none() {
                        return Poll::Ready(Err(Some(error::draining())));
                    }
                    let request = ready!(self.requests.poll_next(cx));
                    if let Some(ack) = self.ack(request)? {
                        self.state = State::Acking(ack);
                    }
                }
                State::Acking(ack) => {
                    ready!(ack.as_mut().poll(cx))?;
                    self.state = State::Idle;
                    return Poll::Ready(Ok(ACKED));
                }
                State::Finished => return Poll::Ready(Err(None)),
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
        if matches!(self.state, State::Finished) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(match ready!(self.poll_answer(cx)) {
            Ok(answer) => Frame::data(Bytes::from_static(answer)),
            Err(status) => {
                self.state = State::Finished;
                Frame::trailers(error::trailers(status.as_ref()))
            }
        })))
    }
}
