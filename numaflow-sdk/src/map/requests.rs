//! The requests of a stream, as they are received.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use hyper::body::{Body, Incoming};
use tonic::Status;

use crate::error;
use crate::frame::{Deframer, Message};
use crate::limit::{Hold, Share};

/// A message up to this size is received before there is room for it: the peer has sent most of it already, and every
/// stream may have one. A larger one waits, so that half-received messages are bounded as well.
const RECEIVED_FREELY: usize = 64 << 10;

/// One message of the peer, not decoded; to be given back with [`Requests::restore`].
#[derive(Debug)]
pub(super) struct Received {
    pub(super) message: Message,
    /// The room for it, where that was needed to receive it.
    pub(super) hold: Option<Hold>,
}

#[derive(Debug)]
pub(super) struct Requests {
    body: Incoming,
    deframer: Deframer,
    /// Room for the message that is being received.
    hold: Option<Hold>,
}

impl Requests {
    pub(super) fn new(body: Incoming, max_message_size: usize) -> Self {
        Self { body, deframer: Deframer::new(max_message_size), hold: None }
    }

    /// The next message; `None` when the peer has closed its side. A message that belongs to a batch which was begun needs
    /// no room.
    pub(super) fn poll_next(
        &mut self,
        share: &Share,
        in_batch: bool,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Received, Status>>> {
        loop {
            match self.deframer.next() {
                Ok(Some(message)) => {
                    let hold = self.hold.take();
                    return Poll::Ready(Some(Ok(Received { message, hold })));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error::bad_prefix(error)))),
            }
            if let Some(size) = self.deframer.announced()
                && size > RECEIVED_FREELY
                && self.hold.is_none()
            {
                self.hold = Some(if in_batch { share.hold_beyond(size) } else { ready!(share.poll_hold(size, cx)) });
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

    /// Takes a message back, which is needed before the next one.
    pub(super) fn restore(&mut self, message: Message) {
        self.deframer.restore(message);
    }

    /// Whether the peer has sent more than was read.
    pub(super) fn has_more(&self) -> bool {
        !self.deframer.is_between_messages()
    }
}
