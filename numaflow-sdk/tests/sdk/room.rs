//! What needs room within the limits and what does not, and that what is counted is what is held.

use bytes::{BufMut, Bytes, BytesMut};
use numaflow_sdk::map::{self, BatchAnswers, MapService};
use numaflow_sdk::testing::MapStream;
use numaflow_sdk::{MapMode, MapRequest, Server};
use tokio::net::UnixStream;

use crate::admin;
use crate::raw::{RawConnection, field, frame};
use crate::step::{Director, LONG, serve, steps};
use crate::support::{status, within};

/// A map that passes messages on, those that begin with a `w` when they are told to.
fn stepped() -> (MapService, Director) {
    let (steps, director) = steps();
    let mapper = map::from_fn(move |request: MapRequest| {
        let steps = steps.clone();
        async move {
            if request.value().first() == Some(&b'w') {
                steps.step(&request).await?;
            }
            Ok(request.into_message())
        }
    });
    (map::service(mapper), director)
}

/// While another stream has all permits.
#[tokio::test]
async fn ends_of_batches_and_streams_wait_for_no_permit() {
    for mode in [MapMode::Unary, MapMode::Batch, MapMode::Stream] {
        let (service, mut director) = stepped();
        let client = serve(Server::new(service.mode(mode)).max_in_flight(1)).await;
        let (mut answered, mut busy) = (client.open().await.unwrap(), client.open().await.unwrap());
        answered.send("1", MapRequest::new("now")).await.unwrap();
        assert_eq!(within(LONG, answered.recv()).await.unwrap().unwrap().id, "1");
        if mode == MapMode::Stream {
            assert!(within(LONG, answered.recv()).await.unwrap().unwrap().eot);
        }
        busy.send("2", MapRequest::new("w")).await.unwrap();
        assert_eq!(director.started().await, "2");
        if mode == MapMode::Batch {
            answered.send_eot().await.unwrap();
            assert!(within(LONG, answered.recv()).await.unwrap().unwrap().eot);
        }
        answered.close();
        assert_eq!(within(LONG, answered.recv()).await.unwrap(), None, "{mode}");
        director.go(1);
        assert_eq!(within(LONG, busy.recv()).await.unwrap().unwrap().id, "2");
    }
}

/// Messages as small as an end of batch are read before there is room for them, and wait for it all the same: one starts for
/// each that ends, the one that has waited longest first.
#[tokio::test]
async fn messages_of_every_size_wait_for_a_permit_in_line() {
    let (service, mut director) = stepped();
    let client = serve(Server::new(service).max_in_flight(1)).await;
    let mut streams = Vec::new();
    for (id, size) in [("0", 1), ("1", 1), ("2", 1000), ("3", 1), ("4", 1000)] {
        let mut stream = client.open().await.unwrap();
        stream.send(id, MapRequest::new(vec![b'w'; size])).await.unwrap();
        // What was sent before on this connection has been looked at when this is answered.
        assert!(within(LONG, client.is_ready()).await.unwrap());
        streams.push((id, stream));
    }
    for (id, stream) in &mut streams {
        assert_eq!(director.started().await, *id);
        assert!(within(LONG, client.is_ready()).await.unwrap());
        assert!(!director.has_started());
        director.go(1);
        assert_eq!(within(LONG, stream.recv()).await.unwrap().unwrap().id, *id);
    }
}

/// `MapRequest { id, request: Request { value } }`.
fn message(id: &str, value: &[u8]) -> Bytes {
    frame(&[field(2, id.as_bytes()), field(1, &field(2, value))].concat())
}

