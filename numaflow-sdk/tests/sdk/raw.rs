//! A stream of bytes as they are, for what no well-behaved client sends.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// One call whose request body is written by hand.
pub(crate) struct RawCall {
    frames: Option<mpsc::Sender<Bytes>>,
    response: http::Response<Incoming>,
}

struct FrameBody(mpsc::Receiver<Bytes>);

impl Body for FrameBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl RawCall {
    /// Opens `path` over `io`.
    pub(crate) async fn open(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, path: &str) -> Self {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's connection")]
        drop(tokio::spawn(connection));
        let (frames, body) = mpsc::channel(64);
        let request = http::Request::post(format!("http://[::1]:50051{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(FrameBody(body))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        Self { frames: Some(frames), response }
    }

    /// Sends a message with gRPC's five-byte head.
    pub(crate) async fn send(&self, message: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap());
        frame.put_slice(message);
        self.send_bytes(frame.freeze()).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&self, bytes: Bytes) {
        self.frames.as_ref().unwrap().send(bytes).await.unwrap();
    }

    /// Half-closes.
    pub(crate) fn close(&mut self) {
        self.frames = None;
    }

    /// Reads to the end and returns the data and the number of the status.
    pub(crate) async fn finish(self) -> (Bytes, String) {
        let head = self.response.headers().get("grpc-status").cloned();
        let body = self.response.into_body().collect().await.unwrap();
        let trailer = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        let status = head.or(trailer).unwrap();
        (body.to_bytes(), status.to_str().unwrap().to_owned())
    }
}
