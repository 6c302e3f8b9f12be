//! The way down, from every state, by its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use numaflow_sdk::map::{self, Outputs};
use numaflow_sdk::{Drained, MapMode, MapRequest, Message, Messages, Server, Service, Stage};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::admin::{ANY_PORT, metric, until};
use crate::support::{OnSocket, left_in, status, within};

const LONG: Duration = Duration::from_secs(120);

fn cat() -> Server<map::MapService> {
    Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message())))).drain_timeout(LONG)
}

#[tokio::test]
async fn at_rest_it_is_over_at_once() {
    let server = OnSocket::start(cat());
    let client = server.map_client().await;
    assert!(client.is_ready().await.unwrap());
    let (directory, served) = server.stop();
    assert_eq!(within(LONG / 5, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

/// Nothing asked this server to stop: it does so itself, and answers the others first.
#[tokio::test]
async fn a_panic_that_ends_the_server_drains_it() {
    let mapper = map::from_fn(async |request: MapRequest| match &request.value()[..] {
        b"panic" => panic!("as asked"),
        _ => Ok(request.into_message()),
    });
    let service = map::service(mapper).exit_on_panic(true).on_failure(map::FailurePolicy::Drop);
    let server = OnSocket::start(Server::new(service).drain_timeout(LONG));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    assert!(stream.map(MapRequest::new("panic")).await.unwrap()[0].is_drop());
    assert_eq!(stream.map(MapRequest::new("x")).await.unwrap()[0].value(), "x");
    stream.close();
    let (_directory, drained) = within(LONG / 5, server.ended()).await;
    assert!(drained.unwrap().after_panic);
}

/// A service that cannot go on has its server stopped, which answers the others first.
#[tokio::test]
async fn the_program_itself_can_ask_for_it() {
    let (stop, stopped) = oneshot::channel::<()>();
    let server = cat().stop_when(async { drop(stopped.await) });
    let draining = server.draining();
    let server = OnSocket::start(server);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    assert_eq!(stream.map(MapRequest::new("x")).await.unwrap()[0].value(), "x");
    stop.send(()).unwrap();
    within(LONG / 5, draining.started()).await;
    assert_eq!(stream.map(MapRequest::new("y")).await.unwrap()[0].value(), "y");
    stream.close();
    let (directory, drained) = within(LONG / 5, server.ended()).await;
    assert_eq!(drained.unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn in_mid_message_the_answer_still_comes() {
    let (started, mut starts) = mpsc::channel(1);
    let (go, gone) = oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let mapper = map::from_fn(move |request: MapRequest| {
        let (started, gone) = (started.clone(), gone.lock().unwrap().take());
        async move {
            started.send(()).await?;
            if let Some(gone) = gone {
                gone.await?;
            }
            Ok(request.into_message())
        }
    });
    let server = Server::new(map::service(mapper)).drain_timeout(LONG);
    let draining = server.draining();
    let server = OnSocket::start(server);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    starts.recv().await.unwrap();
    let (directory, served) = server.stop();
    draining.started().await;
    // What the peer sends during the drain is answered too, and it may ask whether the server lives.
    stream.send("2", MapRequest::new("b")).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "2");
    assert!(client.is_ready().await.unwrap());
    go.send(()).unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "1");
    stream.close();
    assert_eq!(stream.recv().await.unwrap(), None);
    assert_eq!(within(LONG / 5, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn an_open_idle_stream_is_ended_before_the_deadline() {
    let server = OnSocket::start(cat().drain_timeout(Duration::from_secs(2)));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    let (directory, served) = server.stop();
    let error = stream.recv().await.unwrap_err();
    assert_eq!(status(&error).0, "UNAVAILABLE");
    assert_eq!(served.await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn a_stuck_handler_is_cut_off_at_the_deadline() {
    let (started, mut starts) = mpsc::channel(1);
    let mapper = map::from_fn(move |_: MapRequest| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            std::future::pending::<()>().await;
            Ok(Messages::none())
        }
    });
    let server = OnSocket::start(Server::new(map::service(mapper)).drain_timeout(Duration::from_millis(500)));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    starts.recv().await.unwrap();
    let begun = Instant::now();
    let (directory, served) = server.stop();
    let drained = served.await.unwrap().unwrap();
    assert_eq!((drained.abandoned_streams, abandoned(&drained)), (1, vec![("1", Stage::Handler)]));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(left_in(&directory), [""; 0]);
    stream.recv().await.unwrap_err();
}

#[tokio::test]
async fn an_answer_half_sent_is_cut_off_at_the_deadline() {
    let (started, mut starts) = mpsc::channel(1);
    let mapper = map::from_fn(move |request: MapRequest| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            Ok(request.into_message())
        }
    });
    let server = OnSocket::start(Server::new(map::service(mapper)).drain_timeout(Duration::from_millis(500)));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    // More than the peer's window, and the peer does not read.
    stream.send("1", MapRequest::new(vec![0; 32 << 20])).await.unwrap();
    starts.recv().await.unwrap();
    let (directory, served) = server.stop();
    let drained = served.await.unwrap().unwrap();
    assert_eq!((drained.abandoned_connections, abandoned(&drained)), (1, vec![("1", Stage::Answered)]));
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn what_is_to_be_done_at_shutdown_is_done_first() {
    let (told, was_told) = oneshot::channel();
    let server = OnSocket::start(cat().on_shutdown(move || told.send(()).unwrap()));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    let (_directory, served) = server.stop();
    was_told.await.unwrap();
    stream.close();
    served.await.unwrap().unwrap();
}

/// A server with little time whose handler says that it has begun and then waits for `go`, or for ever.
struct Stepped {
    server: OnSocket,
    starts: mpsc::Receiver<()>,
    go: Arc<Semaphore>,
}

impl Stepped {
    fn start<S: Service>(timeout: Duration, service: impl FnOnce(mpsc::Sender<()>, Arc<Semaphore>) -> S) -> Self {
        let (started, starts) = mpsc::channel(16);
        let go = Arc::new(Semaphore::new(0));
        let server = Server::new(service(started, go.clone())).drain_timeout(timeout).admin(ANY_PORT);
        Self { server: OnSocket::start(server), starts, go }
    }
}

/// Streams are ended half a second before this is over and connections a tenth, which a busy machine has to fit in between.
const SHORT: Duration = Duration::from_millis(2500);

fn whole_batches(started: mpsc::Sender<()>, go: Arc<Semaphore>) -> map::MapService {
    map::batch_service(map::batch_from_fn(move |requests: Vec<MapRequest>| {
        let (started, go) = (started.clone(), go.clone());
        async move {
            started.send(()).await?;
            go.acquire().await?.forget();
            Ok(requests.into_iter().map(|request| (request.id().to_owned(), request.into_message())).collect())
        }
    }))
}

/// One output, then another.
fn two_outputs(started: mpsc::Sender<()>, go: Arc<Semaphore>) -> map::MapService {
    map::stream_service(map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
        let (started, go) = (started.clone(), go.clone());
        async move {
            outputs.send(Message::new("first")).await?;
            started.send(()).await?;
            go.acquire().await?.forget();
            outputs.send(request.into_message()).await?;
            Ok(())
        }
    }))
}

/// Ids and stages of what was abandoned.
fn abandoned(drained: &Drained) -> Vec<(&str, Stage)> {
    drained.abandoned_messages.iter().map(|message| (&message.id[..], message.stage)).collect()
}

#[tokio::test]
async fn a_batch_half_read_is_given_up_by_name() {
    let Stepped { server, .. } = Stepped::start(SHORT, whole_batches);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    stream.send("2", MapRequest::new("b")).await.unwrap();
    until(server.admin.unwrap(), "numaflow_udf_in_flight_messages{stage=\"queued\"}", 2.0).await;
    let (directory, served) = server.stop();
    // No answer is made up for what was not asked in full.
    assert_eq!(status(&stream.recv().await.unwrap_err()).0, "UNAVAILABLE");
    let drained = served.await.unwrap().unwrap();
    assert_eq!(abandoned(&drained), [("1", Stage::Queued), ("2", Stage::Queued)]);
    assert_eq!((drained.abandoned_streams, left_in(&directory).len()), (0, 0));
}

#[tokio::test]
async fn a_complete_batch_is_answered_to_its_end() {
    let Stepped { server, mut starts, go } = Stepped::start(LONG, whole_batches);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    stream.send_eot().await.unwrap();
    starts.recv().await.unwrap();
    let (directory, served) = server.stop();
    go.add_permits(1);
    let (answer, end) = (stream.recv().await.unwrap().unwrap(), stream.recv().await.unwrap().unwrap());
    assert_eq!((&answer.id[..], answer.eot, end.eot), ("1", false, true));
    stream.close();
    assert_eq!(stream.recv().await.unwrap(), None);
    assert_eq!(within(LONG / 5, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn a_batch_in_its_handler_is_named_at_the_deadline() {
    let Stepped { server, mut starts, go: _go } = Stepped::start(SHORT, whole_batches);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    stream.send("2", MapRequest::new("b")).await.unwrap();
    stream.send_eot().await.unwrap();
    starts.recv().await.unwrap();
    let (directory, served) = server.stop();
    let drained = served.await.unwrap().unwrap();
    assert_eq!(abandoned(&drained), [("1", Stage::Handler), ("2", Stage::Handler)]);
    assert_eq!((drained.abandoned_streams, left_in(&directory).len()), (1, 0));
    stream.recv().await.unwrap_err();
}

#[tokio::test]
async fn outputs_half_sent_are_sent_to_their_end() {
    let Stepped { server, mut starts, go } = Stepped::start(LONG, two_outputs);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("second")).await.unwrap();
    starts.recv().await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().messages[0].value(), "first");
    let (directory, served) = server.stop();
    go.add_permits(1);
    assert_eq!(stream.recv().await.unwrap().unwrap().messages[0].value(), "second");
    assert!(stream.recv().await.unwrap().unwrap().eot);
    stream.close();
    assert_eq!(stream.recv().await.unwrap(), None);
    assert_eq!(within(LONG / 5, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn outputs_half_sent_have_no_end_at_the_deadline() {
    let Stepped { server, mut starts, go: _go } = Stepped::start(SHORT, two_outputs);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("second")).await.unwrap();
    starts.recv().await.unwrap();
    assert!(!stream.recv().await.unwrap().unwrap().eot);
    let (directory, served) = server.stop();
    stream.recv().await.unwrap_err();
    let drained = served.await.unwrap().unwrap();
    assert_eq!(abandoned(&drained), [("1", Stage::Handler)]);
    assert_eq!((drained.abandoned_streams, left_in(&directory).len()), (1, 0));
}

#[tokio::test]
async fn idle_streams_of_every_mode_end_before_the_deadline() {
    let ends = async |mode: MapMode| {
        let service = map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message()))).mode(mode);
        let server = OnSocket::start(Server::new(service).drain_timeout(SHORT));
        let client = server.map_client().await;
        let mut stream = client.open().await.unwrap();
        let (directory, served) = server.stop();
        assert_eq!(status(&stream.recv().await.unwrap_err()).0, "UNAVAILABLE", "{mode}");
        assert_eq!(served.await.unwrap().unwrap(), Drained::default(), "{mode}");
        assert_eq!(left_in(&directory), [""; 0], "{mode}");
    };
    tokio::join!(ends(MapMode::Unary), ends(MapMode::Batch), ends(MapMode::Stream));
}

/// Answers of handlers that were ready at once, to a peer that takes nothing in: the handlers of a batch, of messages in the
/// order of their keys, and of one that had waited for room.
#[tokio::test]
async fn answers_that_nobody_takes_are_named() {
    /// More than the peer's window for a stream.
    const LARGE: u32 = 4 << 20;
    let in_batch = || {
        map::batch_service(map::batch_from_fn(async |requests: Vec<MapRequest>| {
            Ok(requests.into_iter().map(|r| (r.id().to_owned(), r.into_message())).collect::<map::BatchAnswers>())
        }))
    };
    for way in ["a batch", "the order of keys", "room"] {
        let (started, mut starts) = mpsc::channel(16);
        let go = Arc::new(Semaphore::new(0));
        let gate = go.clone();
        let unary = map::service(map::from_fn(move |request: MapRequest| {
            let (started, go) = (started.clone(), gate.clone());
            async move {
                if request.value().first() == Some(&b'w') {
                    started.send(()).await?;
                    go.acquire().await?.forget();
                }
                Ok(request.into_message())
            }
        }));
        let service = match way {
            "a batch" => in_batch(),
            "the order of keys" => unary.key_ordered(true),
            _ => unary,
        };
        let server = Server::new(service).drain_timeout(SHORT).admin(ANY_PORT);
        let server = OnSocket::start(if way == "room" { server.max_in_flight_bytes(1 << 20) } else { server });
        let client = server.map_client().await;
        let mut stream = client.open().await.unwrap();
        // Until handlers are known to be light, and run in place.
        for _ in 0..200 {
            let request = MapRequest::new("light").with_keys(["k"]);
            if way == "a batch" {
                stream.map_batch([request]).await.unwrap();
            } else {
                stream.map(request).await.unwrap();
            }
        }
        let address = server.admin.unwrap();
        let mut busy = client.open().await.unwrap();
        if way == "room" {
            // It has the room of the one message that may be larger than all there is.
            busy.send("busy", MapRequest::new(vec![b'w'; 2 << 20])).await.unwrap();
            starts.recv().await.unwrap();
        }
        for id in ["1", "2"].into_iter().take(if way == "a batch" { 2 } else { 1 }) {
            stream.send(id, MapRequest::new(vec![0; LARGE as usize]).with_keys(["k"])).await.unwrap();
        }
        let expected = match way {
            "a batch" => {
                stream.send_eot().await.unwrap();
                vec![("1", Stage::Answered), ("2", Stage::Answered)]
            }
            "room" => {
                until(address, "numaflow_udf_in_flight_messages{stage=\"queued\"}", 1.0).await;
                go.add_permits(1);
                busy.recv().await.unwrap().unwrap();
                vec![("1", Stage::Answered)]
            }
            _ => vec![("1", Stage::Answered)],
        };
        let messages = f64::from(u8::try_from(expected.len()).unwrap());
        until(address, "numaflow_udf_in_flight_messages{stage=\"answered\"}", messages).await;
        let bytes = metric(address, "numaflow_udf_in_flight_bytes").await;
        assert!(bytes >= messages * f64::from(LARGE), "{bytes} are held for {messages} answers of {LARGE} after {way}");
        let (_directory, served) = server.stop();
        let drained = served.await.unwrap().unwrap();
        assert_eq!(abandoned(&drained), expected, "after {way}");
    }
}
