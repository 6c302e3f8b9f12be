//! Where handlers run, and in which order.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use numaflow_sdk::map::{self, BatchAnswers, Execution, MapService, Retry};
use numaflow_sdk::testing::MapStream;
use numaflow_sdk::{HandlerError, MapRequest, Message, Server};
use tokio::sync::Semaphore;

use crate::admin::{self, in_flight};
use crate::step::{LONG, serve, steps};
use crate::support::{status, within};

/// A map that answers with the task it runs on, after it has held its thread for as long as the value says.
fn where_it_runs() -> MapService {
    map::service(map::from_fn(async |request: MapRequest| {
        if request.value() == "heavy" {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_micros(500) {
                std::hint::spin_loop();
            }
        }
        Ok(Message::new(tokio::task::id().to_string()))
    }))
}

/// The tasks that these messages' handlers ran on.
async fn tasks(stream: &mut MapStream, value: &'static str, messages: usize) -> Vec<Message> {
    let mut tasks = Vec::new();
    for _ in 0..messages {
        tasks.extend(within(LONG, stream.map(MapRequest::new(value))).await.unwrap());
    }
    tasks
}

fn distinct(tasks: &[Message]) -> usize {
    tasks.iter().map(Message::value).collect::<std::collections::HashSet<_>>().len()
}

/// Sends such messages until the handlers of twenty in a row ran on so many tasks. On a busy machine a light handler may
/// lose its thread, and then it looks heavy.
async fn until_they_run_on(stream: &mut MapStream, value: &'static str, tasks_of_twenty: usize) {
    let run = async { while distinct(&tasks(stream, value, 20).await) != tasks_of_twenty {} };
    within(LONG, run).await;
}

#[tokio::test]
async fn heavy_handlers_move_to_tasks_and_light_ones_back() {
    let mut stream = serve(Server::new(where_it_runs())).await.open().await.unwrap();
    // Nothing is known of them at first, and then they have tasks of their own.
    assert_eq!(distinct(&tasks(&mut stream, "light", 5).await), 5);
    // In place is the stream's own task, every time.
    until_they_run_on(&mut stream, "light", 1).await;
    until_they_run_on(&mut stream, "heavy", 20).await;
    until_they_run_on(&mut stream, "light", 1).await;
}

#[tokio::test]
async fn every_handler_has_a_task_where_that_is_asked_for() {
    let service = where_it_runs().execution(Execution::Tasks);
    let mut stream = serve(Server::new(service)).await.open().await.unwrap();
    assert_eq!(distinct(&tasks(&mut stream, "light", 50).await), 50);
}

fn blocking(threads: usize) -> Execution {
    Execution::Blocking { threads: NonZeroUsize::new(threads).unwrap() }
}

#[tokio::test]
async fn no_more_threads_than_the_pool_has() {
    let directory = tempfile::TempDir::new().unwrap();
    let bind = |threads| {
        let server = Server::new(where_it_runs().execution(blocking(threads)));
        server.socket_path(directory.path().join("s")).server_info_path(directory.path().join("i")).bind()
    };
    drop(bind(500).unwrap());
    let problem = "has 501 threads to block, and tokio's pool bounds them: give 500 at most";
    let error = bind(501).unwrap_err().to_string();
    assert!(error.contains("execution") && error.contains(problem), "{error}");
    assert_eq!("blocking:501".parse::<Execution>(), Err(problem.to_owned()));
    assert_eq!("blocking:500".parse(), Ok(blocking(500)));
}

/// On a runtime with one thread, which no blocking handler gets.
#[tokio::test]
async fn blocking_handlers_have_so_many_threads_and_no_more() {
    const THREADS: usize = 3;
    let (steps, mut director) = steps();
    let (go, gone) = mpsc::sync_channel::<()>(100);
    let gone = Arc::new(Mutex::new(gone));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = most.clone();
    let mapper = map::from_fn(move |request: MapRequest| {
        let (steps, gone, running, most) = (steps.clone(), gone.clone(), running.clone(), highest.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            steps.start(&request).await?;
            // One at a time takes its go; the others wait for the lock, which blocks them as well.
            gone.lock().unwrap().recv()?;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(request.into_message())
        }
    });
    let client = serve(Server::new(map::service(mapper).execution(blocking(THREADS)))).await;
    let mut stream = client.open().await.unwrap();
    for id in 0..20 {
        stream.send(id.to_string(), MapRequest::new("x")).await.unwrap();
    }
    for _ in 0..THREADS {
        director.started().await;
    }
    assert!(within(LONG, client.is_ready()).await.unwrap());
    assert!(!director.has_started());
    for _ in 0..20 {
        go.send(()).unwrap();
        within(LONG, stream.recv()).await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), THREADS);
}

