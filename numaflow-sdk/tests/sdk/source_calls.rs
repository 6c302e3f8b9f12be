//! Acks, nacks and questions to a source are calls like a map's messages: they hold nothing up, they are limited, listed and
//! named.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use numaflow_sdk::source::{Batch, NackOffset, Offset, Partitions, ReadRequest, SourceService, Sourcer, service};
use numaflow_sdk::testing::{self, AckStream, ReadEvent, SourceClient};
use numaflow_sdk::{HandlerError, NackOptions, Server, Stage, map};
use tokio::runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::admin::{ANY_PORT, in_flight, metric, until};
use crate::raw::{RawConnection, field, frame};
use crate::support::{OnSocket, within};

const LONG: Duration = Duration::from_secs(120);

/// What each call does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// Returns at once.
    Nothing,
    /// Reports, and waits for a go.
    Wait,
    /// Reports, and holds its thread until there is a go.
    Block,
}

struct Stepped {
    does: Does,
    /// The calls that hold their thread, counted from zero; all where there are none.
    blocking: &'static [usize],
    calls: AtomicUsize,
    started: mpsc::Sender<&'static str>,
    go: Arc<Semaphore>,
    running: AtomicUsize,
    most: AtomicUsize,
    acked: AtomicUsize,
    largest: AtomicUsize,
}

struct Director {
    starts: mpsc::Receiver<&'static str>,
    go: Arc<Semaphore>,
    source: Arc<Stepped>,
}

fn stepped(does: Does, blocking: &'static [usize]) -> Director {
    let (started, starts) = mpsc::channel(100);
    let go = Arc::new(Semaphore::new(0));
    let source = Stepped {
        does,
        blocking,
        calls: AtomicUsize::new(0),
        started,
        go: go.clone(),
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        acked: AtomicUsize::new(0),
        largest: AtomicUsize::new(0),
    };
    Director { starts, go, source: Arc::new(source) }
}

impl Director {
    async fn started(&mut self) -> &'static str {
        within(LONG, self.starts.recv()).await.unwrap()
    }

    fn server(&self) -> Server<SourceService<Arc<Stepped>>> {
        Server::new(service(self.source.clone()))
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Stepped {
    /// Holds the thread until there is a go. In a test that fails it ends all the same.
    fn block(&self) {
        let begun = Instant::now();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut go = pin!(self.go.acquire());
        while begun.elapsed() < 2 * LONG {
            if let Poll::Ready(permit) = go.as_mut().poll(&mut Context::from_waker(&waker)) {
                return permit.unwrap().forget();
            }
            thread::park_timeout(LONG);
        }
    }

    async fn step(&self, call: &'static str) -> Result<(), HandlerError> {
        let number = self.calls.fetch_add(1, SeqCst);
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        match self.does {
            Does::Nothing => {}
            Does::Wait => {
                self.started.send(call).await?;
                self.go.acquire().await?.forget();
            }
            Does::Block if self.blocking.is_empty() || self.blocking.contains(&number) => {
                self.started.send(call).await?;
                self.block();
            }
            Does::Block => {}
        }
        self.running.fetch_sub(1, SeqCst);
        Ok(())
    }
}

impl Sourcer for Stepped {
    async fn read(&self, _: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        batch.end_early();
        Ok(())
    }

    async fn ack(&self, offsets: Vec<Offset>) -> Result<(), HandlerError> {
        self.acked.fetch_add(offsets.len(), SeqCst);
        self.largest.fetch_max(offsets.len(), SeqCst);
        self.step("ack").await
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        self.largest.fetch_max(offsets.len(), SeqCst);
        self.step("nack").await
    }

    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        self.step("pending").await?;
        Ok(Some(7))
    }

    async fn partitions(&self) -> Result<Option<Partitions>, HandlerError> {
        self.step("partitions").await?;
        Ok(None)
    }
}

fn offset(number: usize) -> Offset {
    Offset::new(number.to_string(), 3)
}

/// Makes a call, and waits for its answer.
async fn call(client: &SourceClient, which: &str) {
    let nack = NackOffset::new(offset(5), NackOptions::new());
    let call = async {
        match which {
            "ack" => client.ack_stream().await.unwrap().ack(vec![offset(1), offset(2)]).await.unwrap(),
            "nack" => client.nack(vec![nack]).await.unwrap(),
            "pending" => assert_eq!(client.pending().await.unwrap(), Some(7)),
            _ => assert_eq!(client.partitions().await.unwrap(), Partitions::new([0])),
        }
    };
    Box::pin(call).await;
}

