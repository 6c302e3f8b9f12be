//! Maps that take one message and answer it, as the engine calls them.

use std::future::Future;
use std::sync::Arc;

use super::Mapper;
use super::attempt::Done;
use super::handler::{Answers, Handler};
use super::mapped::mapped;
use super::outputs::Outlet;
use crate::MapRequest;

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

    fn call(&mut self, request: MapRequest, _outlet: Option<&Outlet>) -> impl Future<Output = Done> + Send + 'static {
        mapped(M::start(&self.mapper, request), |result| match result {
            Ok(messages) => Ok(Answers::One(messages)),
            Err(error) => Err(error.into()),
        })
    }
}
