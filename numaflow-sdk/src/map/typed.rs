//! Maps over JSON values instead of bytes.

use std::future::Future;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FailurePolicy, Mapper};
use crate::{HandlerError, MapRequest, Message, Messages};

/// A [`Mapper`] made by [`typed`].
#[derive(Debug)]
pub struct Typed<F, I> {
    function: F,
    on_failure: FailurePolicy,
    input: PhantomData<fn(I)>,
}

/// Makes a [`Mapper`] from an async function that takes a value decoded from JSON and returns `Ok` of a value to be
/// encoded as JSON, of `Some` of one, or of `None` to discard the message. The output keeps the input's keys and user
/// metadata.
///
/// `on_failure` says what becomes of a message whose value is not the JSON that the function takes, whatever the server's
/// policy is for other errors: it is not tried again, as the value would be the same. There is no default, because each
/// answer is wrong for somebody.
///
/// ```
/// use numaflow_sdk::map::{self, FailurePolicy};
///
/// #[derive(serde::Deserialize)]
/// struct Order { price: f64, amount: f64 }
/// #[derive(serde::Serialize)]
/// struct Total { total: f64 }
///
/// let totals = map::typed(FailurePolicy::Drop, async |order: Order| {
///     Ok((order.amount > 0.0).then_some(Total { total: order.price * order.amount }))
/// });
/// # drop(totals);
/// ```
#[must_use]
pub fn typed<F, Fut, I, O>(on_failure: FailurePolicy, function: F) -> Typed<F, I>
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
            Err(error) => {
                let error = HandlerError::new(format!("the value is not what the map expects: {error}"));
                return Err(error.answered(self.on_failure.clone(), Some(request)));
            }
        };
        let Some(output) = (self.function)(input).await? else {
            return Ok(Message::to_drop().into());
        };
        let mut message = request.into_message();
        message.set_value(serde_json::to_vec(&output)?);
        Ok(message.into())
    }
}