const CALLS: [&str; 4] = ["ack", "nack", "pending", "partitions"];

/// The connection goes on while a call holds its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_block_their_thread_do_not_hold_their_connection() {
    let mut director = stepped(Does::Block, &[]);
    let client = SourceClient::over(testing::serve(director.server())).await.unwrap();
    for which in CALLS {
        let answered = call(&client, which);
        let meanwhile = async {
            assert_eq!(director.started().await, which);
            assert!(within(LONG, client.is_ready()).await.unwrap());
            director.go.add_permits(1);
        };
        within(2 * LONG, async { tokio::join!(answered, meanwhile) }).await;
    }
}

/// As with reads: the first acks of a stream are tasks, and those behind one that blocked its thread in place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_that_blocks_its_thread_in_place_does_it_once() {
    const IN_PLACE: usize = 6;
    let mut director = stepped(Does::Block, &[IN_PLACE, IN_PLACE + 3]);
    let client = SourceClient::over(testing::serve(director.server())).await.unwrap();
    let mut acks = client.ack_stream().await.unwrap();
    for number in 0..IN_PLACE + 5 {
        let acked = acks.ack(vec![offset(number)]);
        if !director.source.blocking.contains(&number) {
            within(LONG, acked).await.unwrap();
            continue;
        }
        let go = director.go.clone();
        let meanwhile = async {
            assert_eq!(director.started().await, "ack");
            if number == IN_PLACE {
                // The server measures this time: it is far above the 20 ms from which on an ack counts as one that blocks.
                tokio::time::sleep(Duration::from_millis(100)).await;
            } else {
                assert!(within(LONG, client.is_ready()).await.unwrap());
            }
            go.add_permits(1);
        };
        let (acked, ()) = within(2 * LONG, async { tokio::join!(acked, meanwhile) }).await;
        acked.unwrap();
    }
}

/// On a socket, with an admin endpoint.
async fn observed(server: Server<SourceService<Arc<Stepped>>>) -> (OnSocket, std::net::SocketAddr, SourceClient) {
    let server = OnSocket::start(server.admin(ANY_PORT));
    let address = server.admin.unwrap();
    let client = SourceClient::connect(server.socket()).await.unwrap();
    (server, address, client)
}

#[tokio::test]
async fn calls_are_listed_counted_and_named_when_they_are_slow() {
    let mut director = stepped(Does::Wait, &[]);
    let (_server, address, client) = observed(director.server().slow_after(Duration::from_millis(20))).await;
    let ids = [
        "AckFn: 2 offsets, the first is 1 of partition 3",
        "NackFn: 1 offsets, the first is 5 of partition 3",
        "PendingFn",
        "PartitionsFn",
    ];
    for (number, (which, id)) in CALLS.into_iter().zip(ids).enumerate() {
        let meanwhile = async {
            assert_eq!(director.started().await, which);
            let listed = in_flight(address, "").await;
            let message = &listed["messages"][0];
            assert_eq!(
                (&listed["count"], &message["id"], &message["stage"]),
                (&1.into(), &id.into(), &"handler".into())
            );
            assert_eq!(metric(address, "numaflow_udf_in_flight_messages{stage=\"handler\"}").await, 1.0);
            let named = f64::from(u32::try_from(number + 1).unwrap());
            until(address, "numaflow_udf_slow_messages_total", named).await;
            director.go.add_permits(1);
        };
        within(2 * LONG, async { tokio::join!(call(&client, which), meanwhile) }).await;
        // HTTP/2 may still have the answer for a moment.
        within(LONG, async { while in_flight(address, "").await["count"] != 0 {} }).await;
    }
    assert_eq!(metric(address, "numaflow_udf_handler_duration_seconds_count").await, 4.0);
}

/// Waits in each read, and over a new reader, until there is a go.
struct Hangs {
    stepped: Arc<Stepped>,
    /// Whether it fails over a new reader then.
    panics: bool,
}

impl Sourcer for Hangs {
    async fn read(&self, _: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        self.stepped.step("read").await?;
        batch.end_early();
        Ok(())
    }
    async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
        Ok(())
    }
    async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
        Ok(())
    }
    fn reader_connected(&self) {
        self.stepped.started.try_send("reader").unwrap();
        self.stepped.block();
        assert!(!self.panics, "as asked");
    }
}

