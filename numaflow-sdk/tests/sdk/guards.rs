//! What is held for a message comes back, whatever becomes of its handler: with room for one message of one byte, the next
//! one starts.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use numaflow_sdk::map::{self, BatchAnswers, Execution, FailurePolicy, MapService, Outputs, SendError};
use numaflow_sdk::testing::{ClientError, MapClient};
use numaflow_sdk::{Drained, HandlerError, MapMode, MapRequest, Message, Server};
use tempfile::TempDir;

use crate::admin::{in_flight, serve};
use crate::step::{Director, LONG, Steps, steps};
use crate::support::{OnSocket, status, within};

/// A server with room for one message of one byte.
struct Scene {
    directory: TempDir,
    address: SocketAddr,
    client: MapClient,
    director: Director,
}

/// A map that does at once, or when it is told to, what the value says.
async fn scene(set: impl FnOnce(MapService) -> MapService) -> Scene {
    let (steps, director) = steps();
    scene_of(set(map::service(map::from_fn(move |request: MapRequest| act(steps.clone(), request)))), director).await
}

async fn scene_of(service: MapService, director: Director) -> Scene {
    let server = Server::new(service).max_in_flight(1).max_in_flight_bytes(1);
    let (directory, address, client) = serve(server).await;
    Scene { directory, address, client, director }
}

async fn act(steps: Steps, request: MapRequest) -> Result<Message, HandlerError> {
    let text = String::from_utf8_lossy(request.value()).into_owned();
    let what = match text.strip_prefix("later") {
        Some(what) => {
            steps.step(&request).await?;
            what.trim_start()
        }
        None => {
            steps.start(&request).await?;
            &text
        }
    };
    match what {
        "fail" => Err("as asked".into()),
        "panic" => panic!("as asked"),
        _ => Ok(request.into_message()),
    }
}

impl Scene {
    /// Sends one message on a stream of its own, lets it go on, and says what came of it.
    async fn once(&mut self, value: &'static str) -> Result<Vec<Message>, ClientError> {
        let mut stream = self.client.open().await.unwrap();
        stream.send("once", MapRequest::new(value)).await.unwrap();
        assert_eq!(self.director.started().await, "once");
        if value.starts_with("later") {
            self.director.go(1);
        }
        // Where its handler fails, the stream need not wait for other messages.
        stream.close();
        within(LONG, stream.recv()).await.map(|answer| answer.unwrap().messages)
    }

    /// All is as it was: the next message starts, and then nothing is in flight.
    async fn is_as_before(&mut self, after: &str) {
        for value in ["now", "later"] {
            assert_eq!(self.once(value).await.unwrap()[0].value(), value, "after {after}");
        }
        let nothing = async { while in_flight(self.address, "").await["count"] != 0 {} };
        within(LONG, nothing).await;
    }
}

#[tokio::test]
async fn finished_failed_or_panicked() {
    for execution in [Execution::Automatic, Execution::Tasks, blocking(2)] {
        for policy in [FailurePolicy::Fail, FailurePolicy::Drop] {
            let mut scene = scene(|service| service.execution(execution).on_failure(policy.clone())).await;
            for value in ["now", "later", "fail", "later fail", "panic", "later panic"] {
                let ended = scene.once(value).await;
                let fails = policy == FailurePolicy::Fail && (value.ends_with("fail") || value.ends_with("panic"));
                assert_eq!(ended.is_err(), fails, "{value}");
                scene.is_as_before(value).await;
            }
        }
    }
}

fn blocking(threads: usize) -> Execution {
    Execution::Blocking { threads: NonZeroUsize::new(threads).unwrap() }
}

#[tokio::test]
async fn cancelled_or_the_peer_is_gone() {
    for execution in [Execution::Automatic, Execution::Tasks, blocking(1)] {
        let mut scene = scene(|service| service.execution(execution)).await;
        let mut stream = scene.client.open().await.unwrap();
        stream.send("cancelled", MapRequest::new("later")).await.unwrap();
        scene.director.started().await;
        drop(stream);
        scene.is_as_before("the stream was reset").await;

        let leaving = MapClient::connect(scene.directory.path().join("s")).await.unwrap();
        let mut stream = leaving.open().await.unwrap();
        stream.send("peer gone", MapRequest::new("later")).await.unwrap();
        scene.director.started().await;
        drop((stream, leaving));
        scene.is_as_before("the connection was closed").await;
    }
}

