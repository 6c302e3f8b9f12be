//! A peer that sends bytes as they are.

use std::path::PathBuf;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// A message with gRPC's head, which may announce more than there is.
pub(super) fn frame(announced: usize, message: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(announced).unwrap());
    frame.put_slice(message);
    frame
}

/// A field of bytes.
pub(super) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// Makes a call on a connection of its own with this body and returns the number of its status.
pub(super) async fn call(socket: PathBuf, method: &str, body: Bytes) -> String {
    let io = TokioIo::new(UnixStream::connect(socket).await.unwrap());
    let (mut sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    let mut connected = JoinSet::new();
    connected.spawn(async move { drop(connection.await) });
    let request = http::Request::post(format!("http://localhost/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let head = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.unwrap();
    let status = head.or_else(|| body.trailers()?.get("grpc-status").cloned()).unwrap();
    status.to_str().unwrap().to_owned()
}