/// Whatever came before, a message is listed once, and as what it is, while its handler holds the thread of its stream.
#[test]
fn what_blocks_in_place_is_listed_once() {
    // A batch of two, a batch of one, a message with keys in their order, and one that had waited for room.
    let batch = |steps: Blocker| {
        map::batch_service(map::batch_from_fn(move |requests: Vec<MapRequest>| {
            let steps = steps.clone();
            async move {
                requests.iter().for_each(|request| steps.block(request));
                Ok(requests.into_iter().map(|r| (r.id().to_owned(), r.into_message())).collect::<BatchAnswers>())
            }
        }))
    };
    let unary = |steps: Blocker| {
        map::service(map::from_fn(move |request: MapRequest| {
            let steps = steps.clone();
            async move {
                steps.block(&request);
                Ok(request.into_message())
            }
        }))
    };
    for (messages, in_batch, key_ordered) in [(2, true, false), (1, true, false), (1, false, true), (1, false, false)] {
        let (steps, started, go) = Blocker::new();
        let service = if in_batch { batch(steps) } else { unary(steps).key_ordered(key_ordered) };
        let server_runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (directory, address, _client) = server_runtime.block_on(admin::serve(Server::new(service)));
        let outside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        outside.block_on(async {
            let client = numaflow_sdk::testing::MapClient::connect(directory.path().join("s")).await.unwrap();
            let mut stream = client.open().await.unwrap();
            // Until they are known to be light, and run in place.
            for _ in 0..200 {
                let request = MapRequest::new("light").with_keys(["k"]);
                if in_batch {
                    stream.map_batch([request]).await.unwrap();
                } else {
                    stream.map(request).await.unwrap();
                }
            }
            for id in 0..messages {
                let value = if id == 0 { "blocks" } else { "light" };
                stream.send(id.to_string(), MapRequest::new(value).with_keys(["k"])).await.unwrap();
            }
            if in_batch {
                stream.send_eot().await.unwrap();
            }
            let blocked = tokio::task::spawn_blocking(move || started.recv_timeout(LONG));
            blocked.await.unwrap().unwrap();
            let list = in_flight(address, "").await;
            assert_eq!(list["count"], messages, "{list}");
            for message in list["messages"].as_array().unwrap() {
                assert_eq!(message["stage"], "handler", "{list}");
            }
            go.send(()).unwrap();
            within(LONG, stream.recv()).await.unwrap().unwrap();
        });
        server_runtime.shutdown_background();
    }
}

