//! Maps that take a whole batch at once.

use std::future::Future;
use std::sync::Arc;

use super::attempt::Done;
use super::handler::{Answers, Handler};
use super::outputs::Outlet;
use crate::text::Text;
use crate::{HandlerError, IntoMessages, MapRequest, Messages};

/// Turns the messages of a batch into answers, all in one call: for work that is cheaper together, such as a bulk insert
/// or a lookup of many keys.
///
/// Only batch mode has batches. A map that takes its messages one by one can be served in batch mode too, and needs no
/// code for it: see [`MapService::mode`](super::MapService::mode).
pub trait BatchMapper: Send + Sync + 'static {
    /// Maps one batch, in which no message is missing: it is not called for a batch that its peer did not complete.
    ///
    /// # Errors
    ///
    /// An error, or an answer that skips a message, concerns the whole batch: with [`FailurePolicy::Fail`] the stream ends
    /// and the platform sends the batch again, with another policy each of its messages is resolved by it.
    ///
    /// [`FailurePolicy::Fail`]: super::FailurePolicy::Fail
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at any `.await` when the peer goes away or a drain passes its deadline. The platform then
    /// sends the batch again.
    fn map_batch(&self, requests: Vec<MapRequest>) -> impl Future<Output = Result<BatchAnswers, HandlerError>> + Send;
}

impl<M: BatchMapper> BatchMapper for Arc<M> {
    fn map_batch(&self, requests: Vec<MapRequest>) -> impl Future<Output = Result<BatchAnswers, HandlerError>> + Send {
        (**self).map_batch(requests)
    }
}

/// The answers to the messages of a batch, in any order: exactly one for each, which may be none at all
/// ([`Messages::none`]).
#[derive(Debug, Default)]
pub struct BatchAnswers {
    answers: Vec<(Text, Messages)>,
}

impl BatchAnswers {
    /// No answers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers the message with this [`id`](MapRequest::id).
    pub fn push(&mut self, id: impl Into<String>, messages: impl IntoMessages) {
        self.answers.push((Text::from(id.into()), messages.into_messages()));
    }
}

impl<I: Into<String>, M: IntoMessages> FromIterator<(I, M)> for BatchAnswers {
    fn from_iter<T: IntoIterator<Item = (I, M)>>(answers: T) -> Self {
        let mut collected = Self::new();
        for (id, messages) in answers {
            collected.push(id, messages);
        }
        collected
    }
}

/// A [`BatchMapper`] made from a function by [`batch_from_fn`].
#[derive(Debug, Clone, Copy)]
pub struct BatchFromFn<F> {
    function: F,
}

/// Makes a [`BatchMapper`] from an async closure or function.
///
/// ```
/// use numaflow_sdk::{MapRequest, Message, map::{self, BatchAnswers}};
///
/// let upper = map::batch_from_fn(async |requests: Vec<MapRequest>| {
///     // One bulk call could be here.
///     Ok(requests.iter().map(|r| (r.id(), Message::new(r.value().to_ascii_uppercase()))).collect::<BatchAnswers>())
/// });
/// # drop(map::batch_service(upper));
/// ```
#[must_use]
pub fn batch_from_fn<F, Fut>(function: F) -> BatchFromFn<F>
where
    F: Fn(Vec<MapRequest>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<BatchAnswers, HandlerError>> + Send,
{
    BatchFromFn { function }
}

impl<F, Fut> BatchMapper for BatchFromFn<F>
where
    F: Fn(Vec<MapRequest>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<BatchAnswers, HandlerError>> + Send,
{
    fn map_batch(&self, requests: Vec<MapRequest>) -> impl Future<Output = Result<BatchAnswers, HandlerError>> + Send {
        (self.function)(requests)
    }
}

/// A [`BatchMapper`] as the engine calls it.
#[derive(Debug)]
pub(super) struct Batches<M> {
    pub(super) mapper: Arc<M>,
}

impl<M> Clone for Batches<M> {
    fn clone(&self) -> Self {
        Self { mapper: self.mapper.clone() }
    }
}

impl<M: BatchMapper> Handler for Batches<M> {
    type Request = Vec<MapRequest>;
    const WHOLE_BATCH: bool = true;

    fn call(
        &mut self,
        requests: Vec<MapRequest>,
        _outlet: Option<&Outlet>,
    ) -> impl Future<Output = Done> + Send + 'static {
        let mapper = self.mapper.clone();
        async move { Ok(Answers::Many(mapper.map_batch(requests).await?.answers)) }
    }
}
