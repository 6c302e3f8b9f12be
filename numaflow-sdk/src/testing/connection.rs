//! One HTTP/2 connection to a server, as the platform dials it.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::Uri;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Request, Streaming};
use tower_service::Service;

use super::ClientError;
use super::codec::Bounded;
use crate::pb;

/// What the platform calls every server; a server must not look at it.
const ORIGIN: &str = "http://[::1]:50051";
/// The platform's HTTP/2 windows.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;
/// The largest message, both ways.
const MESSAGE_LIMIT: usize = 64 << 20;
/// Requests that wait for the connection to take them; past that, sending waits.
const REQUESTS_QUEUED: usize = 128;

/// A connection to a server of any kind. Clones share it; it closes when the last clone and the last stream are gone.
#[derive(Clone)]
pub struct Connection {
    grpc: Grpc<Http2>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to the Unix socket at `path`.
    ///
    /// # Errors
    ///
    /// When nobody listens there, or what listens does not speak HTTP/2.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let io =
            UnixStream::connect(path).await.map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
        Self::over(io).await
    }

    /// Speaks over a byte stream that is connected already.
    ///
    /// # Errors
    ///
    /// When the other side does not speak HTTP/2.
    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, ClientError> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ClientError::http2)?;
        // The task ends with the connection, and its error reaches whoever has a call open.
        #[expect(clippy::disallowed_methods, reason = "the peer's side, which no drain waits for")]
        drop(tokio::spawn(connection));
        let grpc = Grpc::with_origin(Http2 { sender }, Uri::from_static(ORIGIN))
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Ok(Self { grpc })
    }

    /// Asks `IsReady` of `service` (`map.v1.Map`, for one) and returns what it says. At start and on a reconnect the
    /// platform takes any answer for a yes; its health check wants `true`.
    ///
    /// # Errors
    ///
    /// When there is no answer: the connection is lost, or the server ends the call with a status, such as
    /// `UNIMPLEMENTED` where it offers no such service.
    pub async fn is_ready(&self, service: &str) -> Result<bool, ClientError> {
        let answer: pb::map::v1::ReadyResponse = self.unary(service, "IsReady", ()).await?;
        Ok(answer.ready)
    }

    pub(super) async fn unary<Req, Res>(&self, service: &str, method: &str, request: Req) -> Result<Res, ClientError>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(ClientError::http2)?;
        let answer = grpc.unary(Request::new(request), path(service, method)?, Bounded::default()).await?;
        Ok(answer.into_inner())
    }

    /// Opens a stream with its first request, and returns once the server has answered the head.
    pub(super) async fn open<Req, Res>(
        &self,
        service: &str,
        method: &str,
        first: Req,
    ) -> Result<Open<Req, Res>, ClientError>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED);
        requests.try_send(first).map_err(|_| ClientError::Closed)?;
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(ClientError::http2)?;
        let answer = grpc.streaming(Request::new(Queue(queue)), path(service, method)?, Bounded::default()).await?;
        Ok(Open { requests: Requests { queue: Some(requests) }, responses: answer.into_inner() })
    }
}

fn path(service: &str, method: &str) -> Result<PathAndQuery, ClientError> {
    PathAndQuery::try_from(format!("/{service}/{method}"))
        .map_err(|_| ClientError::protocol(format!("{service:?} is not the name of a service")))
}

/// Both directions of an open stream.
pub(super) struct Open<Req, Res> {
    pub(super) requests: Requests<Req>,
    pub(super) responses: Streaming<Res>,
}

/// The sending direction of a stream, until it is closed.
#[derive(Debug)]
pub(super) struct Requests<Req> {
    queue: Option<mpsc::Sender<Req>>,
}

impl<Req> Requests<Req> {
    pub(super) async fn send(&self, request: Req) -> Result<(), ClientError> {
        let queue = self.queue.as_ref().ok_or(ClientError::Closed)?;
        queue.send(request).await.map_err(|_| ClientError::Closed)
    }

    pub(super) async fn reserve(&self) -> Result<mpsc::Permit<'_, Req>, ClientError> {
        let queue = self.queue.as_ref().ok_or(ClientError::Closed)?;
        queue.reserve().await.map_err(|_| ClientError::Closed)
    }

    /// Half-closes the stream: nothing more is sent, answers still come.
    pub(super) fn close(&mut self) {
        self.queue = None;
    }
}

/// The queue of a stream's requests, as tonic wants it.
struct Queue<Req>(mpsc::Receiver<Req>);

impl<Req> Stream for Queue<Req> {
    type Item = Req;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Req>> {
        self.0.poll_recv(cx)
    }
}

/// hyper's sending half of a connection, as tonic wants it.
#[derive(Clone)]
struct Http2 {
    sender: SendRequest<Body>,
}

impl Service<http::Request<Body>> for Http2 {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
