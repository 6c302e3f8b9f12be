//! Reads of a source where their connection is, and what moves them elsewhere: slow peers, panics, cancellation, drains.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use numaflow_sdk::source::{
    Batch, EncodedMessage, Message, MessageRef, NackOffset, Offset, ReadRequest, Sourcer, service,
};
use numaflow_sdk::testing::{self, ReadEvent, ReadStream, SourceClient};
use numaflow_sdk::{Drained, HandlerError, Server};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task;

use crate::raw::{RawConnection, frame};
use crate::support::{OnSocket, left_in, status, within};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(120);
/// So many reads are surely no tasks of their own behind them.
const WARM: usize = 6;

/// What a read does, in this order.
#[derive(Clone)]
enum Step {
    /// Pushes so many messages with values of this size; how they are pushed is up to their number.
    Push(usize, usize),
    /// Reports, and waits for a go.
    Wait,
    /// Holds its thread, as a client library does that knows nothing of async: for a while, which is too long.
    Block,
    /// The same, until it is told to go.
    BlockUntilGo,
    Panic,
    Fail,
}

/// A source that does as it was told, read by read; then one message a read.
struct Scripted {
    reads: Mutex<VecDeque<Vec<Step>>>,
    next: AtomicU64,
    pushed: Arc<AtomicUsize>,
    tasks: Mutex<Vec<task::Id>>,
    /// `waits`, and `gone` when a read is over, however that comes about.
    events: mpsc::UnboundedSender<&'static str>,
    go: Arc<Semaphore>,
}

/// The test's end.
struct Director {
    events: mpsc::UnboundedReceiver<&'static str>,
    go: Arc<Semaphore>,
    pushed: Arc<AtomicUsize>,
    source: Arc<Scripted>,
}

impl Director {
    async fn event(&mut self) -> &'static str {
        within(LONG, self.events.recv()).await.unwrap()
    }
}