type Setting = fn(MapService) -> MapService;
type Make = fn() -> MapService;

/// Messages that wait for room, for their keys' turn or for a thread when their stream ends: their handlers never run.
#[tokio::test]
async fn dropped_before_it_was_polled() {
    let ways: [(&str, Setting, usize); 4] = [
        ("room", |service| service, 1),
        ("its keys' turn", |service| service.key_ordered(true), 2),
        ("a thread", |service| service.execution(blocking(1)), 2),
        ("room, in a batch", |service| service.mode(MapMode::Batch), 1),
    ];
    for (what, set, limit) in ways {
        let (steps, mut director) = steps();
        let service = set(map::service(map::from_fn(move |request: MapRequest| act(steps.clone(), request))));
        let (_directory, address, client) = serve(Server::new(service).max_in_flight(limit)).await;
        let mut stream = client.open().await.unwrap();
        for id in ["runs", "waits"] {
            stream.send(id, MapRequest::new("later").with_keys(["same"])).await.unwrap();
        }
        assert_eq!(director.started().await, "runs");
        drop(stream);
        within(LONG, async { while in_flight(address, "").await["count"] != 0 {} }).await;
        let mut stream = client.open().await.unwrap();
        stream.send("next", MapRequest::new("now")).await.unwrap();
        assert_eq!(director.started().await, "next", "after one that waited for {what}");
        assert!(!director.has_started());
    }
}

/// A handler that holds its thread holds its permit as well, also when nobody waits for it any more, and no longer.
#[tokio::test]
async fn a_blocking_handler_whose_peer_is_gone() {
    let (steps, director) = steps();
    let (go, gone) = mpsc::sync_channel::<()>(10);
    let gone = Arc::new(Mutex::new(gone));
    let mapper = map::from_fn(move |request: MapRequest| {
        let (steps, gone) = (steps.clone(), gone.clone());
        async move {
            if request.value() == "blocks" {
                steps.start(&request).await?;
                gone.lock().unwrap().recv()?;
            }
            act(steps, request).await
        }
    });
    let mut scene = scene_of(map::service(mapper).execution(blocking(2)), director).await;
    let mut stream = scene.client.open().await.unwrap();
    stream.send("blocks", MapRequest::new("blocks")).await.unwrap();
    scene.director.started().await;
    drop(stream);
    let mut next = scene.client.open().await.unwrap();
    next.send("next", MapRequest::new("now")).await.unwrap();
    // The server has read it, and does not start it.
    assert!(within(LONG, scene.client.is_ready()).await.unwrap());
    assert!(!scene.director.has_started());
    go.send(()).unwrap();
    // What the abandoned handler starts after its thread is free again is its own.
    let mut started = scene.director.started().await;
    if started == "blocks" {
        started = scene.director.started().await;
    }
    assert_eq!(started, "next");
    next.recv().await.unwrap().unwrap();
    scene.is_as_before("a thread was blocked").await;
}

/// A tower service that panics where it is told to.
#[derive(Clone)]
struct Panics {
    in_poll_ready: bool,
}

impl tower::Service<MapRequest> for Panics {
    type Response = Message;
    type Error = Infallible;
    type Future = Ready<Result<Message, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        assert!(!self.in_poll_ready, "as asked");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: MapRequest) -> Self::Future {
        assert!(request.value() != "panic", "as asked");
        ready(Ok(request.into_message()))
    }
}