/// A handler that holds its thread until the test lets it go.
#[derive(Clone)]
struct Blocker {
    started: mpsc::SyncSender<()>,
    gone: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Blocker {
    fn new() -> (Self, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
        let ((started, starts), (go, gone)) = (mpsc::sync_channel(10), mpsc::sync_channel(10));
        (Self { started, gone: Arc::new(Mutex::new(gone)) }, starts, go)
    }

    fn block(&self, request: &MapRequest) {
        if request.value() == "blocks" {
            self.started.send(()).unwrap();
            self.gone.lock().unwrap().recv().unwrap();
        }
    }
}

/// A stream of messages whose handlers wait for their go, in the order of their keys.
async fn in_order(retry: Retry) -> (MapStream, crate::step::Director) {
    let (steps, director) = steps();
    let failed = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let mapper = map::from_fn(move |request: MapRequest| {
        let (steps, failed) = (steps.clone(), failed.clone());
        async move {
            steps.step(&request).await?;
            let attempts = {
                let mut failed = failed.lock().unwrap();
                let attempts = failed.entry(request.id().to_owned()).or_default();
                *attempts += 1;
                *attempts
            };
            match &request.value()[..] {
                b"fails" => Err(HandlerError::new("as asked").terminal()),
                b"hiccups" if attempts < 3 => Err("as asked".into()),
                _ => Ok(request.into_message()),
            }
        }
    });
    let service = map::service(mapper).key_ordered(true).retry(retry);
    (serve(Server::new(service)).await.open().await.unwrap(), director)
}

async fn send(stream: &mut MapStream, id: &str, keys: &[&str], value: &'static str) {
    stream.send(id, MapRequest::new(value).with_keys(keys.iter().copied())).await.unwrap();
}

#[tokio::test]
async fn the_same_keys_are_handled_in_sequence_and_others_beside_them() {
    let (mut stream, mut director) = in_order(Retry::none()).await;
    for (id, keys) in [
        ("a1", &["a"][..]),
        ("a2", &["a"]),
        ("b1", &["b"]),
        ("ab", &["a", "b"]),
        ("-1", &[]),
        ("-2", &[]),
        ("a3", &["a"]),
    ] {
        send(&mut stream, id, keys, "x").await;
    }
    let mut started = Vec::new();
    for _ in 0..5 {
        started.push(director.started().await);
    }
    assert_eq!(started, ["a1", "b1", "ab", "-1", "-2"]);
    // The one behind starts when the one before is answered, and not before.
    assert!(!director.has_started());
    director.go(5);
    for _ in 0..5 {
        stream.recv().await.unwrap().unwrap();
    }
    for id in ["a2", "a3"] {
        assert_eq!(director.started().await, id);
        assert!(!director.has_started());
        director.go(1);
        assert_eq!(stream.recv().await.unwrap().unwrap().id, id);
    }
}

#[tokio::test]
async fn a_message_that_is_tried_again_is_not_overtaken() {
    let retry = Retry::attempts(3).initial_delay(Duration::from_millis(1));
    let (mut stream, mut director) = in_order(retry).await;
    send(&mut stream, "1", &["a"], "hiccups").await;
    send(&mut stream, "2", &["a"], "x").await;
    for id in ["1", "1", "1", "2"] {
        assert_eq!(director.started().await, id);
        assert!(!director.has_started());
        director.go(1);
    }
    for id in ["1", "2"] {
        assert_eq!(stream.recv().await.unwrap().unwrap().id, id);
    }
}

#[tokio::test]
async fn what_is_behind_a_lost_message_never_runs() {
    let (mut stream, mut director) = in_order(Retry::none()).await;
    for (id, keys, value) in [("a1", "a", "fails"), ("a2", "a", "x"), ("b1", "b", "x")] {
        send(&mut stream, id, &[keys], value).await;
    }
    for id in ["a1", "b1"] {
        assert_eq!(director.started().await, id);
    }
    director.go(1);
    // Also what comes after it has failed, while the stream goes on for a while.
    send(&mut stream, "a3", &["a"], "x").await;
    send(&mut stream, "b2", &["b"], "x").await;
    stream.close();
    director.go(100);
    let mut answered = Vec::new();
    let error = loop {
        match within(LONG, stream.recv()).await {
            Ok(answer) => answered.push(answer.unwrap().id),
            Err(error) => break error,
        }
    };
    assert_eq!(answered, ["b1", "b2"]);
    assert_eq!(status(&error).0, "INTERNAL");
    assert_eq!(director.started().await, "b2");
    assert!(!director.has_started());
}

/// 20,000 at once, and of the handlers 64 at once and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_handlers_as_the_limit_says() {
    const LIMIT: usize = 64;
    const MESSAGES: usize = 20_000;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let full = Arc::new(Semaphore::new(0));
    let (now, highest, go) = (running.clone(), most.clone(), full.clone());
    let mapper = map::from_fn(move |request: MapRequest| {
        let (running, most, full) = (now.clone(), highest.clone(), go.clone());
        async move {
            let at_once = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(at_once, Ordering::SeqCst);
            // The first ones wait until there are as many as there may be.
            if at_once == LIMIT {
                full.add_permits(MESSAGES);
            }
            full.acquire().await?.forget();
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(request.into_message())
        }
    });
    let (mut sender, mut receiver) =
        serve(Server::new(map::service(mapper)).max_in_flight(LIMIT)).await.open().await.unwrap().split();
    let sending = async {
        for id in 0..MESSAGES {
            sender.send(id.to_string(), MapRequest::new("x")).await.unwrap();
        }
        sender.close();
    };
    let receiving = async {
        let mut answered = 0;
        while receiver.recv().await.unwrap().is_some() {
            answered += 1;
        }
        answered
    };
    let ((), answered) = within(2 * LONG, async { tokio::join!(sending, receiving) }).await;
    assert_eq!((answered, most.load(Ordering::SeqCst)), (MESSAGES, LIMIT));
}