/// The thread of the runtime that waits for input and output may be the one that is blocked, while the other one sleeps.
#[test]
fn reads_that_block_their_thread_keep_nobody_else_waiting() {
    let serving = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut director = stepped(Does::Block, &[]);
    let source = Hangs { stepped: director.source.clone(), panics: false };
    let server = {
        let _inside = serving.enter();
        OnSocket::start(Server::new(service(source)))
    };
    // Those who ask must not wake a thread of the server by the way.
    let asking = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    asking.block_on(async {
        let reader = SourceClient::connect(server.socket()).await.unwrap();
        let other = SourceClient::connect(server.socket()).await.unwrap();
        for _ in 0..8 {
            let meanwhile = async {
                assert_eq!(director.started().await, "reader");
                assert!(within(LONG, other.is_ready()).await.unwrap());
                director.go.add_permits(1);
            };
            let (opened, ()) = tokio::join!(reader.read_stream(), meanwhile);
            let mut reads = opened.unwrap();
            reads.request(ReadRequest::new(10, LONG)).await.unwrap();
            assert_eq!(director.started().await, "read");
            assert!(within(LONG, other.is_ready()).await.unwrap());
            director.go.add_permits(1);
            assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Eot));
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_listed_and_named_once_its_time_is_over() {
    let mut director = stepped(Does::Wait, &[]);
    let slow_after = Duration::from_millis(20);
    let source = Hangs { stepped: director.source.clone(), panics: false };
    let server = OnSocket::start(Server::new(service(source)).slow_after(slow_after).admin(ANY_PORT));
    let address = server.admin.unwrap();
    let client = SourceClient::connect(server.socket()).await.unwrap();
    let meanwhile = async {
        assert_eq!(director.started().await, "reader");
        until(address, "numaflow_udf_slow_messages_total", 1.0).await;
        assert_eq!(in_flight(address, "").await["messages"][0]["id"], "ReadFn: reader_connected");
        director.go.add_permits(1);
    };
    let (opened, ()) = within(2 * LONG, async { tokio::join!(client.read_stream(), meanwhile) }).await;
    let mut reads = opened.unwrap();

    // The source may wait for messages as long as it was told to.
    reads.request(ReadRequest::new(10, LONG)).await.unwrap();
    assert_eq!(director.started().await, "read");
    assert_eq!(in_flight(address, "").await["count"], 0);
    director.go.add_permits(1);
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Eot));

    reads.request(ReadRequest::new(10, Duration::ZERO)).await.unwrap();
    assert_eq!(director.started().await, "read");
    until(address, "numaflow_udf_slow_messages_total", 2.0).await;
    let listed = in_flight(address, "").await;
    let message = &listed["messages"][0];
    assert_eq!((&listed["count"], &message["id"], &message["stage"]), (&1.into(), &"ReadFn".into(), &"handler".into()));
    director.go.add_permits(1);
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Eot));
    assert_eq!(in_flight(address, "").await["count"], 0);
}

#[tokio::test]
async fn calls_share_the_limit_of_messages() {
    let mut director = stepped(Does::Wait, &[]);
    let (_server, address, client) = observed(director.server().max_in_flight(1)).await;
    let mut calls = JoinSet::new();
    for which in CALLS {
        let client = client.clone();
        calls.spawn(async move { call(&client, which).await });
    }
    for left in (0..CALLS.len()).rev() {
        director.started().await;
        until(address, "numaflow_udf_in_flight_messages{stage=\"queued\"}", f64::from(u32::try_from(left).unwrap()))
            .await;
        // They concern no probe.
        assert!(within(LONG, client.is_ready()).await.unwrap());
        director.go.add_permits(1);
        within(LONG, calls.join_next()).await.unwrap().unwrap();
    }
    assert_eq!(director.source.most.load(SeqCst), 1);
    assert_eq!(metric(address, "numaflow_udf_limit_reached_total").await, 3.0);
}

