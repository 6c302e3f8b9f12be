//! The load client's end of a connection: HTTP/2 as the platform speaks it, without a gRPC library.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Method, Request};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Outcome;
use crate::wire::{self, Received};

/// The windows of the platform's client.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;
/// What the platform's client buffers of a stream.
const SEND_BUFFER: usize = 1 << 20;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection. Dropped, it is broken off.
#[derive(Debug)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    // Drives the connection on the runtime of the client's one thread.
    _driver: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn new(socket: UnixStream) -> Outcome<Self> {
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(socket)
            .await?;
        let mut driver = JoinSet::new();
        // How it ends shows in its streams.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { requests: requests.ready().await?, _driver: driver })
    }

    /// Opens the stream of a map.
    pub(crate) async fn open_map(&mut self) -> Outcome<Stream> {
        self.open("/map.v1.Map/MapFn", wire::handshake()).await
    }

    /// Opens a stream and shakes hands on it.
    pub(crate) async fn open(&mut self, path: &str, handshake: Vec<u8>) -> Outcome<Stream> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://[::1]:50051{path}"))
            .header(http::header::TE, HeaderValue::from_static("trailers"))
            .header(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .body(())?;
        let (response, mut send) = self.requests.send_request(request, false)?;
        send.send_data(handshake.into(), false)?;
        let open = async {
            let response = response.await?;
            if let Some(status) = response.headers().get("grpc-status") {
                return Err(format!("{path} ends at once with status {status:?}").into());
            }
            let mut stream = Stream { send, receive: response.into_body(), received: Received::default() };
            loop {
                if let Some(length) = stream.received.begin()? {
                    bytes::Buf::advance(&mut stream.received, length);
                    return Ok(stream);
                }
                stream.receive().await?;
            }
        };
        timeout(PATIENCE, open).await.map_err(|_| format!("no handshake on {path} within {PATIENCE:?}"))?
    }
}

/// A stream with the handshake behind it.
#[derive(Debug)]
pub(crate) struct Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    pub(crate) received: Received,
}

impl Stream {
    /// Waits for a chunk of what comes.
    pub(crate) async fn receive(&mut self) -> Outcome<()> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Waits for room and sends a chunk.
    pub(crate) async fn send(&mut self, chunk: Vec<u8>) -> Outcome<()> {
        let mut chunk = Some(chunk.into());
        poll_fn(|cx| self.poll_send(cx, &mut chunk)).await
    }

    /// Takes one chunk of what has come.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<()>> {
        match ready!(self.receive.poll_data(cx)) {
            Some(chunk) => {
                let chunk = chunk?;
                self.receive.flow_control().release_capacity(chunk.len())?;
                self.received.push(chunk);
                Poll::Ready(Ok(()))
            }
            None => {
                let trailers = ready!(self.receive.poll_trailers(cx))?.unwrap_or_default();
                let text = |name: &str| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
                let status = text("grpc-status").unwrap_or_default();
                let message = text("grpc-message").unwrap_or_default();
                Poll::Ready(Err(format!("the server ended the stream with status {status}: {message}").into()))
            }
        }
    }

    /// Sends a chunk once the server has any room, as the platform's client does: HTTP/2 keeps what is beyond it.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, chunk: &mut Option<Bytes>) -> Poll<Outcome<()>> {
        self.send.reserve_capacity(1);
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(result) => drop(result?),
                None => return Poll::Ready(Err("the server closed the stream".into())),
            }
        }
        if let Some(chunk) = chunk.take() {
            self.send.send_data(chunk, false)?;
        }
        Poll::Ready(Ok(()))
    }
}
