//! What a broken peer sends: a status on its stream, and nothing else is disturbed.

use bytes::Bytes;
use numaflow_sdk::{MapRequest, Server, map, testing};

use crate::raw::RawCall;
use crate::support::OnSocket;

const INVALID_ARGUMENT: &str = "3";
const UNIMPLEMENTED: &str = "12";
const MAP_FN: &str = "/map.v1.Map/MapFn";
/// `MapRequest { handshake: Handshake { sot: true } }`.
const HANDSHAKE: &[u8] = &[0x1a, 0x02, 0x08, 0x01];

fn cat() -> Server<map::MapService> {
    Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message()))))
}

/// Sends these messages over a connection of a server of its own, and tells the status.
async fn status_after(messages: &[&[u8]]) -> String {
    let mut call = RawCall::open(testing::serve(cat()), MAP_FN).await;
    for message in messages {
        call.send(message).await;
    }
    call.close();
    call.finish().await.1
}

#[tokio::test]
async fn a_data_message_before_the_handshake() {
    // `MapRequest { request: Request { value: "x" }, id: "1" }`
    assert_eq!(status_after(&[&[0x0a, 0x03, 0x12, 0x01, b'x', 0x12, 0x01, b'1']]).await, INVALID_ARGUMENT);
}

#[tokio::test]
async fn a_handshake_without_sot() {
    assert_eq!(status_after(&[&[0x1a, 0x00]]).await, INVALID_ARGUMENT);
}

#[tokio::test]
async fn a_stream_closed_before_the_handshake() {
    assert_eq!(status_after(&[]).await, INVALID_ARGUMENT);
}

#[tokio::test]
async fn a_message_without_a_request() {
    assert_eq!(status_after(&[HANDSHAKE, &[0x12, 0x01, b'1']]).await, INVALID_ARGUMENT);
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    assert_eq!(status_after(&[HANDSHAKE, &[0xff; 16]]).await, INVALID_ARGUMENT);
}

#[tokio::test]
async fn a_second_handshake_and_an_end_of_transmission_are_ignored() {
    assert_eq!(status_after(&[HANDSHAKE, HANDSHAKE, &[0x22, 0x02, 0x08, 0x01]]).await, "0");
}

#[tokio::test]
async fn an_unknown_field_is_ignored() {
    // Field 100, length-delimited, beside the handshake.
    assert_eq!(status_after(&[&[0x1a, 0x02, 0x08, 0x01, 0xa2, 0x06, 0x01, b'x']]).await, "0");
}

#[tokio::test]
async fn an_unknown_method() {
    let mut call = RawCall::open(testing::serve(cat()), "/map.v1.Map/Nothing").await;
    call.close();
    assert_eq!(call.finish().await.1, UNIMPLEMENTED);
}

#[tokio::test]
async fn a_server_outlives_every_broken_peer() {
    let server = OnSocket::start(cat());
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    for broken in [&b""[..], &[0xff; 100], HANDSHAKE] {
        let io = tokio::net::UnixStream::connect(server.socket()).await.unwrap();
        let call = RawCall::open(io, MAP_FN).await;
        call.send(broken).await;
        // A head that promises a megabyte, and then the peer is gone.
        call.send_bytes(Bytes::from_static(&[0, 0, 0x10, 0, 0, 1, 2, 3])).await;
        drop(call);
    }
    assert_eq!(stream.map(MapRequest::new("still here")).await.unwrap()[0].value(), "still here");
    let (_directory, served) = server.stop();
    stream.close();
    assert_eq!(served.await.unwrap().unwrap().abandoned_streams, 0);
}
