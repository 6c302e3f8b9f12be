//! `map.v1.Map` over gRPC.

use std::fmt;
use std::sync::Arc;

use hyper::body::Incoming;
use tonic::body::Body;
use tower_service::Service as TowerService;

use super::batch::{BatchMapper, Batches};
use super::engine::MapBody;
use super::handler::Handler;
use super::options::Options;
use super::stream::{StreamMapper, Streams};
use super::tower::Tower;
use super::unary::Unary;
use super::{Execution, FailurePolicy, Mapper, Retry};
use crate::kind::{Kind, MapMode};
use crate::metrics::Failure;
use crate::panic::{Panic, catching};
use crate::pb::map::v1 as pb;
use crate::server::together::Turn;
use crate::service::{Context, Serve, Service, streamed};
use crate::settings::Settings;
use crate::{HandlerError, IntoMessages, MapRequest, ServeError, error, unary};

/// A map as a [`Server`](crate::Server) can serve it, and how.
///
/// Made by [`service()`], [`tower_service()`], [`batch_service()`] or [`stream_service()`].
///
/// ```
/// use numaflow_sdk::{MapMode, MapRequest, map::{self, FailurePolicy, Retry}};
///
/// let cat = map::from_fn(async |request: MapRequest| Ok(request.into_message()));
/// let service = map::service(cat)
///     .mode(MapMode::Batch)
///     .retry(Retry::attempts(3))
///     .on_failure(FailurePolicy::DeadLetter { tag: "bad".to_owned() });
/// # drop(service);
/// ```
pub struct MapService {
    handler: Box<dyn Open>,
    options: Options,
}

/// Makes a mapper something a [`Server`](crate::Server) can serve, in unary mode unless told otherwise.
#[must_use]
pub fn service<M: Mapper>(mapper: M) -> MapService {
    MapService::new(Unary { mapper: Arc::new(mapper) }, None)
}

/// Makes a tower service something a [`Server`](crate::Server) can serve, with the layers that it has: timeouts, rate
/// limits, concurrency limits and retries of tower's work as they do elsewhere.
///
/// Each stream calls a clone of its own. A stream whose service is not ready reads no further until it is, and its message is
/// shown at the stage [`NotReady`](crate::Stage::NotReady).
///
/// Its error is any error, as that of a [`Mapper`], or a [`HandlerError`], which may bring its own answer along. Behind layers
/// that box errors, such as a timeout, [`HandlerError::boxed`] keeps that answer.
///
/// ```
/// use numaflow_sdk::{MapRequest, Message, map};
/// use std::time::Duration;
///
/// let lookup = tower::service_fn(async |request: MapRequest| {
///     Ok::<_, std::io::Error>(request.into_message())
/// });
/// let service = tower::ServiceBuilder::new().timeout(Duration::from_secs(5)).service(lookup);
/// # drop(map::tower_service(service));
/// ```
#[must_use]
pub fn tower_service<S>(service: S) -> MapService
where
    S: TowerService<MapRequest> + Clone + Send + Sync + 'static,
    S::Response: IntoMessages,
    S::Error: Into<HandlerError>,
    S::Future: Send + 'static,
{
    MapService::new(Tower { service }, None)
}

/// Makes a batch mapper something a [`Server`](crate::Server) can serve, in batch mode.
#[must_use]
pub fn batch_service<M: BatchMapper>(mapper: M) -> MapService {
    MapService::new(Batches { mapper: Arc::new(mapper) }, Some((MapMode::Batch, "a batch mapper")))
}

/// Makes a stream mapper something a [`Server`](crate::Server) can serve, in stream mode.
#[must_use]
pub fn stream_service<M: StreamMapper>(mapper: M) -> MapService {
    MapService::new(Streams { mapper: Arc::new(mapper) }, Some((MapMode::Stream, "a stream mapper")))
}

impl MapService {
    fn new(handler: impl Handler + Sync, only: Option<(MapMode, &'static str)>) -> Self {
        Self { handler: Box::new(handler), options: Options::new(only) }
    }

    /// How the map is served; unary by default. Set from outside by `--map-mode` and `UDF_MAP_MODE`.
    ///
    /// Every [`Mapper`] can be served in every mode. [`MapMode`] says what each is good for.
    #[must_use]
    pub fn mode(mut self, mode: MapMode) -> Self {
        self.options.mode = mode;
        self
    }

    /// What becomes of a message whose handler fails; [`FailurePolicy::Fail`] by default, which loses nothing. Set from
    /// outside by `--on-failure` and `UDF_ON_FAILURE`.
    #[must_use]
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.options.on_failure = policy;
        self
    }

