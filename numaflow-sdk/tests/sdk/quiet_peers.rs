//! Peers that have nothing in flight and do not answer: no drain waits for them.

use std::path::Path;
use std::time::Duration;

use numaflow_sdk::{Drained, MapRequest, Server, map};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::raw_http2::{PREFACE, RawPeer};
use crate::support::{OnSocket, status, within};

const LONG: Duration = Duration::from_secs(60);

fn server() -> Server<map::MapService> {
    Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message())))).drain_timeout(LONG)
}

/// A connection on which only these bytes were sent.
async fn connection(path: &Path, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

#[tokio::test]
async fn a_connection_without_a_call_holds_up_no_drain() {
    let server = OnSocket::start(server());
    let path = server.socket();
    let silent = [connection(&path, b"").await, connection(&path, &PREFACE[..12]).await];
    let mut at_rest = RawPeer::connect(&path).await;
    // The last frame has come, so the call is over.
    at_rest.call(1, "/map.v1.Map/IsReady", Some("localhost")).await;
    let fresh = RawPeer::connect(&path).await;
    // They have been accepted: this one was after them.
    assert!(server.map_client().await.is_ready().await.unwrap());
    let (_directory, served) = server.stop();
    assert_eq!(within(LONG / 3, served).await.unwrap().unwrap(), Drained::default());
    drop((silent, at_rest, fresh));
}

/// A peer that stands still with a stream open is served as designed, and no longer than that.
#[tokio::test]
async fn a_silent_peers_stream_is_over_when_streams_are_ended() {
    let server = OnSocket::start(server().drain_timeout(LONG / 6));
    let mut still = RawPeer::connect(&server.socket()).await;
    still.open(1, "/map.v1.Map/MapFn", Some("localhost")).await;
    let mut stream = server.map_client().await.open().await.unwrap();
    let (_directory, served) = server.stop();
    // During the drain streams are served on, until a fifth of its time is left.
    assert_eq!(stream.map(MapRequest::new("x")).await.unwrap()[0].value(), "x");
    assert_eq!(status(&stream.recv().await.unwrap_err()).0, "UNAVAILABLE");
    assert_eq!(within(LONG, served).await.unwrap().unwrap(), Drained::default());
    drop(still);
}

/// With no limit a drain takes as long as its peers.
#[tokio::test]
async fn a_drain_may_be_without_a_limit() {
    let server = OnSocket::start(server().drain_timeout(Duration::MAX));
    let mut stream = server.map_client().await.open().await.unwrap();
    let (_directory, served) = server.stop();
    assert_eq!(stream.map(MapRequest::new("x")).await.unwrap()[0].value(), "x");
    stream.close();
    assert_eq!(stream.recv().await.unwrap(), None);
    assert_eq!(within(LONG / 3, served).await.unwrap().unwrap(), Drained::default());
}
