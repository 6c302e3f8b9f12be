//! The requests of a stream, as they are received.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use hyper::body::{Body, Incoming};
use tonic::Status;

use crate::error;
use crate::frame::Deframer;

/// The requests of one call, of the generated type `M`.
#[derive(Debug)]
pub(super) struct Requests<M> {
    body: Incoming,
    deframer: Deframer,
    message: PhantomData<fn() -> M>,
}

impl<M: prost::Message + Default> Requests<M> {
    pub(super) fn new(body: Incoming, max_message_size: usize) -> Self {
        Self { body, deframer: Deframer::new(max_message_size), message: PhantomData }
    }

    /// The next request; `None` when the peer has closed its side.
    pub(super) fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<M, Status>>> {
        loop {
            match self.deframer.next() {
                Ok(Some(message)) => {
                    // What is `Bytes` in it is a slice of what was received.
                    let request = M::decode(message.buffer().slice_ref(message.bytes()));
                    self.deframer.restore(message);
                    return Poll::Ready(Some(request.map_err(|problem| error::bad_message(&problem))));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error::bad_prefix(error)))),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers of a request mean nothing.
                    if let Ok(chunk) = frame.into_data() {
                        self.deframer.push(chunk);
                    }
                }
                Some(Err(_)) => return Poll::Ready(Some(Err(error::peer_gone()))),
                None if self.deframer.is_between_messages() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(error::cut_short()))),
            }
        }
    }
}
