//! What is in flight stays within the limits, and every permit comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, BytesMut};
use numaflow_sdk::map::Mapper;
use numaflow_sdk::testing::{self, MapClient};
use numaflow_sdk::{HandlerError, MapRequest, Messages, ServeError, Server, map};
use tokio::sync::{Semaphore, mpsc};

use crate::admin;
use crate::raw::{RawConnection, frame};
use crate::step::{LONG, steps};
use crate::support::{OnSocket, within};

/// Counts how many of its calls run at once.
struct Counting {
    running: AtomicUsize,
    most: Arc<AtomicUsize>,
    started: mpsc::Sender<()>,
    go: Arc<Semaphore>,
}

impl Mapper for Counting {
    async fn map(&self, request: MapRequest) -> Result<Messages, HandlerError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.started.send(()).await?;
        self.go.acquire().await?.forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        if request.value() == "error" {
            return Err("as asked".into());
        }
        Ok(request.into_message().into())
    }
}

struct Counted {
    client: MapClient,
    starts: mpsc::Receiver<()>,
    go: Arc<Semaphore>,
    most: Arc<AtomicUsize>,
}

async fn counted(set: impl FnOnce(Server<map::MapService>) -> Server<map::MapService>) -> Counted {
    let (started, starts) = mpsc::channel(10_000);
    let (go, most) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let mapper = Counting { running: AtomicUsize::new(0), most: most.clone(), started, go: go.clone() };
    let server = set(Server::new(map::service(mapper)));
    Counted { client: MapClient::over(testing::serve(server)).await.unwrap(), starts, go, most }
}

#[tokio::test]
async fn no_more_handlers_run_than_the_limit_says() {
    let mut counted = counted(|server| server.max_in_flight(3)).await;
    let mut stream = counted.client.open().await.unwrap();
    for id in 0..100 {
        stream.send(id.to_string(), MapRequest::new("x")).await.unwrap();
    }
    for _ in 0..3 {
        counted.starts.recv().await.unwrap();
    }
    for _ in 3..100 {
        // One answer lets one more start.
        counted.go.add_permits(1);
        stream.recv().await.unwrap().unwrap();
        counted.starts.recv().await.unwrap();
    }
    counted.go.add_permits(3);
    for _ in 0..3 {
        stream.recv().await.unwrap().unwrap();
    }
    assert_eq!(counted.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_limit_is_the_servers_and_its_streams_share_it() {
    let mut counted = counted(|server| server.max_in_flight(1)).await;
    let mut idle = counted.client.open().await.unwrap();
    let mut busy = counted.client.open().await.unwrap();
    // An idle stream holds no permit.
    busy.send("1", MapRequest::new("x")).await.unwrap();
    counted.starts.recv().await.unwrap();
    idle.send("2", MapRequest::new("x")).await.unwrap();
    counted.go.add_permits(1);
    busy.recv().await.unwrap().unwrap();
    within(LONG, counted.starts.recv()).await.unwrap();
    counted.go.add_permits(1);
    idle.recv().await.unwrap().unwrap();
    assert_eq!(counted.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bytes_are_limited_and_a_message_above_the_limit_goes_alone() {
    let mut counted = counted(|server| server.max_in_flight_bytes(10_000)).await;
    let mut stream = counted.client.open().await.unwrap();
    stream.send("small", MapRequest::new("x")).await.unwrap();
    stream.send("huge", MapRequest::new(vec![0; 50_000])).await.unwrap();
    stream.send("next", MapRequest::new("x")).await.unwrap();
    for id in ["small", "huge", "next"] {
        counted.starts.recv().await.unwrap();
        counted.go.add_permits(1);
        assert_eq!(stream.recv().await.unwrap().unwrap().id, id);
    }
    assert_eq!(counted.most.load(Ordering::SeqCst), 1);
}

/// Headers and keys are memory too.
#[tokio::test]
async fn bytes_are_those_of_the_whole_message() {
    let mut counted = counted(|server| server.max_in_flight_bytes(10_000)).await;
    let mut stream = counted.client.open().await.unwrap();
    for id in ["1", "2"] {
        stream.send(id, MapRequest::new("x").with_header("h", "v".repeat(6000))).await.unwrap();
    }
    for id in ["1", "2"] {
        counted.starts.recv().await.unwrap();
        counted.go.add_permits(1);
        assert_eq!(stream.recv().await.unwrap().unwrap().id, id);
    }
    assert_eq!(counted.most.load(Ordering::SeqCst), 1);
}

/// Two bytes on the wire are a key, which takes many times that in memory: small messages and those that are received only
/// when there is room for them.
#[tokio::test]
async fn bytes_are_those_that_a_message_takes() {
    for (keys, limit) in [(2000, 130_000), (60_000, 4_200_000)] {
        let mut counted = counted(|server| server.max_in_flight_bytes(limit)).await;
        let mut stream = counted.client.open().await.unwrap();
        stream.send("1", MapRequest::new("x").with_keys(vec![""; keys])).await.unwrap();
        stream.send("2", MapRequest::new("x")).await.unwrap();
        for id in ["1", "2"] {
            counted.starts.recv().await.unwrap();
            assert!(counted.client.is_ready().await.unwrap());
            counted.go.add_permits(1);
            assert_eq!(within(LONG, stream.recv()).await.unwrap().unwrap().id, id);
        }
        assert_eq!(counted.most.load(Ordering::SeqCst), 1, "{keys} keys");
    }
}

#[tokio::test]
async fn permits_come_back_from_errors_and_from_peers_that_go() {
    let mut counted = counted(|server| server.max_in_flight(1)).await;
    let mut failing = counted.client.open().await.unwrap();
    failing.send("1", MapRequest::new("error")).await.unwrap();
    counted.starts.recv().await.unwrap();
    counted.go.add_permits(1);
    failing.recv().await.unwrap_err();

    let mut leaving = counted.client.open().await.unwrap();
    leaving.send("2", MapRequest::new("x")).await.unwrap();
    counted.starts.recv().await.unwrap();
    drop(leaving);

    let mut stream = counted.client.open().await.unwrap();
    stream.send("3", MapRequest::new("x")).await.unwrap();
    within(LONG, counted.starts.recv()).await.unwrap();
    counted.go.add_permits(1);
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "3");
}

#[tokio::test]
async fn a_zero_limit_is_refused() {
    let cat = || map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message())));
    let error = Server::new(cat()).max_in_flight(0).bind().unwrap_err();
    assert!(matches!(error, ServeError::Option { name: "max_in_flight", .. }), "{error}");
    assert!(error.is_configuration());
    assert!(Server::new(cat()).max_in_flight_bytes(0).bind().is_err());
}

