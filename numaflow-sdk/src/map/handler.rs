//! What the engine knows of the handlers that users write: one trait for all shapes of them.

use std::future::Future;
use std::task::{Context, Poll};

use super::attempt::Done;
use super::outputs::Outlet;
use super::wire;
use crate::text::Text;
use crate::{HandlerError, Key, MapRequest, Messages};

/// The handler of one stream.
pub(super) trait Handler: Clone + Send + 'static {
    /// What one call takes: a message, or a batch.
    type Request: Request;
    /// Whether one call takes a whole batch.
    const WHOLE_BATCH: bool = false;

    /// Whether a message can be taken now; until then the stream reads no further.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    /// Handles a message or a batch. Only after `poll_ready` has said so.
    fn call(&mut self, request: Self::Request, outlet: Option<&Outlet>) -> impl Future<Output = Done> + Send + 'static;
}

/// What a handler takes.
pub(super) trait Request: Clone + Send + Unpin + 'static {
    fn one(message: MapRequest) -> Self;

    /// Adds one more message of the same batch. Called for requests of handlers that take whole batches.
    fn add(&mut self, message: MapRequest);

    fn into_messages(self) -> Vec<MapRequest>;

    /// The keys by which messages keep their order; a batch has none.
    fn keys(&self) -> &[Key];
}

impl Request for MapRequest {
    fn one(message: MapRequest) -> Self {
        message
    }

    fn add(&mut self, message: MapRequest) {
        // The engine gives such a handler each message by itself.
        debug_assert!(false, "{} has no batch to be in", message.id());
    }

    fn into_messages(self) -> Vec<MapRequest> {
        vec![self]
    }

    fn keys(&self) -> &[Key] {
        Self::keys(self)
    }
}

impl Request for Vec<MapRequest> {
    fn one(message: MapRequest) -> Self {
        vec![message]
    }

    fn add(&mut self, message: MapRequest) {
        self.push(message);
    }

    fn into_messages(self) -> Vec<MapRequest> {
        self
    }

    fn keys(&self) -> &[Key] {
        &[]
    }
}

/// What a handler answers.
#[derive(Debug)]
pub(super) enum Answers {
    /// All outputs of the one message.
    One(Messages),
    /// The outputs of each message of a batch, by their ids.
    Many(Vec<(Text, Messages)>),
    /// The outputs have left already, as they were made.
    Sent,
}

impl Answers {
    /// The bytes that they take until they are written, for a call with these ids.
    pub(super) fn size(&self, ids: &[Text]) -> usize {
        let size = |id: &Text, messages: &Messages| wire::encoded_len(id.as_bytes(), messages.as_slice());
        match self {
            Self::One(messages) => ids.iter().map(|id| size(id, messages)).sum(),
            Self::Many(answers) => answers.iter().map(|(id, messages)| size(id, messages)).sum(),
            Self::Sent => 0,
        }
    }
}
