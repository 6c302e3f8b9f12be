//! What a server can serve, and the gRPC plumbing that all services share.

use std::cmp::Reverse;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::body::Body;

use crate::additions::Additions;
use crate::in_flight::InFlight;
use crate::kind::Kind;
use crate::limit::{Limits, Usage};
use crate::metrics::{Metrics, add};
use crate::server::drain::Drain;
use crate::server::{AbandonedMessage, Drained};
use crate::{ServeError, Settings};

/// How often the log says that requests are refused, at the most.
const REFUSAL_PAUSE: Duration = Duration::from_mins(1);

/// What a [`Server`](crate::Server) can serve: made by [`map::service`](crate::map::service) or
/// [`source::service`](crate::source::service), and by nothing outside this crate.
pub trait Service: Serve {}

/// The side of [`Service`] that nobody outside needs to see.
pub trait Serve: Send + Sync + 'static {
    /// What it is to the platform.
    fn kind(&self) -> Kind;

    /// Takes over those settings that are this service's own.
    fn configure(&mut self, _settings: &Settings) {}

    /// Whether its options make sense.
    ///
    /// # Errors
    ///
    /// The first one that does not.
    fn check(&self) -> Result<(), ServeError> {
        Ok(())
    }

    /// Lines for the block at the start: a name and a text each.
    fn describe(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Answers one HTTP request, which is one gRPC call.
    fn call(
        &self,
        context: &Arc<Context>,
        request: http::Request<Incoming>,
    ) -> impl Future<Output = http::Response<Body>> + Send;
}

/// What every stream of a server knows.
#[derive(Debug)]
pub struct Context {
    /// The text in `UDF_EXECUTION_ERROR(..)`, by which the platform finds the container.
    pub(crate) container_type: String,
    /// The partition of a source that has none.
    pub(crate) replica: u16,
    pub(crate) max_message_size: usize,
    pub(crate) limits: Limits,
    pub(crate) in_flight: InFlight,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether it was said that a limit was reached.
    pub(crate) limit_told: AtomicBool,
    /// When it was last said that a request was refused.
    pub(crate) refusal_told: Mutex<Option<Instant>>,
    pub(crate) drain: Drain,
    /// What the program adds to the admin endpoint.
    pub(crate) additions: Additions,
}

/// The response of a call whose answers are a stream. Its head leaves at once; what comes before the handshake is the
/// stream's to say.
pub(crate) fn streamed<B>(body: B) -> http::Response<Body>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl Context {
    /// What a drain leaves undone when it ends at this moment. No handler begins after that: its message would be named
    /// nowhere. Needs no runtime.
    pub(crate) fn abandon(&self) -> Drained {
        self.in_flight.seal();
        let mut messages = self.drain.gave_up();
        messages.extend(self.in_flight.list(Instant::now()));
        messages.sort_by_key(|message| Reverse(message.age));
        Drained {
            after_panic: self.drain.has_panicked(),
            abandoned_streams: self.drain.open_streams(),
            abandoned_connections: self.drain.open_connections(),
            abandoned_messages: messages.into_iter().map(AbandonedMessage::from).collect(),
        }
    }

    /// Counts a stream as opened, and as open until the token is dropped.
    pub(crate) fn open_stream(&self) -> TaskTrackerToken {
        add(&self.metrics.streams_opened, 1);
        self.drain.open_stream()
    }

    /// A limit keeps a message waiting that the peer has sent.
    pub(crate) fn limit_reached(&self) {
        add(&self.metrics.limit_reached, 1);
        if !self.limit_told.load(Ordering::Relaxed) {
            let Usage { messages, max_messages, bytes, max_bytes, adapts } = self.limits.usage();
            // One that finds itself is there to be reached.
            if adapts && messages >= max_messages || self.limit_told.swap(true, Ordering::Relaxed) {
                return;
            }
            crate::logging::warn!(
                messages,
                max_messages,
                bytes,
                max_bytes,
                "a limit on what is in flight was reached while the peer had more to send: it waits (told once)"
            );
        }
    }

    /// HTTP/2 has refused a request, which no service has seen.
    pub(crate) fn request_refused(&self) {
        add(&self.metrics.requests_refused, 1);
        let now = Instant::now();
        // Nothing panics while it holds the lock.
        let mut told = self.refusal_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.saturating_duration_since(told) >= REFUSAL_PAUSE) {
            *told = Some(now);
            drop(told);
            crate::logging::warn!(
                refused = self.metrics.requests_refused.load(Ordering::Relaxed),
                "HTTP/2 has refused a request with PROTOCOL_ERROR, because its head is malformed; mostly its :authority is no \
                 host, as with gRPC clients on a Unix socket that use its path: set the client's authority to localhost \
                 (grpc.default_authority, overrideAuthority; told once a minute)"
            );
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use crate::map::Execution;
    use crate::testing::MapClient;
    use crate::{MapRequest, Server, map};

    /// A stream may be in the middle of its turn when a drain names what is left. On a busy machine that turn may take long.
    #[tokio::test]
    async fn no_handler_begins_once_a_drain_has_named_what_is_left() {
        for execution in [Execution::Automatic, Execution::Tasks] {
            let (given, mut handled) = tokio::sync::mpsc::channel(2);
            let service = map::service(map::from_fn(move |request: MapRequest| {
                given.try_send(request.id().to_owned()).unwrap();
                async { Ok(request.into_message()) }
            }));
            let directory = tempfile::TempDir::new().unwrap();
            let socket = directory.path().join("s");
            let server = Server::new(service.execution(execution)).socket_path(&socket);
            let server = server.server_info_path(directory.path().join("i")).bind().unwrap();
            let context = server.context();
            let mut serving = tokio::task::JoinSet::new();
            serving.spawn(server.serve_until(std::future::pending()));
            let mut stream = MapClient::connect(&socket).await.unwrap().open().await.unwrap();
            stream.send("first", MapRequest::new("x")).await.unwrap();
            assert_eq!(stream.recv().await.unwrap().unwrap().id, "first");
            context.abandon();
            stream.send("second", MapRequest::new("x")).await.unwrap();
            stream.recv().await.unwrap_err();
            assert_eq!(handled.recv().await.unwrap(), "first");
            assert!(handled.try_recv().is_err(), "{execution:?}");
        }
    }
}