/// What a peer announces and does not send keeps nobody from anything, and what it sends of it only large messages.
#[tokio::test]
async fn messages_that_are_announced_and_do_not_come_take_no_room() {
    let echo = map::from_fn(async |r: MapRequest| Ok(r.into_message()));
    let server = OnSocket::start(Server::new(map::service(echo)).max_in_flight_bytes(1 << 20));
    let io = tokio::net::UnixStream::connect(server.socket()).await.unwrap();
    let connection = RawConnection::over(io).await;
    let mut begun = Vec::new();
    for announced in [600_000_u32, 447_000, 100_000, 100_000, 60 << 20] {
        let mut call = connection.call("/map.v1.Map/MapFn").await;
        call.send_bytes(frame(&[0x1a, 2, 8, 1])).await;
        // The handshake is answered, so what follows is read.
        call.recv().await;
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(announced);
        bytes.put_bytes(0, 90_000);
        call.send_bytes(bytes.freeze()).await;
        begun.push(call);
    }
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    for size in [2000, 40_000, 2000] {
        let answer = within(LONG, stream.map(MapRequest::new(vec![0; size]))).await.unwrap();
        assert_eq!(answer[0].value().len(), size);
    }
    // Those that begin one and go on are received one after the other.
    drop(begun);
    let value = vec![0; 700_000];
    let mut others = Vec::new();
    for _ in 0..3 {
        let stream = client.open().await.unwrap();
        let (sender, receiver) = stream.split();
        sender.send("large", MapRequest::new(value.clone())).await.unwrap();
        others.push((sender, receiver));
    }
    for (_sender, mut receiver) in others {
        let answer = within(LONG, receiver.recv()).await.unwrap().unwrap();
        assert_eq!(answer.messages[0].value().len(), value.len());
    }
}

/// Also where the messages come one by one, and the limit is reached between two of them.
#[tokio::test]
async fn a_limit_that_keeps_a_message_waiting_is_counted() {
    let (steps, mut director) = steps();
    let mapper = map::from_fn(move |request: MapRequest| {
        let steps = steps.clone();
        async move {
            steps.step(&request).await?;
            Ok(request.into_message())
        }
    });
    let (_directory, address, client) = admin::serve(Server::new(map::service(mapper)).max_in_flight(1)).await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("x")).await.unwrap();
    director.started().await;
    assert_eq!(admin::metric(address, "numaflow_udf_limit_reached_total").await, 0.0);
    stream.send("2", MapRequest::new("x")).await.unwrap();
    let waits = async { while admin::metric(address, "numaflow_udf_limit_reached_total").await == 0.0 {} };
    within(LONG, waits).await;
    director.go(2);
    for id in ["1", "2"] {
        assert_eq!(stream.recv().await.unwrap().unwrap().id, id);
    }
}
