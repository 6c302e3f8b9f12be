//! A stream that its peer does not read is nobody else's problem.

use std::time::Duration;

use bytes::Bytes;
use numaflow_sdk::{MapRequest, Server, map};
use tokio::time::timeout;

use crate::support::{OnSocket, within};

/// The bound is 100 ms; five times that, for machines that do something else as well.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_stream_with_its_window_full_blocks_nothing() {
    let echo = map::from_fn(async |r: MapRequest| Ok(r.into_message()));
    let server = OnSocket::start(Server::new(map::service(echo)));
    let client = server.map_client().await;

    // Never read: their answers fill the peer's windows, then the server stops reading and its own windows fill. Two of
    // them, because what one alone leaves of a connection's window depends on how its frames happened to be cut.
    let value = Bytes::from(vec![0; 64 << 10]);
    let mut unread = Vec::new();
    for _ in 0..2 {
        let (sender, receiver) = client.open().await.unwrap().split();
        let mut sent = 0_u32;
        while timeout(AT_ONCE, sender.send(sent.to_string(), MapRequest::new(value.clone()))).await.is_ok() {
            sent += 1;
            assert!(sent < 10_000, "the stream takes everything");
        }
        unread.push((sender, receiver, sent));
    }

    let mut other = within(AT_ONCE, client.open()).await.unwrap();
    for _ in 0..20 {
        assert!(within(AT_ONCE, client.is_ready()).await.unwrap());
        assert_eq!(within(AT_ONCE, other.map(MapRequest::new("x"))).await.unwrap()[0].value(), "x");
    }

    // Read again, they go on where they stood, and nothing was lost.
    for (mut sender, mut receiver, sent) in unread {
        sender.close();
        let mut answered = 0;
        while let Some(answer) = receiver.recv().await.unwrap() {
            assert_eq!(answer.messages[0].value().len(), value.len());
            answered += 1;
        }
        assert!(answered >= sent, "{answered} answers to {sent} messages");
    }
}

/// With the limit reached and every handler waiting, too: a stream that is not read keeps no permit from the others.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_stream_at_the_limit_keeps_nothing_from_the_others() {
    for limit in [1, 10] {
        let waits = map::from_fn(async |r: MapRequest| {
            tokio::task::yield_now().await;
            Ok(r.into_message())
        });
        let server = OnSocket::start(Server::new(map::service(waits)).max_in_flight(limit));
        let client = server.map_client().await;
        let (sender, _receiver) = client.open().await.unwrap().split();
        let value = Bytes::from(vec![0; 4 << 10]);
        let mut sent = 0_u32;
        while timeout(AT_ONCE, sender.send(sent.to_string(), MapRequest::new(value.clone()))).await.is_ok() {
            sent += 1;
            assert!(sent < 100_000, "the stream takes everything");
        }
        let mut other = client.open().await.unwrap();
        for _ in 0..20 {
            assert_eq!(within(AT_ONCE, other.map(MapRequest::new("x"))).await.unwrap()[0].value(), "x");
        }
    }
}