struct Gone(mpsc::UnboundedSender<&'static str>);

impl Drop for Gone {
    fn drop(&mut self) {
        // The test may have ended.
        self.0.send("gone").unwrap_or_default();
    }
}

/// A source whose first [`WARM`] reads are one message each.
fn scripted(reads: impl IntoIterator<Item = Vec<Step>>) -> Director {
    let warm = (0..WARM).map(|_| vec![Step::Push(1, 1)]);
    #[expect(clippy::disallowed_methods, reason = "a few events a test")]
    let (sender, events) = mpsc::unbounded_channel();
    let (go, pushed) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let source = Scripted {
        reads: Mutex::new(warm.chain(reads).collect()),
        next: AtomicU64::new(0),
        pushed: pushed.clone(),
        tasks: Mutex::default(),
        events: sender,
        go: go.clone(),
    };
    Director { events, go, pushed, source: Arc::new(source) }
}

impl Scripted {
    async fn push(&self, size: usize, batch: &mut Batch) -> Result<(), HandlerError> {
        let number = self.next.fetch_add(1, SeqCst);
        let (value, offset) = (value(number, size), number.to_string());
        match number % 3 {
            0 => batch.push(Message::new(value, Offset::new(offset, 7), UNIX_EPOCH)).await?,
            1 => batch.push(MessageRef::new(&value, offset.as_bytes(), 7, UNIX_EPOCH)).await?,
            _ => {
                let message = MessageRef::new(&value, offset.as_bytes(), 7, UNIX_EPOCH);
                let encoded: EncodedMessage = message.encode(&mut BytesMut::new());
                batch.push(encoded).await?;
            }
        }
        self.pushed.fetch_add(1, SeqCst);
        Ok(())
    }
}

fn value(number: u64, size: usize) -> Bytes {
    vec![number.to_le_bytes()[0]; size].into()
}

impl Sourcer for Scripted {
    async fn read(&self, _: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        self.tasks.lock().unwrap().push(task::id());
        let steps = self.reads.lock().unwrap().pop_front();
        let _gone = Gone(self.events.clone());
        for step in steps.unwrap_or_else(|| vec![Step::Push(1, 1)]) {
            match step {
                Step::Push(count, size) => {
                    for _ in 0..count {
                        self.push(size, batch).await?;
                    }
                }
                Step::Wait => {
                    self.events.send("waits")?;
                    self.go.acquire().await?.forget();
                }
                Step::Block => std::thread::sleep(SECOND / 10),
                Step::BlockUntilGo => {
                    self.events.send("waits")?;
                    let begun = std::time::Instant::now();
                    // A test that fails ends all the same.
                    while self.go.try_acquire().map(SemaphorePermit::forget).is_err() && begun.elapsed() < 2 * LONG {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                Step::Panic => panic!("as asked"),
                Step::Fail => return Err("as asked".into()),
            }
        }
        Ok(())
    }

    async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// A stream whose next read is the first one of the script.
async fn warm(client: &SourceClient, director: &mut Director) -> ReadStream {
    let mut reads = client.read_stream().await.unwrap();
    for _ in 0..WARM {
        assert_eq!(reads.read(ReadRequest::new(500, SECOND)).await.unwrap().len(), 1);
        assert_eq!(director.event().await, "gone");
    }
    reads
}

async fn start(director: &mut Director) -> (SourceClient, ReadStream) {
    let client = testing::source(director.source.clone()).await.unwrap();
    let reads = warm(&client, director).await;
    (client, reads)
}

fn assert_messages(messages: &[Message], first: u64, size: usize) {
    for (number, message) in (first..).zip(messages) {
        assert_eq!(message.offset(), &Offset::new(number.to_string(), 7));
        assert_eq!(message.value(), &value(number, size));
    }
}

/// The clock stands still: on a busy machine a read may seem to hold its thread.
#[tokio::test(start_paused = true)]
async fn reads_are_polled_where_their_connection_is_but_for_the_first_ones() {
    let mut director = scripted([vec![Step::Push(500, 1 << 10)], vec![Step::Push(0, 0)]]);
    let (_client, mut reads) = start(&mut director).await;
    for count in [500, 0, 1] {
        assert_eq!(reads.read(ReadRequest::new(500, Duration::ZERO)).await.unwrap().len(), count);
    }
    let tasks = director.source.tasks.lock().unwrap().clone();
    let connection = *tasks.last().unwrap();
    let in_place: Vec<bool> = tasks.iter().map(|id| *id == connection).collect();
    assert_eq!(in_place, [false, false, false, false, true, true, true, true, true]);
}

/// Around every size at which messages are treated differently: many in a chunk, one in a chunk, and a chunk of its own.
#[tokio::test]
async fn a_read_goes_on_beyond_a_chunk() {
    let sizes = [0, 1, 300, (16 << 10) - 1, 16 << 10, 40 << 10, 3 << 20];
    let mut director = scripted(sizes.map(|size| vec![Step::Push(20, size)]));
    let (_client, mut reads) = start(&mut director).await;
    let mut next = WARM as u64;
    for size in sizes {
        let messages = within(LONG, reads.read(ReadRequest::new(20, SECOND))).await.unwrap();
        assert_eq!(messages.len(), 20);
        assert_messages(&messages, next, size);
        next += 20;
    }
}

#[tokio::test]
async fn a_message_leaves_while_the_read_that_pushed_it_waits() {
    let mut director = scripted([vec![Step::Push(1, 1), Step::Wait, Step::Push(1, 1)]]);
    let (client, mut reads) = start(&mut director).await;
    reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
    assert_eq!(director.event().await, "waits");
    // Other calls work meanwhile.
    within(LONG, client.ack_stream()).await.unwrap().ack(vec![Offset::new("1", 7)]).await.unwrap();
    assert_eq!(client.pending().await.unwrap(), None);
    director.go.add_permits(1);
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Eot));
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_its_read_and_nothing_else() {
    const COUNT: usize = 20_000;
    let mut director = scripted([vec![Step::Push(COUNT, 10 << 10)]]);
    let (client, mut reads) = start(&mut director).await;
    reads.request(ReadRequest::new(COUNT, SECOND)).await.unwrap();
    let mut acks = within(LONG, client.ack_stream()).await.unwrap();
    // Each call is a turn of the connection: long before the last one the windows of the peer are full.
    let mut before = 0;
    for _ in 0..200 {
        assert!(within(LONG, client.is_ready()).await.unwrap());
        within(LONG, acks.ack(vec![Offset::new("1", 7)])).await.unwrap();
        before = director.pushed.load(SeqCst);
    }
    assert!((1..COUNT / 4).contains(&before), "{before} messages of 10 KiB wait for a peer that reads none");
    assert!(within(LONG, client.is_ready()).await.unwrap());
    assert_eq!(director.pushed.load(SeqCst), before, "the read stands still");
    let mut next = WARM as u64;
    while let ReadEvent::Message(message) = within(LONG, reads.next()).await.unwrap() {
        assert_messages(&[message], next, 10 << 10);
        next += 1;
    }
    assert_eq!(next, (WARM + COUNT) as u64);
}

#[tokio::test]
async fn a_failure_ends_its_stream_behind_what_was_pushed() {
    for failure in [Step::Panic, Step::Fail] {
        let mut director = scripted([vec![Step::Push(2, 1), failure]]);
        let (client, mut reads) = start(&mut director).await;
        reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
        for _ in 0..2 {
            assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
        }
        let error = within(LONG, reads.next()).await.unwrap_err();
        let (name, text) = status(&error);
        assert_eq!(name, "INTERNAL");
        assert!(text.starts_with("UDF_EXECUTION_ERROR(udsource): as asked"), "{text}");
        // Nothing else ends with it.
        let mut reads = within(LONG, client.read_stream()).await.unwrap();
        assert_eq!(reads.read(ReadRequest::new(1, SECOND)).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_read_is_dropped_when_its_stream_is_cancelled() {
    // Waiting for itself, and waiting for the peer.
    for step in [Step::Wait, Step::Push(usize::MAX, 10 << 10)] {
        let mut director = scripted([vec![Step::Push(1, 1), step]]);
        let (client, mut reads) = start(&mut director).await;
        reads.request(ReadRequest::new(usize::MAX, SECOND)).await.unwrap();
        assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
        drop(reads);
        while director.event().await != "gone" {}
        assert!(within(LONG, client.is_ready()).await.unwrap());
    }
}

#[tokio::test]
async fn a_message_above_the_limit_ends_its_stream_with_a_sentence() {
    const LIMIT: usize = 64 << 10;
    // However it is pushed.
    for before in 0..3 {
        let mut director = scripted([vec![Step::Push(before, 1), Step::Push(1, LIMIT), Step::Push(1, 1)]]);
        let server = Server::new(service(director.source.clone())).max_message_size(LIMIT);
        let client = SourceClient::over(testing::serve(server)).await.unwrap();
        let mut reads = warm(&client, &mut director).await;
        reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
        for _ in 0..before {
            assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
        }
        let error = within(LONG, reads.next()).await.unwrap_err();
        let (name, text) = status(&error);
        assert_eq!(name, "INTERNAL");
        assert!(text.contains("and the limit of this server is 65536"), "{text}");
        assert_eq!(director.event().await, "gone");
    }
}

/// The connection goes on while a read holds its thread: the first ones of a stream, and those behind one that did so in
/// place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_blocks_its_thread_holds_its_connection_once() {
    let blocks = || vec![Step::BlockUntilGo, Step::Push(1, 1)];
    let mut director = scripted([vec![Step::Block, Step::Push(1, 1)], blocks()]);
    director.source.reads.lock().unwrap().push_front(blocks());
    let client = testing::source(director.source.clone()).await.unwrap();
    let mut reads = client.read_stream().await.unwrap();
    for read in 0..WARM + 3 {
        reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
        if [0, WARM + 2].contains(&read) {
            assert_eq!(director.event().await, "waits");
            assert!(within(LONG, client.is_ready()).await.unwrap());
            director.go.add_permits(1);
        }
        assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
        assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Eot));
        assert_eq!(director.event().await, "gone");
    }
}

async fn on_socket(director: &mut Director, drain: Duration) -> (OnSocket, SourceClient, ReadStream) {
    let server = OnSocket::start(Server::new(service(director.source.clone())).drain_timeout(drain));
    let client = SourceClient::connect(server.socket()).await.unwrap();
    let reads = warm(&client, director).await;
    (server, client, reads)
}

#[tokio::test]
async fn a_drain_in_mid_read_waits_for_its_batch() {
    let mut director = scripted([vec![Step::Push(1, 1), Step::Wait, Step::Push(1, 1)]]);
    let (server, _client, mut reads) = on_socket(&mut director, Duration::from_secs(60)).await;
    reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
    assert_eq!(director.event().await, "waits");
    let (directory, served) = server.stop();
    director.go.add_permits(1);
    for _ in 0..2 {
        assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
    }
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Eot));
    reads.close();
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::End));
    assert_eq!(within(LONG, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

/// Five seconds before the deadline, which is at once here, streams end: between two batches.
#[tokio::test]
async fn a_drain_that_is_pressed_ends_the_stream_behind_its_batch() {
    let mut director = scripted([vec![Step::Push(1, 1), Step::Wait, Step::Push(1, 1)]]);
    let (server, _client, mut reads) = on_socket(&mut director, Duration::from_secs(4)).await;
    reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
    assert_eq!(director.event().await, "waits");
    let (_directory, served) = server.stop();
    director.go.add_permits(1);
    for _ in 0..2 {
        assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Message(_)));
    }
    assert!(matches!(within(LONG, reads.next()).await.unwrap(), ReadEvent::Eot));
    assert_eq!(status(&within(LONG, reads.next()).await.unwrap_err()).0, "UNAVAILABLE");
    assert_eq!(within(LONG, served).await.unwrap().unwrap(), Drained::default());
}