/// What an ack takes in memory counts, not what it is on the wire: here 10 KB, and a hundred times as much as is allowed.
#[tokio::test]
async fn calls_share_the_limit_of_bytes_and_one_above_it_goes_alone() {
    const OFFSETS: usize = 5000;
    let mut director = stepped(Does::Wait, &[]);
    let (_server, address, client) = observed(director.server().max_in_flight_bytes(2000)).await;
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let mut acks: AckStream = client.ack_stream().await.unwrap();
        calls.spawn(async move { acks.ack(vec![Offset::new("", 0); OFFSETS]).await.unwrap() });
    }
    for left in (0..3).rev() {
        director.started().await;
        until(address, "numaflow_udf_in_flight_messages{stage=\"queued\"}", f64::from(left)).await;
        assert!(metric(address, "numaflow_udf_in_flight_bytes").await >= f64::from(left + 1) * 40.0 * OFFSETS as f64);
        director.go.add_permits(1);
        within(LONG, calls.join_next()).await.unwrap().unwrap();
    }
    let source = &director.source;
    assert_eq!((source.most.load(SeqCst), source.acked.load(SeqCst)), (1, 3 * OFFSETS));
}

/// The source gets offsets that need much memory in parts, and the platform one answer.
#[tokio::test]
async fn an_ack_of_very_many_offsets_comes_in_parts() {
    const OFFSETS: usize = 300_000;
    let director = stepped(Does::Nothing, &[]);
    let client = SourceClient::over(testing::serve(director.server())).await.unwrap();
    let mut acks = client.ack_stream().await.unwrap();
    within(LONG, acks.ack((0..OFFSETS).map(offset).collect())).await.unwrap();
    let source = &director.source;
    assert_eq!((source.acked.load(SeqCst), source.calls.load(SeqCst)), (OFFSETS, 3));
    assert!((100_000..110_000).contains(&source.largest.load(SeqCst)));
    // The platform's largest batches come whole.
    within(LONG, client.nack((0..50_000).map(|number| NackOffset::new(offset(number), NackOptions::new())).collect()))
        .await
        .unwrap();
    assert_eq!(source.calls.load(SeqCst), 4);
}

#[tokio::test]
async fn a_drain_names_the_calls_that_it_gives_up() {
    let mut director = stepped(Does::Wait, &[]);
    let (server, address, client) =
        observed(director.server().max_in_flight(1).drain_timeout(Duration::from_millis(500))).await;
    let mut calls = JoinSet::new();
    for (which, left) in [("ack", 0.0), ("pending", 1.0)] {
        let client = client.clone();
        calls.spawn(async move {
            // It ends with the server.
            match which {
                "ack" => drop(client.ack_stream().await.unwrap().ack(vec![offset(1)]).await),
                _ => drop(client.pending().await),
            }
        });
        if left == 0.0 {
            assert_eq!(director.started().await, "ack");
        }
        until(address, "numaflow_udf_in_flight_messages{stage=\"queued\"}", left).await;
    }
    let (_directory, served) = server.stop();
    let drained = within(LONG, served).await.unwrap().unwrap();
    let abandoned: Vec<_> =
        drained.abandoned_messages.iter().map(|message| (message.id.as_str(), message.stage)).collect();
    let ack = "AckFn: 1 offsets, the first is 1 of partition 3";
    assert_eq!(abandoned, [(ack, Stage::Handler), ("PendingFn", Stage::Queued)]);
    assert_eq!(drained.abandoned_streams, 1);
}

/// A source that takes its time over a new reader, or fails over it, holds nothing else up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_announced_holds_up_nothing() {
    let mut director = stepped(Does::Nothing, &[]);
    let source = Hangs { stepped: director.source.clone(), panics: true };
    let client = testing::source(source).await.unwrap();
    let meanwhile = async {
        assert_eq!(director.started().await, "reader");
        assert!(within(LONG, client.is_ready()).await.unwrap());
        director.go.add_permits(1);
    };
    let (opened, ()) = within(2 * LONG, async { tokio::join!(client.read_stream(), meanwhile) }).await;
    let error = opened.unwrap_err();
    let (name, text) = crate::support::status(&error);
    assert_eq!(name, "INTERNAL");
    assert!(text.starts_with("UDF_EXECUTION_ERROR(udsource): as asked at "), "{text}");
}

