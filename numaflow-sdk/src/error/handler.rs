//! What a handler's error says, and what is to become of its message.

use std::error::Error;
use std::fmt;

use crate::map::FailurePolicy;
use crate::{MapRequest, NackOptions};

/// Why a handler could not do its work. Any error turns into one with `?`, and so does text.
///
/// What becomes of the message is for the server to say, by its [`Retry`](crate::map::Retry) and its
/// [`FailurePolicy`]; an error that knows better brings its own answer along, which wins over both:
///
/// | | Tried again here | Then |
/// | --- | --- | --- |
/// | [`HandlerError::new`], `?` | as the server says | as the server says |
/// | [`terminal`](HandlerError::terminal) | no | as the server says |
/// | [`fail`](HandlerError::fail) | no | [`FailurePolicy::Fail`]: the stream ends, the platform sends the message again |
/// | [`nack`](HandlerError::nack) | no | [`FailurePolicy::Nack`]: the source delivers the message again |
/// | [`drop`](HandlerError::drop) | no | [`FailurePolicy::Drop`]: the message is lost |
/// | [`dead_letter`](HandlerError::dead_letter) | no | [`FailurePolicy::DeadLetter`]: the message goes on with a tag |
/// | [`fail_tag`](HandlerError::fail_tag) | no | [`FailurePolicy::FailTag`]: the platform tries the message again |
///
/// Of several answers the last one counts. All this is for maps; an error of a source ends its call whatever it brings.
///
/// Not every bad message is an error: [`Message::to_drop`](crate::Message::to_drop) and
/// [`Message::to_nack`](crate::Message::to_nack) do the same as outputs. As an error it is logged and counts as failed.
///
/// It is not itself a [`std::error::Error`], because it could not be made from every error by `?` then. Where one is needed,
/// as in layers of tower's, [`boxed`](HandlerError::boxed) makes one, and the answer that it brings along is found again.
///
/// ```
/// use numaflow_sdk::{HandlerError, MapRequest, Message};
///
/// fn double(request: MapRequest) -> Result<Message, HandlerError> {
///     // As the server says.
///     let text = std::str::from_utf8(request.value())?;
///     // The same text would not be a number the next time either.
///     let number: u64 = text.parse().map_err(|error| HandlerError::new(error).terminal())?;
///     let Some(double) = number.checked_mul(2) else {
///         return Err(HandlerError::new("the number is too large").dead_letter("too-large", request));
///     };
///     Ok(Message::new(double.to_string()))
/// }
/// assert_eq!(double(MapRequest::new("x")).unwrap_err().to_string(), "invalid digit found in string");
/// assert!(double(MapRequest::new("18446744073709551615")).unwrap_err().policy().is_some());
/// ```
pub struct HandlerError {
    source: Box<dyn Error + Send + Sync>,
    verdict: Verdict,
}

/// What an error says of its message.
#[derive(Clone, Default)]
enum Verdict {
    /// Nothing: the server decides.
    #[default]
    None,
    /// Not to be tried again here.
    Terminal,
    /// What is to become of the message, and for a dead letter the message.
    Own(Box<(FailurePolicy, Option<MapRequest>)>),
}

