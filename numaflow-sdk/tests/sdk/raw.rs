//! A stream of bytes as they are, for what no well-behaved client sends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// A message with gRPC's five-byte head.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// A field of bytes.
pub(crate) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// A connection for any number of calls.
#[derive(Clone)]
pub(crate) struct RawConnection {
    sender: SendRequest<FrameBody>,
}

impl RawConnection {
    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's connection")]
        drop(tokio::spawn(connection));
        Self { sender }
    }

    /// Opens `path` and waits for the head of the response.
    pub(crate) async fn call(&self, path: &str) -> RawCall {
        let (frames, body) = mpsc::channel(64);
        let response = self.sender.clone().send_request(request(path, body)).await.unwrap();
        RawCall { frames: Some(frames), response, received: BytesMut::new() }
    }
}

impl RawConnection {
    /// Makes a call with these bytes, half-closes, and returns the data and the number of the status.
    pub(crate) async fn answer(&self, path: &str, chunks: Vec<Bytes>) -> (Bytes, String) {
        let (frames, body) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            frames.try_send(Ok(chunk)).unwrap();
        }
        drop(frames);
        let response = self.sender.clone().send_request(request(path, body)).await.unwrap();
        RawCall { frames: None, response, received: BytesMut::new() }.finish().await
    }
}

fn request(path: &str, body: mpsc::Receiver<io::Result<Bytes>>) -> http::Request<FrameBody> {
    http::Request::post(format!("http://[::1]:50051{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(FrameBody(body))
        .unwrap()
}

/// One call whose request body is written by hand.
pub(crate) struct RawCall {
    frames: Option<mpsc::Sender<io::Result<Bytes>>>,
    response: http::Response<Incoming>,
    received: BytesMut,
}

pub(crate) struct FrameBody(mpsc::Receiver<io::Result<Bytes>>);

impl Body for FrameBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

impl RawCall {
    /// Opens `path` over `io`.
    pub(crate) async fn open(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, path: &str) -> Self {
        RawConnection::over(io).await.call(path).await
    }

    /// Sends a message with gRPC's five-byte head.
    pub(crate) async fn send(&self, message: &[u8]) {
        self.send_bytes(frame(message)).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&self, bytes: Bytes) {
        self.frames.as_ref().unwrap().send(Ok(bytes)).await.unwrap();
    }

    /// Sends bytes as they are, unless the server has ended the stream and takes none any more.
    pub(crate) async fn try_send_bytes(&self, bytes: Bytes) -> bool {
        self.frames.as_ref().unwrap().send(Ok(bytes)).await.is_ok()
    }

    /// Half-closes.
    pub(crate) fn close(&mut self) {
        self.frames = None;
    }

    /// Resets the stream.
    pub(crate) async fn reset(self) {
        // Where the server has ended the stream there is nothing to reset.
        drop(self.frames.unwrap().send(Err(io::Error::other("reset by the test"))).await);
    }

    /// Receives the next message, without its head.
    pub(crate) async fn recv(&mut self) -> Bytes {
        loop {
            if let Some((head, body)) = self.received.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if body.len() >= length {
                    self.received.advance(head.len());
                    return self.received.split_to(length).freeze();
                }
            }
            let frame = self.response.body_mut().frame().await.unwrap().unwrap();
            self.received.put_slice(&frame.into_data().unwrap());
        }
    }

    /// Reads to the end and returns the data and the number of the status.
    pub(crate) async fn finish(mut self) -> (Bytes, String) {
        let head = self.response.headers().get("grpc-status").cloned();
        let body = self.response.into_body().collect().await.unwrap();
        let trailer = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        let status = head.or(trailer).unwrap();
        self.received.put_slice(&body.to_bytes());
        (self.received.freeze(), status.to_str().unwrap().to_owned())
    }
}
