//! tower services as maps.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::attempt::Done;
use super::handler::{Answers, Handler};
use super::mapped::mapped;
use super::outputs::Outlet;
use crate::{HandlerError, IntoMessages, MapRequest};

/// A tower service as the engine calls it.
#[derive(Debug, Clone)]
pub(super) struct Tower<S> {
    pub(super) service: S,
}

impl<S> Handler for Tower<S>
where
    S: Service<MapRequest> + Clone + Send + 'static,
    S::Response: IntoMessages,
    S::Error: Into<HandlerError>,
    S::Future: Send + 'static,
{
    type Request = MapRequest;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: MapRequest, _outlet: Option<&Outlet>) -> impl Future<Output = Done> + Send + 'static {
        mapped(until_ready(self.service.call(request)), |result| match result {
            Ok(response) => Ok(Answers::One(response.into_messages())),
            Err(error) => {
                let error: HandlerError = error.into();
                Err(error.into())
            }
        })
    }
}

pin_project_lite::pin_project! {
    /// Made by [`until_ready`].
    struct UntilReady<F> {
        #[pin]
        future: Option<F>,
    }
}

/// A future that is dropped as soon as it is ready. The box of a call is kept for another one, and what the future of a
/// layer holds to its end, such as its part in a concurrency limit, is not to be held until then.
fn until_ready<F: Future>(future: F) -> UntilReady<F> {
    UntilReady { future: Some(future) }
}

impl<F: Future> Future for UntilReady<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let output = ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(output)
    }
}
