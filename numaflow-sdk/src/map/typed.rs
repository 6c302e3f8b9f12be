//! Maps over JSON values instead of bytes.

use std::future::Future;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Mapper;
use crate::{HandlerError, MapRequest, Message, Messages, NackOptions, UserMetadata};

/// What becomes of a message whose value is not the JSON that the map expects. There is no default: each answer is wrong
/// for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeFailure {
    /// The map fails: the stream ends with a status, and the platform sends the message again, for ever if nobody mends
    /// it. Loses nothing.
    Fail,
    /// The message is discarded. Loses the message.
    Drop,
    /// The message is delivered again, by these options.
    Nack(NackOptions),
    /// The message goes on unchanged, with this tag, and the reason as user metadata `decode-failure` / `reason`.
    DeadLetter {
        /// The tag, by which an edge of the pipeline can choose it.
        tag: String,
    },
}

/// A [`Mapper`] made by [`typed`].
#[derive(Debug)]
pub struct Typed<F, I> {
    function: F,
    on_failure: DecodeFailure,
    input: PhantomData<fn(I)>,
}

/// Makes a [`Mapper`] from an async function that takes a value decoded from JSON and returns `Ok` of a value to be
/// encoded as JSON, of `Some` of one, or of `None` to discard the message. The output keeps the input's keys and user
/// metadata.
///
/// ```
/// use numaflow_sdk::map::{self, DecodeFailure};
///
/// #[derive(serde::Deserialize)]
/// struct Order { price: f64, amount: f64 }
/// #[derive(serde::Serialize)]
/// struct Total { total: f64 }
///
/// let totals = map::typed(DecodeFailure::Drop, async |order: Order| {
///     Ok((order.amount > 0.0).then_some(Total { total: order.price * order.amount }))
/// });
/// # drop(totals);
/// ```
pub fn typed<F, Fut, I, O>(on_failure: DecodeFailure, function: F) -> Typed<F, I>
where
    F: Fn(I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<O>, HandlerError>> + Send,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send,
{
    Typed { function, on_failure, input: PhantomData }
}

impl<F, Fut, I, O> Mapper for Typed<F, I>
where
    F: Fn(I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<O>, HandlerError>> + Send,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send,
{
    async fn map(&self, request: MapRequest) -> Result<Messages, HandlerError> {
        let input = match serde_json::from_slice(request.value()) {
            Ok(input) => input,
            Err(error) => return decode_failed(&self.on_failure, request, &error),
        };
        let Some(output) = (self.function)(input).await? else {
            return Ok(Message::to_drop().into());
        };
        let mut message = request.into_message();
        message.set_value(serde_json::to_vec(&output)?);
        Ok(message.into())
    }
}

fn decode_failed(
    policy: &DecodeFailure,
    request: MapRequest,
    error: &serde_json::Error,
) -> Result<Messages, HandlerError> {
    let reason = format!("the value is not what the map expects: {error}");
    match policy {
        DecodeFailure::Fail => Err(reason.into()),
        DecodeFailure::Drop => Ok(Message::to_drop().into()),
        DecodeFailure::Nack(options) => {
            let mut options = options.clone();
            options.reason.get_or_insert(reason);
            Ok(Message::to_nack(options).into())
        }
        DecodeFailure::DeadLetter { tag } => {
            let mut metadata: UserMetadata = request.user_metadata().clone();
            metadata.insert("decode-failure", "reason", reason);
            Ok(request.into_message().with_tags([tag.clone()]).with_user_metadata(metadata).into())
        }
    }
}
