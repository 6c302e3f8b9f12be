//! A stream that its peer does not read is nobody else's problem.

use std::time::Duration;

use bytes::Bytes;
use numaflow_sdk::{MapRequest, Server, map};

use crate::support::{OnSocket, within};

/// The bound is 100 ms; five times that, for machines that do something else as well.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_stream_with_its_window_full_blocks_nothing() {
    let echo = map::from_fn(async |r: MapRequest| Ok(r.into_message()));
    let server = OnSocket::start(Server::new(map::service(echo)));
    let client = server.map_client().await;

    // Never read: its answers fill the peer's window, then the server stops reading and its own window fills.
    let unread = client.open().await.unwrap();
    let (sender, receiver) = unread.split();
    let value = Bytes::from(vec![0; 64 << 10]);
    let mut sent = 0_u32;
    while tokio::time::timeout(AT_ONCE, sender.send(sent.to_string(), MapRequest::new(value.clone()))).await.is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the stream takes everything");
    }

    let mut other = client.open().await.unwrap();
    for _ in 0..20 {
        assert!(within(AT_ONCE, client.is_ready()).await.unwrap());
        assert_eq!(within(AT_ONCE, other.map(MapRequest::new("x"))).await.unwrap()[0].value(), "x");
    }

    // Read again, it goes on where it stood, and nothing was lost.
    let (mut sender, mut receiver) = (sender, receiver);
    sender.close();
    let mut answered = 0;
    while let Some(answer) = receiver.recv().await.unwrap() {
        assert_eq!(answer.messages[0].value().len(), value.len());
        answered += 1;
    }
    assert!(answered >= sent, "{answered} answers to {sent} messages");
}
