//! Messages of maps.

use bytes::Bytes;
use numaflow_sdk::map::{self, Outputs};
use numaflow_sdk::testing::MapClient;
use numaflow_sdk::{MapRequest, Message, Server, UserMetadata};
use tokio::time::timeout;

use super::{IN_FLIGHT, LONG, MIB, Measured, STILL, serve};

/// The server. A handler answers at once, or says that it has started and then waits for ever.
#[test]
fn served_to_the_others() {
    let mapper = map::stream_from_fn(async |request: MapRequest, mut outputs: Outputs| {
        match request.value().first() {
            Some(b'w') => {
                outputs.send(Message::new("")).await?;
                std::future::pending::<()>().await;
            }
            Some(b'e') => outputs.send(request.into_message()).await?,
            _ => {}
        }
        Ok(())
    });
    serve(|| Server::new(map::stream_service(mapper)));
}

async fn start() -> (Measured, MapClient) {
    let measured = Measured::start("map::served_to_the_others").await;
    let client = MapClient::connect(measured.socket()).await.unwrap();
    (measured, client)
}

/// Small messages that are received many at a time, and each of which waits: they do not keep what they were received in.
#[tokio::test]
async fn small_messages_of_handlers_that_wait() {
    const WAITING: usize = 4096;
    let (measured, client) = start().await;
    let before = measured.memory("VmRSS");
    let (sender, mut receiver) = client.open().await.unwrap().split();
    let sending = async {
        for id in 0.. {
            if timeout(STILL, sender.send(id.to_string(), MapRequest::new("w"))).await.is_err() {
                return id;
            }
        }
        0
    };
    let starting = async {
        for _ in 0..WAITING {
            receiver.recv().await.unwrap().unwrap();
        }
    };
    let (sent, ()) = timeout(LONG, async { tokio::join!(sending, starting) }).await.unwrap();
    assert!(sent > WAITING, "all of {sent} were read");
    let grown = measured.memory("VmHWM").saturating_sub(before);
    // What a waiting handler takes by itself, and the window of the stream.
    assert!(grown < WAITING * 4096 + MIB, "{} KiB for {WAITING} messages", grown >> 10);
}

/// The worst mixture: after each message that waits as many that don't as it takes for the next one to be kept with the
/// frame that it came in.
#[tokio::test]
async fn a_message_that_waits_among_many_that_do_not() {
    const WAITING: usize = 60;
    const BETWEEN: usize = 1100;
    /// The largest frame that the server allows its peers, twice: the buffer that it is read into may be larger than it.
    const PINNED: usize = 2 * (64 << 10);
    let (measured, client) = start().await;
    let mut stream = client.open().await.unwrap();
    // What the server keeps for itself is there after the first ones.
    stream.send("first", MapRequest::new("e")).await.unwrap();
    while !stream.recv().await.unwrap().unwrap().eot {}
    let before = measured.memory("VmRSS");
    let (sender, mut receiver) = stream.split();
    let sending = async {
        for id in 0..WAITING * BETWEEN {
            let value: &'static [u8] =
                if id % BETWEEN == 0 { b"w" } else { b"-----------------------------------------" };
            sender.send("id", MapRequest::new(value)).await.unwrap();
        }
    };
    let receiving = async {
        for _ in 0..WAITING * BETWEEN {
            receiver.recv().await.unwrap().unwrap();
        }
    };
    timeout(LONG, async { tokio::join!(sending, receiving) }).await.unwrap();
    let (now, most) = (measured.memory("VmRSS"), measured.memory("VmHWM"));
    let grown = now.saturating_sub(before);
    assert!(grown < WAITING * PINNED + 4 * MIB, "{} KiB for {WAITING} messages, {} at most", grown >> 10, most >> 10);
}

/// Streams that nobody reads: each has its windows, a chunk and the outputs that wait, and no more.
#[tokio::test]
async fn streams_that_are_not_read() {
    const STREAMS: usize = 8;
    let (measured, _client) = start().await;
    let before = measured.memory("VmRSS");
    let mut unread = Vec::new();
    let value = Bytes::from([&b"e"[..], &[0; 16 << 10]].concat());
    for _ in 0..STREAMS {
        // On connections of their own: a few would fill the peer's window of one.
        let client = MapClient::connect(measured.socket()).await.unwrap();
        let (sender, receiver) = client.open().await.unwrap().split();
        let mut sent = 0;
        while timeout(STILL, sender.send(sent.to_string(), MapRequest::new(value.clone()))).await.is_ok() {
            sent += 1;
            assert!(sent < 100_000, "the stream takes everything");
        }
        unread.push((sender, receiver));
    }
    let grown = measured.memory("VmHWM").saturating_sub(before);
    // Of each: its window, the outputs that wait, and as much again for what holds them and what is read and written.
    assert!(grown < STREAMS * 4 * MIB, "{} KiB for {STREAMS} streams", grown >> 10);
}

/// A group of metadata takes some hundred bytes where it has ten on the wire.
#[tokio::test]
async fn messages_with_many_groups_of_metadata() {
    const GROUPS: usize = 1800;
    let (measured, client) = start().await;
    let before = measured.memory("VmRSS");
    let (sender, mut receiver) = client.open().await.unwrap().split();
    let mut metadata = UserMetadata::new();
    for group in 0..GROUPS {
        metadata.insert(group.to_string(), "k", "");
    }
    let sending = async {
        for id in 0..2000 {
            let request = MapRequest::new("w").with_user_metadata(metadata.clone());
            // A busy machine takes a while for each: one that seems to stand still too early shows nothing.
            if timeout(10 * STILL, sender.send(id.to_string(), request)).await.is_err() {
                return id;
            }
        }
        2000
    };
    // Each says that it has started, which is to be taken: else its handler stands still.
    let receiving = async {
        loop {
            receiver.recv().await.unwrap().unwrap();
        }
    };
    let sent = tokio::select! {
        sent = timeout(LONG, sending) => sent.unwrap(),
        () = receiving => 0,
    };
    assert!((40..2000).contains(&sent), "{sent} were read");
    let grown = measured.memory("VmHWM").saturating_sub(before);
    // The window of the stream and what is read from it come on top.
    assert!(grown < IN_FLIGHT + 32 * MIB, "{} KiB for {sent} messages", grown >> 10);
}