/// A slow message that is cut from a frame with a thousand others keeps the whole frame, and is counted so.
#[tokio::test]
async fn slow_messages_that_keep_their_frames_are_counted_in_full() {
    const FRAME: usize = 30 << 10;
    const ROOM: usize = 4;
    let (service, mut director) = stepped();
    // A stream that holds something may have eight ninths: the fourth message finds some room, and the next one none.
    let server = Server::new(service).max_in_flight_bytes(ROOM * FRAME);
    let (directory, address, _client) = admin::serve(server).await;
    let connection = RawConnection::over(UnixStream::connect(directory.path().join("s")).await.unwrap()).await;
    let mut call = connection.call("/map.v1.Map/MapFn").await;
    call.send(&[0x1a, 2, 8, 1]).await;
    call.recv().await;
    // The clock stands still: a handler that loses its thread on a busy machine would look heavy, and the messages after it would
    // be copied out of their frames.
    tokio::time::pause();
    // Until handlers are known to be light, and run in place.
    for _ in 0..200 {
        call.send_bytes(message("light", b"x")).await;
        call.recv().await;
    }
    let mut quick = 0;
    // Each time one slow message, then more quick ones than are copied out after it.
    for sent in 1..=3 * ROOM {
        let mut chunk = BytesMut::new();
        chunk.put_slice(&message("slow", b"w"));
        while chunk.len() < FRAME {
            chunk.put_slice(&message("", b""));
            quick += 1;
        }
        call.send_bytes(chunk.freeze()).await;
        if sent <= ROOM {
            assert_eq!(director.started().await, "slow");
        }
        if sent < ROOM {
            for _ in 0..std::mem::take(&mut quick) {
                call.recv().await;
            }
        }
    }
    tokio::time::resume();
    let reached = async { while admin::metric(address, "numaflow_udf_limit_reached_total").await == 0.0 {} };
    within(LONG, reached).await;
    assert!(!director.has_started(), "more than {ROOM} have started");
    director.go(3 * ROOM);
    for _ in 0..quick + 3 * ROOM {
        within(LONG, call.recv()).await;
    }
}

fn whole_batches() -> MapService {
    map::batch_service(map::batch_from_fn(async |requests: Vec<MapRequest>| {
        Ok(requests.into_iter().map(|r| (r.id().to_owned(), r.into_message())).collect::<BatchAnswers>())
    }))
}

/// Batches that are collected at once share one limit, and those that are never completed keep no small one from being.
#[tokio::test]
async fn batches_share_their_limit() {
    const LIMIT: usize = 1 << 20;
    let (_directory, address, client) = admin::serve(Server::new(whole_batches().max_batch_bytes(LIMIT))).await;
    let mut begun: Vec<MapStream> = Vec::new();
    for _ in 0..10 {
        let mut stream = client.open().await.unwrap();
        for id in 0..4 {
            stream.send(id.to_string(), MapRequest::new(vec![0; 64 << 10])).await.unwrap();
        }
        begun.push(stream);
    }
    assert!(within(LONG, client.is_ready()).await.unwrap());
    // A quarter of a megabyte each: as many as fit are completed, and the others are told why they are not.
    let mut refused = 0_u8;
    for stream in &mut begun {
        // A stream that was ended takes none.
        drop(stream.send_eot().await);
        match within(LONG, stream.recv()).await {
            Ok(answer) => assert!(!answer.unwrap().eot),
            Err(error) => {
                let (name, text) = status(&error);
                assert_eq!(name, "RESOURCE_EXHAUSTED");
                assert!(text.contains("--max-batch-bytes") && text.contains(&LIMIT.to_string()), "{text}");
                refused += 1;
            }
        }
    }
    assert!((1..10).contains(&refused), "{refused} of 10 are refused");
    assert_eq!(admin::metric(address, "numaflow_udf_refused_batches_total").await, f64::from(refused));

    // Nearly all of it, never completed.
    let mut hoards = client.open().await.unwrap();
    for id in 0..15 {
        hoards.send(id.to_string(), MapRequest::new(vec![0; 64 << 10])).await.unwrap();
    }
    assert!(within(LONG, client.is_ready()).await.unwrap());
    let mut small = client.open().await.unwrap();
    let requests = (0..10).map(|_| MapRequest::new(vec![0; 10 << 10]));
    assert_eq!(within(LONG, small.map_batch(requests)).await.unwrap().len(), 10);
}