/// Messages of one key that have waited for a slow one are handled a chunk of answers at a time, so that the others on their
/// connection get their turns.
#[tokio::test]
async fn what_waited_for_a_key_does_not_run_all_at_once() {
    const MESSAGES: usize = 2000;
    let (steps, mut director) = steps();
    let called = Arc::new(AtomicUsize::new(0));
    let calls = called.clone();
    let mapper = map::from_fn(move |request: MapRequest| {
        let (steps, calls) = (steps.clone(), calls.clone());
        async move {
            if request.id() == "slow" {
                steps.step(&request).await?;
            }
            calls.fetch_add(1, Ordering::SeqCst);
            Ok(Message::new(vec![0; 4 << 10]))
        }
    });
    let (_directory, address, client) = admin::serve(Server::new(map::service(mapper).key_ordered(true))).await;
    let (sender, mut receiver) = client.open().await.unwrap().split();
    let request = || MapRequest::new("x").with_keys(["same"]);
    // Until they are known to be light, and run in place.
    for _ in 0..200 {
        sender.send("light", request()).await.unwrap();
        within(LONG, receiver.recv()).await.unwrap().unwrap();
    }
    sender.send("slow", request()).await.unwrap();
    assert_eq!(director.started().await, "slow");
    for id in 0..MESSAGES {
        sender.send(id.to_string(), request()).await.unwrap();
    }
    admin::until(address, "numaflow_udf_in_flight_messages{stage=\"queued\"}", 2000.0).await;
    called.store(0, Ordering::SeqCst);
    director.go(1);
    within(LONG, receiver.recv()).await.unwrap().unwrap();
    // They run in the thread of this test, which was let go on after some of them.
    let called = called.load(Ordering::SeqCst);
    assert!(called < MESSAGES / 2, "{called} of {MESSAGES} ran before the first answer could be taken");
    for _ in 0..MESSAGES {
        within(LONG, receiver.recv()).await.unwrap().unwrap();
    }
}

/// The first one's answer fills a chunk, so that the second does not start with its end; the third waits for the second's room.
#[tokio::test]
async fn what_waited_for_a_key_runs_also_while_a_message_waits_for_room() {
    let (steps, mut director) = steps();
    let mapper = map::from_fn(move |request: MapRequest| {
        let steps = steps.clone();
        async move {
            steps.step(&request).await?;
            Ok(Message::new(vec![0; 64 << 10]))
        }
    });
    let server = Server::new(map::service(mapper).key_ordered(true)).max_in_flight_bytes(1 << 20);
    let (_directory, address, client) = admin::serve(server).await;
    let (sender, mut receiver) = client.open().await.unwrap().split();
    sender.send("first", MapRequest::new("x").with_keys(["same"])).await.unwrap();
    assert_eq!(director.started().await, "first");
    sender.send("second", MapRequest::new(vec![0; 600 << 10]).with_keys(["same"])).await.unwrap();
    sender.send("third", MapRequest::new(vec![0; 600 << 10]).with_keys(["other"])).await.unwrap();
    admin::until(address, "numaflow_udf_in_flight_messages{stage=\"queued\"}", 2.0).await;
    director.go(3);
    for id in ["first", "second", "third"] {
        assert_eq!(within(LONG, receiver.recv()).await.unwrap().unwrap().id, id);
    }
}
