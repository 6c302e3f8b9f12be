//! The requests of a stream, as they are received.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use hyper::body::{Body, Incoming};
use tonic::Status;

use crate::error;
use crate::frame::{Deframer, Message};
use crate::limit::{Receiving, Share};

/// So much of a message is received without room for it: every stream may have that. The rest waits for room, so that
/// messages which are not whole are bounded as well.
const RECEIVED_FREELY: usize = 64 << 10;
/// Messages of up to so many bytes are read without room for them, one a stream: the end of a batch is one, and it must not
/// wait for the messages of other streams.
const READ_FREELY: usize = 64;

/// One message of the peer, not decoded; to be given back with [`Requests::restore`].
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) message: Message,
    /// What was needed to receive it, to be kept until there is room for it.
    pub(crate) receiving: Option<Receiving>,
}

/// The requests of one call. What is received of them is bounded.
#[derive(Debug)]
pub(crate) struct Requests {
    body: Incoming,
    deframer: Deframer,
    /// What is there of the message that is being received.
    receiving: Option<Receiving>,
    /// How the requests ended, where that was seen before it was asked for.
    ended: Option<Result<(), Status>>,
}

impl Requests {
    pub(crate) fn new(body: Incoming, max_message_size: usize) -> Self {
        Self { body, deframer: Deframer::new(max_message_size), receiving: None, ended: None }
    }

    /// Whether there has to be room for what comes next before it is read. The end of the stream, an end of batch and what
    /// is no message at all need none.
    pub(crate) fn poll_needs_room(&mut self, cx: &mut TaskContext<'_>) -> Poll<bool> {
        loop {
            if let Some(length) = self.deframer.announced() {
                return Poll::Ready(length > READ_FREELY);
            }
            if self.ended.is_some() {
                return Poll::Ready(false);
            }
            ready!(self.poll_more(cx));
        }
    }

    /// Waits for the peer to close its side, which it is to do before anything else.
    pub(crate) fn poll_end(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        loop {
            if self.deframer.announced().is_some() {
                return Poll::Ready(Err(error::not_one_message()));
            }
            if let Some(ended) = self.ended.take() {
                return Poll::Ready(ended);
            }
            ready!(self.poll_more(cx));
        }
    }

    /// The next message; `None` when the peer has closed its side. One that belongs to a batch which was begun waits for no
    /// room: see [`Requests::arrived`].
    pub(crate) fn poll_next(
        &mut self,
        share: &Share,
        in_batch: bool,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Received, Status>>> {
        loop {
            match self.deframer.next() {
                Ok(Some(message)) => {
                    let receiving = self.receiving.take();
                    return Poll::Ready(Some(Ok(Received { message, receiving })));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error::bad_prefix(error)))),
            }
            let arrived = self.deframer.arrived();
            if arrived > RECEIVED_FREELY && !in_batch {
                let receiving = self.receiving.get_or_insert_with(|| share.receiving());
                ready!(receiving.poll_grow(arrived, cx));
            }
            if let Some(ended) = self.ended.take() {
                return Poll::Ready(ended.err().map(Err));
            }
            ready!(self.poll_more(cx));
        }
    }

    /// How much is there of a message that is not whole; 0 for as much as every stream may have.
    pub(crate) fn arrived(&self) -> usize {
        Some(self.deframer.arrived()).filter(|arrived| *arrived > RECEIVED_FREELY).unwrap_or(0)
    }

    /// Receives some more, or sees the end.
    fn poll_more(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // Trailers of a request mean nothing.
                if let Ok(chunk) = frame.into_data() {
                    self.deframer.push(chunk);
                }
            }
            Some(Err(_)) => self.ended = Some(Err(error::peer_gone())),
            None if self.deframer.is_between_messages() => self.ended = Some(Ok(())),
            None => self.ended = Some(Err(error::cut_short())),
        }
        Poll::Ready(())
    }

    /// Takes a message back, which is needed before the next one.
    pub(crate) fn restore(&mut self, message: Message) {
        self.deframer.restore(message);
    }
}
