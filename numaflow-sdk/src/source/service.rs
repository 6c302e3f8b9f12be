//! `source.v1.Source` over gRPC.

use std::future::Future;
use std::sync::Arc;

use hyper::body::Incoming;
use prost::Message;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;

use super::ack::AckBody;
use super::read::ReadBody;
use super::{Partitions, Sourcer, calls};
use crate::in_flight::Entry;
use crate::kind::Kind;
use crate::metrics::{Failure, add};
use crate::panic::catch;
use crate::pb::source::v1 as pb;
use crate::server::together::Turn;
use crate::service::{Context, Serve, Service, streamed};
use crate::{HandlerError, error, unary};

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
            "/source.v1.Source/NackFn" => respond(context, nack(sourcer, shared, request.into_body()).await),
            "/source.v1.Source/PendingFn" => respond(context, pending(sourcer, shared, request.into_body()).await),
            "/source.v1.Source/PartitionsFn" => {
                respond(context, partitions(sourcer, shared, request.into_body()).await)
            }
            "/source.v1.Source/IsReady" => {
                unary::ready(context, request.into_body(), &pb::ReadyResponse { ready: true }).await
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
            crate::logging::error!(
                error = error::one_line(&error::chain(error.as_error()), error::TEXT_CAP),
                "the source failed"
            );
            Err(error::handler_failed(&context.container_type, &error))
        }
        Err(panic) => {
            context.metrics.handler_failed(Failure::Panic);
            crate::logging::error!(%panic, "the source panicked");
            Err(error::handler_panicked_aside(context, panic).await)
        }
    }
}

/// What a call is answered, and what lists it, if anything does.
type Answered<M> = Result<(M, Option<Entry>), Status>;

fn respond<M: Message>(context: &Context, answered: Answered<M>) -> http::Response<Body> {
    match answered {
        Ok((answer, entry)) => unary::respond(context, &answer, entry),
        Err(status) => status.into_http(),
    }
}

/// Runs a call as a task of its own, so that a source that blocks its thread does not hold the connection. The task is aborted
/// when this future is dropped.
async fn on_task<T: Send + 'static>(
    context: &Context,
    call: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let mut task = JoinSet::new();
    task.spawn(call);
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(error::handler_lost(&context.container_type, &error)),
        None => Err(error::draining()),
    }
}

async fn nack<S: Sourcer>(sourcer: Arc<S>, context: Arc<Context>, body: Incoming) -> Answered<pb::NackResponse> {
    let share = context.limits.share();
    let request = unary::receive(&share, body, context.max_message_size).await?;
    let entry = on_task(&context, calls::nack(sourcer, context.clone(), share, request)).await?;
    Ok((pb::NackResponse { result: Some(pb::nack_response::Result { success: Some(()) }) }, entry))
}

async fn pending<S: Sourcer>(sourcer: Arc<S>, context: Arc<Context>, body: Incoming) -> Answered<pb::PendingResponse> {
    unary::receive_empty(&context, body).await?;
    add(&context.metrics.source.pending_calls, 1);
    let call = calls::ask(context.clone(), "PendingFn", async move { sourcer.pending().await });
    let (pending, entry) = on_task(&context, call).await?;
    let count = pending.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
    Ok((pb::PendingResponse { result: Some(pb::pending_response::Result { count }) }, Some(entry)))
}

async fn partitions<S: Sourcer>(
    sourcer: Arc<S>,
    context: Arc<Context>,
    body: Incoming,
) -> Answered<pb::PartitionsResponse> {
    unary::receive_empty(&context, body).await?;
    add(&context.metrics.source.partitions_calls, 1);
    let call = calls::ask(context.clone(), "PartitionsFn", async move { sourcer.partitions().await });
    let (partitions, entry) = on_task(&context, call).await?;
    let partitions = partitions.unwrap_or_else(|| Partitions::new([context.replica]));
    let total_partitions = partitions.total.map(|total| i32::try_from(total).unwrap_or(i32::MAX));
    let partitions = partitions.active.into_iter().map(i32::from).collect();
    let result = Some(pb::partitions_response::Result { partitions, total_partitions });
    Ok((pb::PartitionsResponse { result }, Some(entry)))
}