/// User code runs before there is a future, too: a closure that is not async, a tower service.
#[tokio::test]
async fn panicked_before_there_was_a_future() {
    let services: [(&str, Make); 3] = [
        ("a closure", || {
            map::service(map::from_fn(|request: MapRequest| {
                assert!(request.value() != "panic", "as asked");
                async move { Ok(request.into_message()) }
            }))
        }),
        ("call", || map::tower_service(Panics { in_poll_ready: false })),
        ("poll_ready", || map::tower_service(Panics { in_poll_ready: true })),
    ];
    for (place, service) in services {
        for policy in [FailurePolicy::Fail, FailurePolicy::Drop] {
            let server = Server::new(service().on_failure(policy.clone())).max_in_flight(1);
            let (_directory, address, client) = serve(server).await;
            let mut stream = client.open().await.unwrap();
            stream.send("1", MapRequest::new("panic")).await.unwrap();
            let answer = within(LONG, stream.recv()).await;
            if policy == FailurePolicy::Fail {
                let error = answer.unwrap_err();
                assert!(status(&error).1.starts_with("UDF_EXECUTION_ERROR(udf): as asked"), "{place}: {error}");
            } else {
                assert!(answer.unwrap().unwrap().messages[0].is_drop(), "{place}");
            }
            if place != "poll_ready" {
                let mut stream = client.open().await.unwrap();
                assert_eq!(within(LONG, stream.map(MapRequest::new("x"))).await.unwrap()[0].value(), "x", "{place}");
            }
            within(LONG, async { while in_flight(address, "").await["count"] != 0 {} }).await;
        }
    }
}

/// A drain that is close to its deadline ends streams; a batch whose first message waits for room is not one to wait for.
#[tokio::test]
async fn a_batch_that_waits_for_room_when_the_drain_ends_streams() {
    let (steps, mut director) = steps();
    let mapper = map::batch_from_fn(move |requests: Vec<MapRequest>| {
        let steps = steps.clone();
        async move {
            for request in &requests {
                steps.step(request).await?;
            }
            Ok(requests.into_iter().map(|r| (r.id().to_owned(), r.into_message())).collect::<BatchAnswers>())
        }
    });
    // Less than what streams are given at the end: they are ended as soon as the drain begins.
    let server = Server::new(map::batch_service(mapper)).max_in_flight_bytes(1).drain_timeout(Duration::from_secs(4));
    let server = OnSocket::start(server);
    let client = server.map_client().await;
    let (mut runs, mut waits) = (client.open().await.unwrap(), client.open().await.unwrap());
    for (stream, id) in [(&mut runs, "runs"), (&mut waits, "waits")] {
        stream.send(id, MapRequest::new("x")).await.unwrap();
        stream.send_eot().await.unwrap();
        if id == "runs" {
            assert_eq!(director.started().await, id);
        }
    }
    assert!(client.is_ready().await.unwrap());
    let (_directory, served) = server.stop();
    assert_eq!(status(&within(LONG, waits.recv()).await.unwrap_err()).0, "UNAVAILABLE");
    // The one that was complete is answered.
    director.go(1);
    assert_eq!(runs.recv().await.unwrap().unwrap().id, "runs");
    assert!(runs.recv().await.unwrap().unwrap().eot);
    assert_eq!(status(&runs.recv().await.unwrap_err()).0, "UNAVAILABLE");
    drop(client);
    // It was read, so it is named.
    let drained: Drained = within(LONG, served).await.unwrap().unwrap();
    let abandoned: Vec<_> = drained.abandoned_messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!((abandoned, drained.abandoned_streams), (vec!["waits"], 0));
}

/// Outputs that outlive their stream, in a task of the user's own, are told that nobody takes them.
#[tokio::test]
async fn outputs_whose_stream_is_gone() {
    let (told, mut ends) = tokio::sync::mpsc::channel(1);
    let mapper = map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
        let told = told.clone();
        async move {
            #[expect(clippy::disallowed_methods, reason = "ends when its stream does")]
            let sends = tokio::spawn(async move {
                let error = loop {
                    if let Err(error) = outputs.send(Message::new(vec![0; 1000])).await {
                        break error;
                    }
                };
                told.send(error).await.unwrap();
            });
            sends.await?;
            drop(request);
            Ok(())
        }
    });
    let (_directory, _, client) = serve(Server::new(map::stream_service(mapper))).await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("x")).await.unwrap();
    stream.recv().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(within(LONG, ends.recv()).await.unwrap(), SendError::Closed);
}
