//! Maps that take one message and answer it, as the engine calls them.

use std::future::Future;
use std::sync::Arc;

use super::Mapper;
use super::handler::{Answers, Handler};
use super::outputs::Outlet;
use crate::{HandlerError, MapRequest};

/// A [`Mapper`] as the engine calls it.
#[derive(Debug)]
pub(super) struct Unary<M> {
    pub(super) mapper: Arc<M>,
}

impl<M> Clone for Unary<M> {
    fn clone(&self) -> Self {
        Self { mapper: self.mapper.clone() }
    }
}

impl<M: Mapper> Handler for Unary<M> {
    type Request = MapRequest;

    fn call(
        &mut self,
        request: MapRequest,
        _outlet: Option<&Outlet>,
    ) -> impl Future<Output = Result<Answers, HandlerError>> + Send + 'static {
        let mapper = self.mapper.clone();
        async move { mapper.map(request).await.map(Answers::One) }
    }
}