/// What a peer sends that none should ends its call with a status, and nothing else.
#[tokio::test]
async fn bad_requests() {
    const LIMIT: usize = 1 << 20;
    let (invalid, exhausted, unimplemented, ok) = ("3", "8", "12", "0");
    let director = stepped(Does::Nothing, &[]);
    let source = RawConnection::over(testing::serve(director.server().max_message_size(LIMIT))).await;
    let mapper = map::from_fn(async |request: numaflow_sdk::MapRequest| Ok(request.into_message()));
    let map = RawConnection::over(testing::serve(Server::new(map::service(mapper)))).await;
    let empty = || frame(b"");
    let head = |length: usize| Bytes::from([&[0][..], &u32::try_from(length).unwrap().to_be_bytes()].concat());
    let of = |size: usize| frame(&field(1, &vec![0; size]));
    let shaken = || frame(&[0x12, 2, 8, 1]);
    let mut checked = 0;
    for (connection, methods) in [
        (&source, &["/source.v1.Source/IsReady", "/source.v1.Source/PendingFn", "/source.v1.Source/PartitionsFn"][..]),
        (&map, &["/map.v1.Map/IsReady"]),
    ] {
        for method in methods {
            for (what, frames, expected) in [
                ("an empty message", vec![empty()], ok),
                ("an unknown field", vec![of(1000)], ok),
                ("too large", vec![of(5000)], exhausted),
                ("60 MiB that never come", vec![head(60 << 20)], exhausted),
                ("nothing", vec![], unimplemented),
                ("two messages", vec![empty(), empty()], unimplemented),
                ("no protobuf", vec![frame(&[0xff; 64])], invalid),
                ("half a message", vec![head(10), Bytes::from_static(b"12345")], invalid),
                ("compressed", vec![Bytes::from_static(&[1, 0, 0, 0, 0])], unimplemented),
                ("no such flag", vec![Bytes::from_static(&[7, 0, 0, 0, 0])], invalid),
            ] {
                assert_eq!(answered(connection, method, frames).await, expected, "{method}: {what}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 40);
    for (method, what, frames, expected) in [
        ("NackFn", "no offsets", vec![empty()], ok),
        ("NackFn", "half a megabyte of offsets", vec![frame(&field(1, &[0x0a, 0].repeat(LIMIT / 4)))], ok),
        ("NackFn", "above the limit", vec![head(LIMIT + 1)], exhausted),
        ("NackFn", "two messages", vec![empty(), empty()], unimplemented),
        ("NackFn", "no protobuf", vec![frame(&[0xff; 64])], invalid),
        ("NackFn", "a reason that is not UTF-8", vec![frame(&[0x0a, 7, 0x0a, 0, 0x12, 3, 0x0a, 1, 0xff])], invalid),
        ("AckFn", "an ack", vec![shaken(), frame(&[0x0a, 2, 0x0a, 0])], ok),
        ("AckFn", "a second handshake", vec![shaken(), shaken()], ok),
        ("AckFn", "no handshake", vec![frame(&[0x0a, 2, 0x0a, 0])], invalid),
        ("AckFn", "sot = false", vec![frame(&[0x12, 2, 8, 0])], invalid),
        ("AckFn", "nothing at all", vec![], invalid),
        ("AckFn", "no request", vec![shaken(), empty()], invalid),
        ("AckFn", "a field longer than its message", vec![shaken(), frame(&[0x0a, 2, 0x0a, 9])], invalid),
        ("AckFn", "groups without end", vec![shaken(), frame(&[0x4b; 100_000])], invalid),
        ("AckFn", "above the limit", vec![shaken(), head(LIMIT + 1)], exhausted),
        ("AckFn", "half a message", vec![shaken(), head(10), Bytes::from_static(b"12345")], invalid),
        ("ReadFn", "a read", vec![shaken(), frame(&[0x0a, 2, 8, 1])], ok),
        ("ReadFn", "no handshake", vec![frame(&[0x0a, 2, 8, 1])], invalid),
        ("ReadFn", "no protobuf", vec![shaken(), frame(&[0xff; 64])], invalid),
        ("ReadFn", "above the limit", vec![shaken(), head(LIMIT + 1)], exhausted),
    ] {
        let method = format!("/source.v1.Source/{method}");
        assert_eq!(answered(&source, &method, frames).await, expected, "{method}: {what}");
    }
    assert_eq!(answered(&source, "/source.v1.Source/IsReady", vec![empty()]).await, ok);
}

/// The status of a call with these frames.
async fn answered(connection: &RawConnection, method: &str, frames: Vec<Bytes>) -> String {
    within(LONG, connection.answer(method, frames)).await.1
}
