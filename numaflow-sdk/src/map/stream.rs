//! Maps that send their outputs as they make them.

use std::future::Future;
use std::sync::Arc;

use super::attempt::Done;
use super::handler::{Answers, Handler};
use super::outputs::{Outlet, Outputs};
use crate::{HandlerError, MapRequest};

/// Turns one message into any number of outputs, each of which leaves as soon as it is made.
///
/// Only stream mode sends outputs before the last one is there. A map that answers with all outputs at once can be served
/// in stream mode too: see [`MapService::mode`](super::MapService::mode).
pub trait StreamMapper: Send + Sync + 'static {
    /// Maps one message. When it returns, the message is answered.
    ///
    /// # Errors
    ///
    /// As for [`Mapper`](super::Mapper), but that outputs which have left stay: nothing is tried again here after the
    /// first of them, and a message that is sent again has them twice.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at any `.await` when the peer goes away or a drain passes its deadline. The platform then
    /// sends the message again.
    fn map_stream(
        &self,
        request: MapRequest,
        outputs: Outputs,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<M: StreamMapper> StreamMapper for Arc<M> {
    fn map_stream(
        &self,
        request: MapRequest,
        outputs: Outputs,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (**self).map_stream(request, outputs)
    }
}

/// A [`StreamMapper`] made from a function by [`stream_from_fn`].
#[derive(Debug, Clone, Copy)]
pub struct StreamFromFn<F> {
    function: F,
}

/// Makes a [`StreamMapper`] from an async closure or function.
///
/// ```
/// use numaflow_sdk::{MapRequest, Message, map::{self, Outputs}};
///
/// let words = map::stream_from_fn(async |request: MapRequest, mut outputs: Outputs| {
///     for word in request.value().split(|byte| *byte == b' ') {
///         outputs.send(Message::new(word.to_vec())).await?;
///     }
///     Ok(())
/// });
/// # drop(map::stream_service(words));
/// ```
#[must_use]
pub fn stream_from_fn<F, Fut>(function: F) -> StreamFromFn<F>
where
    F: Fn(MapRequest, Outputs) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    StreamFromFn { function }
}

impl<F, Fut> StreamMapper for StreamFromFn<F>
where
    F: Fn(MapRequest, Outputs) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    fn map_stream(
        &self,
        request: MapRequest,
        outputs: Outputs,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (self.function)(request, outputs)
    }
}

/// A [`StreamMapper`] as the engine calls it.
#[derive(Debug)]
pub(super) struct Streams<M> {
    pub(super) mapper: Arc<M>,
}

impl<M> Clone for Streams<M> {
    fn clone(&self) -> Self {
        Self { mapper: self.mapper.clone() }
    }
}

impl<M: StreamMapper> Handler for Streams<M> {
    type Request = MapRequest;

    fn call(&mut self, request: MapRequest, outlet: Option<&Outlet>) -> impl Future<Output = Done> + Send + 'static {
        let mapper = self.mapper.clone();
        let outputs = outlet.cloned().map(Outputs::new);
        async move {
            // The engine gives every message of stream mode an outlet, and this handler is served in no other mode.
            let outputs = outputs.ok_or_else(|| HandlerError::new("a stream mapper is served in stream mode only"))?;
            mapper.map_stream(request, outputs).await?;
            Ok(Answers::Sent)
        }
    }
}