    /// How a message whose handler fails is tried again here before that; not at all by default. The attempts are set from
    /// outside by `--attempts` and `UDF_ATTEMPTS`.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = retry;
        self
    }

    /// How handlers are run; [`Execution::Automatic`] by default. Set from outside by `--execution` and `UDF_EXECUTION`.
    #[must_use]
    pub fn execution(mut self, execution: Execution) -> Self {
        self.options.set_execution(execution);
        self
    }

    /// Whether messages with the same keys are handled strictly in sequence, each when the one before it is answered, while
    /// others run beside them. Off by default: it costs throughput where many messages share their keys. Messages without
    /// keys have no order. Within one stream, which is what the platform keeps an order in.
    ///
    /// Messages that wait for their turn count as in flight: as many of one key as
    /// [`max_in_flight`](crate::Server::max_in_flight) allows leave no room for those of other keys.
    #[must_use]
    pub fn key_ordered(mut self, key_ordered: bool) -> Self {
        self.options.key_ordered = key_ordered;
        self
    }

    /// Whether a panic ends the server, as it does with the platform's official SDKs: it drains, and
    /// [`run`](crate::run) returns with exit code 1, so that the container starts anew. Off by default: what panicked was
    /// one message, and the others need not wait for a restart. For maps whose panics leave state behind that nobody
    /// should go on with.
    #[must_use]
    pub fn exit_on_panic(mut self, exit_on_panic: bool) -> Self {
        self.options.exit_on_panic = exit_on_panic;
        self
    }

    /// The most bytes of all batches that are collected for a [`BatchMapper`] or with it, over all streams. A batch is always
    /// read to its end, whatever the limits of the server are, because two batches that were read in part would wait for each
    /// other; so batches have a limit of their own, and the stream whose message passes it ends with RESOURCE_EXHAUSTED. The
    /// platform sends that batch again. Small batches may have a quarter of the limit besides, in equal parts, so that a large
    /// one that is never completed does not keep them from being. By default half of the container's memory limit, at least
    /// 128 MiB and at most 512 MiB, which is also what it is without a memory limit. Set from outside by
    /// `--max-batch-bytes` and `UDF_MAX_BATCH_BYTES`.
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.options.max_batch_bytes = bytes;
        self
    }
}

impl MapService {
    /// What a call gets whose stream the handler panicked over before there was one.
    async fn not_opened(&self, context: &Arc<Context>, panic: Panic) -> http::Response<Body> {
        context.metrics.handler_failed(Failure::Panic);
        crate::logging::error!(%panic, "a stream cannot be opened, because the handler's clone panicked");
        if self.options.exit_on_panic {
            context.drain.end_after_panic();
        }
        error::handler_panicked_aside(context, panic).await.into_http()
    }
}

impl fmt::Debug for MapService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapService").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Opens streams for a handler of whatever type.
trait Open: Send + Sync {
    fn open(&self, context: &Arc<Context>, options: &Options, turn: Turn, requests: Incoming) -> http::Response<Body>;
}

impl<H: Handler + Sync> Open for H {
    fn open(&self, context: &Arc<Context>, options: &Options, turn: Turn, requests: Incoming) -> http::Response<Body> {
        streamed(MapBody::new(self.clone(), context.clone(), Arc::new(options.clone()), turn, requests))
    }
}

impl Service for MapService {}

impl Serve for MapService {
    fn kind(&self) -> Kind {
        Kind::Map(self.options.mode)
    }

    fn configure(&mut self, settings: &Settings) {
        let options = &mut self.options;
        options.mode = settings.map_mode.unwrap_or(options.mode);
        if let Some(policy) = &settings.on_failure {
            options.on_failure = policy.clone();
        }
        if let Some(attempts) = settings.attempts {
            options.retry = options.retry.clone().with_attempts(attempts);
        }
        if let Some(execution) = settings.execution {
            options.set_execution(execution);
        }
        options.max_batch_bytes = settings.max_batch_bytes.unwrap_or(options.max_batch_bytes);
    }

    fn check(&self) -> Result<(), ServeError> {
        self.options.check()
    }

    fn describe(&self) -> Vec<(&'static str, String)> {
        self.options.describe()
    }

    async fn call(&self, context: &Arc<Context>, request: http::Request<Incoming>) -> http::Response<Body> {
        match request.uri().path() {
            "/map.v1.Map/MapFn" => {
                let turn = request.extensions().get::<Turn>().cloned().unwrap_or_default();
                // A tower service is cloned here, and nothing is known of its clone.
                let opened = catching(|| self.handler.open(context, &self.options, turn, request.into_body()));
                match opened {
                    Ok(response) => response,
                    Err(panic) => self.not_opened(context, panic).await,
                }
            }
            "/map.v1.Map/IsReady" => {
                unary::ready(context, request.into_body(), &pb::ReadyResponse { ready: true }).await
            }
            path => error::unknown_method(path).into_http(),
        }
    }
}
