//! `map.v1.Map` over gRPC.

use std::sync::Arc;

use hyper::body::Incoming;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use super::Mapper;
use super::engine::MapStream;
use crate::error;
use crate::kind::Kind;
use crate::pb::map::v1 as pb;
use crate::service::{Context, Open, Serve, Service};

/// A [`Mapper`] as a server can serve it.
#[derive(Debug)]
pub struct MapService<M> {
    mapper: Arc<M>,
}

/// Makes a mapper something a [`Server`](crate::Server) can serve.
pub fn service<M: Mapper>(mapper: M) -> MapService<M> {
    MapService { mapper: Arc::new(mapper) }
}

impl<M: Mapper> Service for MapService<M> {}

impl<M: Mapper> Serve for MapService<M> {
    const KIND: Kind = Kind::UnaryMap;

    async fn call(&self, context: &Arc<Context>, request: http::Request<Incoming>) -> http::Response<Body> {
        match request.uri().path() {
            "/map.v1.Map/MapFn" => {
                let open = |requests| MapStream::new(self.mapper.clone(), context.clone(), requests);
                context
                    .grpc(ProstCodec::<pb::MapResponse, pb::MapRequest>::default())
                    .streaming(Open { open }, request)
                    .await
            }
            "/map.v1.Map/IsReady" => {
                context.unary(request, |(): ()| async { Ok(pb::ReadyResponse { ready: true }) }).await
            }
            path => error::unknown_method(path).into_http(),
        }
    }
}
