//! Calls with one request and one answer: what is received of the request is bounded, and the answer is sent.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use hyper::body::{Frame, Incoming};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use crate::error;
use crate::frame::put_frame;
use crate::in_flight::Entry;
use crate::limit::{Receiving, Share};
use crate::requests::{Received, Requests};
use crate::service::{Context, streamed};

/// The most bytes of a request that carries nothing (`google.protobuf.Empty`): far more than any client sends, in fields
/// that later versions may add.
const EMPTY: usize = 4 << 10;

/// The request of a call, and what it was received with.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) message: Bytes,
    /// The bytes that stay in memory as long as the message does.
    pub(crate) pinned: usize,
    /// To be kept until there is room for the message.
    _receiving: Option<Receiving>,
}

impl Request {
    /// Takes what was received out of the stream that it came on.
    pub(crate) fn take(received: Received, requests: &mut Requests) -> Self {
        let Received { message, receiving } = received;
        let request = Self {
            message: message.buffer().slice_ref(message.bytes()),
            pinned: message.pinned,
            _receiving: receiving,
        };
        requests.restore(message);
        request
    }
}

/// Receives the request of a call, of up to `limit` bytes, and the end of the peer's side behind it.
///
/// # Errors
///
/// The status of the call, where it has another number of messages than one, or the message is too large or no message.
pub(crate) async fn receive(share: &Share, body: Incoming, limit: usize) -> Result<Request, Status> {
    let mut requests = Requests::new(body, limit);
    let received = poll_fn(|cx| requests.poll_next(share, false, cx)).await;
    let request = Request::take(received.ok_or_else(error::not_one_message)??, &mut requests);
    poll_fn(|cx| requests.poll_end(cx)).await?;
    Ok(request)
}

/// Receives a request that carries nothing (`google.protobuf.Empty`).
///
/// # Errors
///
/// As [`receive`], with a limit of a few KiB; or when the message is not protobuf.
pub(crate) async fn receive_empty(context: &Context, body: Incoming) -> Result<(), Status> {
    let request = receive(&context.limits.share(), body, EMPTY.min(context.max_message_size)).await?;
    <()>::decode(request.message).map_err(|problem| error::bad_message(&problem))
}

/// Answers `IsReady`. It waits for nothing: no limit concerns it.
pub(crate) async fn ready(context: &Context, body: Incoming, answer: &impl Message) -> http::Response<Body> {
    match receive_empty(context, body).await {
        Ok(()) => respond(context, answer, None),
        Err(status) => status.into_http(),
    }
}

/// The response of a call that has this answer. A call that is listed stays so until the answer is written.
pub(crate) fn respond(context: &Context, answer: &impl Message, entry: Option<Entry>) -> http::Response<Body> {
    let length = answer.encoded_len();
    if length > context.max_message_size {
        return error::answer_too_large(length, context.max_message_size).into_http();
    }
    let mut frame = Vec::new();
    put_frame(&mut frame, length, |out| out.extend_from_slice(&answer.encode_to_vec()));
    let chunk = Bytes::from(frame);
    let chunk = match entry {
        Some(entry) => entry.answer(chunk),
        None => chunk,
    };
    streamed(Answer::Whole(chunk))
}

/// The response body of a call.
enum Answer {
    Whole(Bytes),
    Status,
    Finished,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, next) = match std::mem::replace(&mut *self, Self::Finished) {
            Self::Whole(chunk) => (Frame::data(chunk), Self::Status),
            Self::Status => (Frame::trailers(error::trailers(None)), Self::Finished),
            Self::Finished => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }
}