impl HandlerError {
    /// Creates an error from another one, or from text. An error that [`boxed`](Self::boxed) made, or that has such a one
    /// among its causes, keeps what that one says of its message.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = match source.into().downcast::<Carried>() {
            Ok(carried) => return carried.0,
            Err(source) => source,
        };
        let mut cause: Option<&(dyn Error + 'static)> = source.source();
        while let Some(error) = cause {
            if let Some(Carried(carried)) = error.downcast_ref() {
                return Self { verdict: carried.verdict.clone(), source };
            }
            cause = error.source();
        }
        Self { source, verdict: Verdict::None }
    }

    /// The error as any other is passed on, with what it says of its message: for the services of tower, whose layers know
    /// errors as `tower::BoxError`, which is this type.
    ///
    /// ```
    /// use numaflow_sdk::{MapRequest, Message, HandlerError, map};
    /// use std::time::Duration;
    ///
    /// let double = tower::service_fn(async |request: MapRequest| {
    ///     let text = std::str::from_utf8(request.value())?;
    ///     match text.parse::<u32>() {
    ///         Ok(number) => Ok::<_, tower::BoxError>(Message::new((2 * u64::from(number)).to_string())),
    ///         Err(error) => Err(HandlerError::new(error).dead_letter("no-number", request).boxed()),
    ///     }
    /// });
    /// let service = tower::ServiceBuilder::new().timeout(Duration::from_secs(5)).service(double);
    /// # drop(map::tower_service(service));
    /// ```
    #[must_use]
    pub fn boxed(self) -> Box<dyn Error + Send + Sync> {
        Box::new(Carried(self))
    }

    /// Another try here would fail as well: the server's policy applies at once. An answer that the error brings along
    /// stays.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        if matches!(self.verdict, Verdict::None) {
            self.verdict = Verdict::Terminal;
        }
        self
    }

    /// The stream is to end with this error as its status, and the platform sends the message again.
    #[must_use]
    pub fn fail(self) -> Self {
        self.answered(FailurePolicy::Fail, None)
    }

    /// The source is to deliver the message again, by these options; a reason that they lack is the error's text.
    #[must_use]
    pub fn nack(self, options: NackOptions) -> Self {
        self.answered(FailurePolicy::Nack(options), None)
    }

    /// The message is of no use, and is to count as handled.
    #[must_use]
    pub fn drop(self) -> Self {
        self.answered(FailurePolicy::Drop, None)
    }

    /// The message is to go on as it came, with this tag and the error's text in its user metadata.
    ///
    /// It takes the request back because the handler owns it: a copy that is there for the case that somebody asks would
    /// cost every message. A handler that takes its request apart clones it first.
    ///
    /// The error of a [`BatchMapper`](crate::map::BatchMapper) is about a batch, and one message can't stand for the others:
    /// each of them is a dead letter where the server keeps them (it tries again, or its own policy is a dead letter), and
    /// the stream ends as with [`fail`](Self::fail) where it does not. A batch mapper that knows the bad ones answers them
    /// with a tag.
    #[must_use]
    pub fn dead_letter(self, tag: impl Into<String>, request: MapRequest) -> Self {
        self.answered(FailurePolicy::DeadLetter { tag: tag.into() }, Some(request))
    }

    /// The platform is to try the message again, by the `retryStrategy` of the vertex.
    #[must_use]
    pub fn fail_tag(self) -> Self {
        self.answered(FailurePolicy::FailTag, None)
    }

    pub(crate) fn answered(mut self, policy: FailurePolicy, input: Option<MapRequest>) -> Self {
        self.verdict = Verdict::Own(Box::new((policy, input)));
        self
    }

    /// What the error wants to become of the message; `None` where the server decides.
    #[must_use]
    pub fn policy(&self) -> Option<&FailurePolicy> {
        self.own().map(|(policy, _)| policy)
    }

    /// Whether the message is not to be tried again here, because the error is terminal or brings its own answer.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        !matches!(self.verdict, Verdict::None)
    }

    /// The message, where the error brings it along.
    pub(crate) fn brought_input(&self) -> Option<&MapRequest> {
        self.own().and_then(|(_, input)| input.as_ref())
    }

    fn own(&self) -> Option<&(FailurePolicy, Option<MapRequest>)> {
        match &self.verdict {
            Verdict::Own(own) => Some(own),
            Verdict::None | Verdict::Terminal => None,
        }
    }

    /// The error this was made from, taken out.
    pub(crate) fn into_error(self) -> Box<dyn Error + Send + Sync> {
        self.source
    }

    /// The error this was made from.
    #[must_use]
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(source: E) -> Self {
        Self::new(source)
    }
}

/// An error in the place of another type's, on its way to the engine.
struct Carried(HandlerError);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Error for Carried {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // It stands for the error that it was made from.
        self.0.source.source()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of a layer's, with another one as its cause.
    #[derive(Debug)]
    struct Layer(Box<dyn Error + Send + Sync>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the layer failed")
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn a_boxed_error_comes_back_with_its_answer() {
        let io = || HandlerError::new(std::io::Error::other(Layer("deep".into())));
        let back = HandlerError::new(io().dead_letter("bad", MapRequest::new("v")).boxed());
        assert_eq!(back.brought_input().map(|input| &input.value()[..]), Some(&b"v"[..]));
        assert_eq!(crate::error::chain(back.as_error()), crate::error::chain(io().as_error()));
        assert_eq!(crate::error::chain(&*io().drop().boxed()), crate::error::chain(io().as_error()));
        assert!(HandlerError::new(io().terminal().boxed()).is_terminal());
        assert!(!HandlerError::new(io().boxed()).is_terminal());

        let behind = HandlerError::new(Layer(io().nack(NackOptions::new()).boxed()));
        assert_eq!(behind.policy(), Some(&FailurePolicy::Nack(NackOptions::new())));
        assert!(crate::error::chain(behind.as_error()).starts_with("the layer failed: "), "{behind}");
    }

    #[test]
    fn the_last_answer_counts_and_none_is_lost_to_terminal() {
        let error = || HandlerError::new("no");
        assert_eq!((error().policy(), error().is_terminal()), (None, false));
        assert_eq!((error().terminal().policy(), error().terminal().is_terminal()), (None, true));
        let tag = "bad".to_owned();
        for (error, policy) in [
            (error().fail(), FailurePolicy::Fail),
            (error().drop().terminal(), FailurePolicy::Drop),
            (error().terminal().fail_tag(), FailurePolicy::FailTag),
            (error().drop().nack(NackOptions::new()), FailurePolicy::Nack(NackOptions::new())),
            (error().dead_letter("bad", MapRequest::new("v")), FailurePolicy::DeadLetter { tag }),
        ] {
            assert_eq!((error.policy(), error.is_terminal()), (Some(&policy), true));
            assert_eq!(error.to_string(), "no");
        }
    }
}
