//! `source.v1.Source` over gRPC.

use std::future::Future;
use std::sync::Arc;

use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use super::ack::AckBody;
use super::read::ReadBody;
use super::{NackOffset, Offset, Partitions, Sourcer};
use crate::kind::Kind;
use crate::metrics::{Failure, add};
use crate::panic::catch;
use crate::pb::source::v1 as pb;
use crate::server::together::Turn;
use crate::service::{Context, Serve, Service, streamed};
use crate::{HandlerError, NackOptions, error};

/// A [`Sourcer`] as a server can serve it.
#[derive(Debug)]
pub struct SourceService<S> {
    sourcer: Arc<S>,
}

/// Makes a source something a [`Server`](crate::Server) can serve.
#[must_use]
pub fn service<S: Sourcer>(sourcer: S) -> SourceService<S> {
    SourceService { sourcer: Arc::new(sourcer) }
}

impl<S: Sourcer> Service for SourceService<S> {}

impl<S: Sourcer> Serve for SourceService<S> {
    fn kind(&self) -> Kind {
        Kind::Source
    }

    async fn call(&self, context: &Arc<Context>, request: http::Request<Incoming>) -> http::Response<Body> {
        let sourcer = self.sourcer.clone();
        let shared = context.clone();
        match request.uri().path() {
            "/source.v1.Source/ReadFn" => {
                let turn = request.extensions().get::<Turn>().cloned().unwrap_or_default();
                streamed(ReadBody::new(sourcer, shared, turn, request.into_body()))
            }
            "/source.v1.Source/AckFn" => streamed(AckBody::new(sourcer, shared, request.into_body())),
            "/source.v1.Source/NackFn" => context.unary(request, |nacks| nack(sourcer, shared, nacks)).await,
            "/source.v1.Source/PendingFn" => context.unary(request, |(): ()| pending(sourcer, shared)).await,
            "/source.v1.Source/PartitionsFn" => context.unary(request, |(): ()| partitions(sourcer, shared)).await,
            "/source.v1.Source/IsReady" => {
                context.unary(request, |(): ()| async { Ok(pb::ReadyResponse { ready: true }) }).await
            }
            path => error::unknown_method(path).into_http(),
        }
    }
}

/// Runs a handler and turns its failure into a status.
pub(super) async fn guarded<T>(
    context: &Arc<Context>,
    handler: impl Future<Output = Result<T, HandlerError>>,
) -> Result<T, Status> {
    match catch(handler).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => {
            context.metrics.handler_failed(Failure::Error);
            crate::logging::error!(error = error::chain(error.as_error()), "the source failed");
            Err(error::handler_failed(&context.container_type, &error))
        }
        Err(panic) => {
            context.metrics.handler_failed(Failure::Panic);
            crate::logging::error!(%panic, "the source panicked");
            Err(error::handler_panicked_aside(context, panic).await)
        }
    }
}

async fn nack<S: Sourcer>(
    sourcer: Arc<S>,
    context: Arc<Context>,
    request: pb::NackRequest,
) -> Result<pb::NackResponse, Status> {
    let mut nacks = Vec::new();
    for element in request.request {
        let options = element.nack_options.map(NackOptions::from_wire).unwrap_or_default();
        let offsets = element.offsets.into_iter().map(Offset::from_wire);
        nacks.extend(offsets.map(|offset| NackOffset::new(offset, options.clone())));
    }
    if !nacks.is_empty() {
        let count = nacks.len();
        guarded(&context, async { sourcer.nack(nacks).await }).await?;
        add(&context.metrics.source.nacks, count);
    }
    Ok(pb::NackResponse { result: Some(pb::nack_response::Result { success: Some(()) }) })
}

async fn pending<S: Sourcer>(sourcer: Arc<S>, context: Arc<Context>) -> Result<pb::PendingResponse, Status> {
    add(&context.metrics.source.pending_calls, 1);
    let pending = guarded(&context, async { sourcer.pending().await }).await?;
    let count = pending.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
    Ok(pb::PendingResponse { result: Some(pb::pending_response::Result { count }) })
}

async fn partitions<S: Sourcer>(sourcer: Arc<S>, context: Arc<Context>) -> Result<pb::PartitionsResponse, Status> {
    add(&context.metrics.source.partitions_calls, 1);
    let partitions = guarded(&context, async { sourcer.partitions().await }).await?;
    let partitions = partitions.unwrap_or_else(|| Partitions::new([context.replica]));
    let total_partitions = partitions.total.map(|total| i32::try_from(total).unwrap_or(i32::MAX));
    let partitions = partitions.active.into_iter().map(i32::from).collect();
    Ok(pb::PartitionsResponse { result: Some(pb::partitions_response::Result { partitions, total_partitions }) })
}