/// A read that has returned without a message waits out its time, but for a drain.
#[tokio::test]
async fn a_drain_does_not_wait_for_an_empty_batch() {
    let mut director = scripted([vec![]]);
    let (server, _client, mut stream) = on_socket(&mut director, 2 * SECOND).await;
    stream.request(ReadRequest::new(10, 10 * LONG)).await.unwrap();
    assert_eq!(director.event().await, "gone");
    let (directory, served) = server.stop();
    assert!(matches!(stream.next().await.unwrap(), ReadEvent::Eot));
    assert_eq!(status(&stream.next().await.unwrap_err()).0, "UNAVAILABLE");
    assert_eq!(within(LONG, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

/// A source that panics when a reader comes.
struct Shy;

impl Sourcer for Shy {
    async fn read(&self, _request: ReadRequest, _batch: &mut Batch) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn ack(&self, _offsets: Vec<Offset>) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn nack(&self, _offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        Ok(())
    }

    fn reader_connected(&self) {
        panic!("no readers");
    }
}

#[tokio::test]
async fn a_panic_at_a_reader_is_told_and_is_its_streams_alone() {
    let client = testing::source(Shy).await.unwrap();
    let error = client.read_stream().await.unwrap_err();
    let (code, message) = status(&error);
    assert!(code == "INTERNAL" && message.contains("no readers"), "{code} {message}");
    assert!(client.is_ready().await.unwrap());
}

#[tokio::test]
async fn a_read_that_never_returns_is_dropped_at_the_deadline() {
    let mut director = scripted([vec![Step::Wait]]);
    let (server, _client, mut reads) = on_socket(&mut director, SECOND / 2).await;
    reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
    assert_eq!(director.event().await, "waits");
    let (directory, served) = server.stop();
    let drained = within(LONG, served).await.unwrap().unwrap();
    assert_eq!(drained.abandoned_streams, 1);
    assert_eq!(director.event().await, "gone");
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn a_bad_frame_ends_its_stream_with_a_status_and_nothing_else() {
    const LIMIT: usize = 1 << 20;
    let director = scripted([]);
    let server = Server::new(service(director.source.clone())).max_message_size(LIMIT);
    let connection = RawConnection::over(testing::serve(server)).await;
    let sot = frame(&[2 << 3 | 2, 2, 1 << 3, 1]);
    let head = |flag: u8, length: u32| Bytes::from([&[flag][..], &length.to_be_bytes()].concat());
    let above = u32::try_from(LIMIT + 1).unwrap();
    let (ok, invalid_argument, resource_exhausted, unimplemented) = ("0", "3", "8", "12");
    let attacks = [
        ("nothing at all", vec![], invalid_argument),
        ("no handshake", vec![frame(&[1 << 3 | 2, 0])], invalid_argument),
        ("sot = false", vec![frame(&[2 << 3 | 2, 2, 1 << 3, 0])], invalid_argument),
        ("a second handshake", vec![sot.clone(), sot.clone()], ok),
        ("no request", vec![sot.clone(), frame(b"")], invalid_argument),
        ("no protobuf", vec![sot.clone(), frame(&[0xff; 64])], invalid_argument),
        ("cut short", vec![sot.clone(), head(0, 10)], invalid_argument),
        ("above the limit", vec![sot.clone(), head(0, above)], resource_exhausted),
        ("compressed", vec![sot.clone(), head(1, 8)], unimplemented),
        ("no such flag", vec![sot.clone(), head(7, 8)], invalid_argument),
    ];
    for path in ["/source.v1.Source/ReadFn", "/source.v1.Source/AckFn"] {
        for (what, frames, expected) in &attacks {
            let mut call = within(LONG, connection.call(path)).await;
            for frame in frames {
                call.try_send_bytes(frame.clone()).await;
            }
            call.close();
            assert_eq!(within(LONG, call.finish()).await.1, *expected, "{path}: {what}");
        }
    }
}
