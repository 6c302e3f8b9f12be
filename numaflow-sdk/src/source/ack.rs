//! One `AckFn` stream: each request is answered once, in order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Status, Streaming};

use super::service::guarded;
use super::{Offset, Sourcer};
use crate::error;
use crate::metrics::add;
use crate::pb::source::v1 as pb;
use crate::service::Context;

type Ack = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The response stream of one `AckFn` call.
pub(super) struct AckStream<S> {
    sourcer: Arc<S>,
    context: Arc<Context>,
    requests: Streaming<pb::AckRequest>,
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

impl<S: Sourcer> AckStream<S> {
    pub(super) fn new(sourcer: Arc<S>, context: Arc<Context>, requests: Streaming<pb::AckRequest>) -> Self {
        Self {
            sourcer,
            requests,
            state: State::Handshake,
            closing: Some(Box::pin(context.drain.closing())),
            _open: context.open_stream(),
            context,
        }
    }

    fn shake_hands(first: Option<Result<pb::AckRequest, Status>>) -> Result<pb::AckResponse, Status> {
        let request = first.ok_or_else(error::closed_before_handshake)?.map_err(error::bad_frame)?;
        if !request.handshake.is_some_and(|handshake| handshake.sot) {
            return Err(error::no_handshake());
        }
        Ok(pb::AckResponse { result: None, handshake: Some(pb::Handshake { sot: true }) })
    }

    /// The ack of the next request; `None` for a request that carries nothing, `Err` when the stream is over.
    fn ack(&self, request: Option<Result<pb::AckRequest, Status>>) -> Result<Option<Ack>, Option<Status>> {
        let request = request.ok_or(None)?.map_err(|status| Some(error::bad_frame(status)))?;
        let Some(wanted) = request.request else {
            if request.handshake.is_some() {
                // A second handshake means nothing.
                return Ok(None);
            }
            return Err(Some(error::missing_part("a request", "")));
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

    fn end(&mut self, status: Option<Status>) -> Poll<Option<Result<pb::AckResponse, Status>>> {
        self.state = State::Finished;
        Poll::Ready(status.map(Err))
    }
}

impl<S: Sourcer> Stream for AckStream<S> {
    type Item = Result<pb::AckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Handshake => {
                    let first = ready!(Pin::new(&mut this.requests).poll_next(cx));
                    let shaken = Self::shake_hands(first);
                    this.state = if shaken.is_ok() { State::Idle } else { State::Finished };
                    return Poll::Ready(Some(shaken));
                }
                State::Idle => {
                    if let Some(closing) = &mut this.closing
                        && closing.as_mut().poll(cx).is_ready()
                    {
                        this.closing = None;
                    }
                    if this.closing.is_none() {
                        return this.end(Some(error::draining()));
                    }
                    let request = ready!(Pin::new(&mut this.requests).poll_next(cx));
                    match this.ack(request) {
                        Ok(Some(ack)) => this.state = State::Acking(ack),
                        Ok(None) => {}
                        Err(status) => return this.end(status),
                    }
                }
                State::Acking(ack) => {
                    let acked = ready!(ack.as_mut().poll(cx));
                    if let Err(status) = acked {
                        return this.end(Some(status));
                    }
                    this.state = State::Idle;
                    let result = Some(pb::ack_response::Result { success: Some(()) });
                    return Poll::Ready(Some(Ok(pb::AckResponse { result, handshake: None })));
                }
                State::Finished => return Poll::Ready(None),
            }
        }
    }
}
