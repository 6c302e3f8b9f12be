//! A limit that finds itself, from the latency of handlers.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use numaflow_sdk::{MapRequest, ServeError, Server, map};
use tokio::sync::Semaphore;

use crate::admin::{ANY_PORT, metric};
use crate::support::OnSocket;

/// The calls that what the handlers wait for serves at once.
const CAPACITY: usize = 20;
const FLOOR: usize = 4;
const LIMIT: &str = "numaflow_udf_in_flight_limit_messages";

#[tokio::test(start_paused = true)]
async fn it_finds_what_the_handlers_wait_for() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, seen) = (running.clone(), most.clone());
    let database = Arc::new(Semaphore::new(CAPACITY));
    let mapper = map::from_fn(move |request: MapRequest| {
        let (running, most, database) = (running.clone(), most.clone(), database.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let connection = database.acquire().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(connection);
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(request.into_message())
        }
    });
    let server = OnSocket::start(Server::new(map::service(mapper)).max_in_flight(FLOOR..=1000).admin(ANY_PORT));
    let (sender, mut receiver) = server.map_client().await.open().await.unwrap().split();
    let send = async {
        for id in 0..8000 {
            sender.send(id.to_string(), MapRequest::new("x")).await.unwrap();
        }
    };
    let receive = async {
        for _ in 0..FLOOR {
            receiver.recv().await.unwrap().unwrap();
        }
        assert_eq!(seen.load(Ordering::SeqCst), FLOOR, "it starts at the floor");
        for _ in FLOOR..4000 {
            receiver.recv().await.unwrap().unwrap();
        }
        seen.store(0, Ordering::SeqCst);
        for _ in 4000..8000 {
            receiver.recv().await.unwrap().unwrap();
        }
    };
    tokio::join!(send, receive);
    let most = seen.load(Ordering::SeqCst);
    assert!((CAPACITY..2 * CAPACITY).contains(&most), "{most} at once");
    assert_eq!(counted.load(Ordering::SeqCst), 0);
    // The endpoint has a thread of its own, which a paused clock would not wait for.
    tokio::time::resume();
    let limit = metric(server.admin.unwrap(), LIMIT).await;
    assert!(limit > FLOOR as f64 && limit <= most as f64, "{limit}");
}

#[tokio::test]
async fn its_range_is_printed_and_checked() {
    let server = || Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message()))));
    let directory = tempfile::TempDir::new().unwrap();
    let path = |name| directory.path().join(name);
    let bound = server().max_in_flight(64..=4096).socket_path(path("s")).server_info_path(path("i")).bind().unwrap();
    let text = bound.describe().to_string();
    assert!(text.contains("at most 64..4096 messages (set, adapts to the handlers' latency), "), "{text}");
    for (range, problem) in [(0..=5, "above zero"), (RangeInclusive::new(2, 1), "a floor of 2")] {
        let error = server().max_in_flight(range).bind().unwrap_err();
        assert!(matches!(error, ServeError::Option { name: "max_in_flight", .. }), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    }
}
