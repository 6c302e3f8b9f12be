//! tower services as maps.

use std::future::Future;
use std::task::{Context, Poll};

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
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    type Request = MapRequest;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.service.poll_ready(cx).map_err(HandlerError::new)
    }

    fn call(&mut self, request: MapRequest, _outlet: Option<&Outlet>) -> impl Future<Output = Done> + Send + 'static {
        mapped(self.service.call(request), |result| match result {
            Ok(response) => Ok(Answers::One(response.into_messages())),
            Err(error) => Err(HandlerError::new(error).into()),
        })
    }
}
