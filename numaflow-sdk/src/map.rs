//! Maps: user code that turns each message into zero or more messages.
//!
//! A map is a closure or a type that implements [`Mapper`]; [`service`] makes it something a
//! [`Server`](crate::Server) can serve.
//!
//! ```
//! use numaflow_sdk::{MapRequest, Message, map};
//!
//! let upper = map::from_fn(async |request: MapRequest| {
//!     Ok(Message::new(request.value().to_ascii_uppercase()))
//! });
//! let service = map::service(upper);
//! # drop(service);
//! ```

use std::future::Future;
use std::sync::Arc;

use crate::{HandlerError, IntoMessages, MapRequest, Messages};

mod attempt;
mod batch;
mod core;
mod engine;
mod execution;
mod handler;
mod mapped;
mod options;
mod order;
mod outputs;
mod policy;
mod retry;
mod service;
mod stream;
mod tower;
#[cfg(feature = "serde")]
mod typed;
mod unary;
mod wire;
mod work;
mod writer;

use mapped::mapped;

pub use batch::{BatchAnswers, BatchFromFn, BatchMapper, batch_from_fn};
pub use execution::Execution;
pub use outputs::{Outputs, SendError};
pub use policy::FailurePolicy;
pub use retry::Retry;
pub use service::{MapService, batch_service, service, stream_service, tower_service};
pub use stream::{StreamFromFn, StreamMapper, stream_from_fn};
#[cfg(feature = "serde")]
pub use typed::{Typed, typed};

pub(crate) use self::core::Fault as MapFault;

/// Turns one message into zero or more.
///
/// Many calls run at the same time, up to the server's limit, and their answers leave in any order.
///
/// # Choosing between an error and an answer
///
/// * [`Message::to_drop`](crate::Message::to_drop): the message is of no use and is done with.
/// * [`Message::to_nack`](crate::Message::to_nack): this one is to be delivered again.
/// * an `Err`: something failed, and what becomes of the message is for whoever serves the map to say, by its [`Retry`]
///   and its [`FailurePolicy`]. By default the stream answers what it can and ends with a status, and the platform sends
///   again whatever was not answered, this message first of all. A [`HandlerError`] may bring its own answer along.
///
/// A panic is treated as an `Err` and takes neither the process nor another message with it.
pub trait Mapper: Send + Sync + 'static {
    /// Maps one message.
    ///
    /// The future is polled once where the request was read; if it is not ready it continues on a task of its own. See
    /// [`Execution`] for handlers that compute for long or block their thread.
    ///
    /// # Errors
    ///
    /// See [`Mapper`].
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at any `.await` when the peer goes away or a drain passes its deadline. The platform then
    /// sends the message again.
    fn map(&self, request: MapRequest) -> impl Future<Output = Result<Messages, HandlerError>> + Send;

    /// [`Mapper::map`] as a future that owns what it needs. Not for use outside of this crate, and not to be implemented:
    /// it is here so that maps from functions need not own themselves.
    #[doc(hidden)]
    fn start(
        mapper: &Arc<Self>,
        request: MapRequest,
    ) -> impl Future<Output = Result<Messages, HandlerError>> + Send + 'static
    where
        Self: Sized,
    {
        let mapper = mapper.clone();
        async move { mapper.map(request).await }
    }
}

impl<M: Mapper> Mapper for Arc<M> {
    fn map(&self, request: MapRequest) -> impl Future<Output = Result<Messages, HandlerError>> + Send {
        (**self).map(request)
    }
}

/// A [`Mapper`] made from a function by [`from_fn`].
#[derive(Debug, Clone, Copy)]
pub struct FromFn<F> {
    function: F,
}

/// Makes a [`Mapper`] from an async closure or function that takes a [`MapRequest`] and returns `Ok` of a
/// [`Message`](crate::Message), an `Option<Message>`, a `Vec<Message>` or [`Messages`].
///
/// The future must own what it uses. A closure that shares something clones it first:
///
/// ```
/// use std::{collections::HashMap, sync::Arc};
/// use numaflow_sdk::{MapRequest, Message, map};
///
/// let names: Arc<HashMap<Vec<u8>, &str>> = Arc::new(HashMap::from([(b"LAX".to_vec(), "Los Angeles")]));
/// let lookup = map::from_fn(move |request: MapRequest| {
///     let names = names.clone();
///     async move { Ok(names.get(&request.value()[..]).map(|name| Message::new(*name))) }
/// });
/// # drop(lookup);
/// ```
#[must_use]
pub fn from_fn<F, Fut, M>(function: F) -> FromFn<F>
where
    F: Fn(MapRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<M, HandlerError>> + Send + 'static,
    M: IntoMessages + 'static,
{
    FromFn { function }
}

impl<F, Fut, M> Mapper for FromFn<F>
where
    F: Fn(MapRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<M, HandlerError>> + Send + 'static,
    M: IntoMessages + 'static,
{
    fn map(&self, request: MapRequest) -> impl Future<Output = Result<Messages, HandlerError>> + Send {
        mapped((self.function)(request), into_messages)
    }

    fn start(
        mapper: &Arc<Self>,
        request: MapRequest,
    ) -> impl Future<Output = Result<Messages, HandlerError>> + Send + 'static {
        mapped((mapper.function)(request), into_messages)
    }
}

fn into_messages<M: IntoMessages>(result: Result<M, HandlerError>) -> Result<Messages, HandlerError> {
    result.map(IntoMessages::into_messages)
}
