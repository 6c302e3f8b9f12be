//! No limit, however small, keeps anything from being answered.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use numaflow_sdk::map::{self, BatchAnswers, MapService, Outputs};
use numaflow_sdk::testing::{MapReceiver, MapStream};
use numaflow_sdk::{MapMode, MapRequest, Server};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::step::{LONG, serve};
use crate::support::{OnSocket, within};

/// After which a peer that cannot send is taken to stand still.
const STILL: Duration = Duration::from_millis(300);

/// How a map is written and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Unary,
    KeyOrdered,
    UnaryInBatches,
    UnaryInStreams,
    Batch,
    Stream,
}

const SHAPES: [Shape; 6] =
    [Shape::Unary, Shape::KeyOrdered, Shape::UnaryInBatches, Shape::UnaryInStreams, Shape::Batch, Shape::Stream];

impl Shape {
    fn mode(self) -> MapMode {
        match self {
            Self::Unary | Self::KeyOrdered => MapMode::Unary,
            Self::UnaryInBatches | Self::Batch => MapMode::Batch,
            Self::UnaryInStreams | Self::Stream => MapMode::Stream,
        }
    }

    /// A map that passes everything on, with a wait for messages whose value begins with an odd byte.
    fn service(self) -> MapService {
        let unary = map::from_fn(async |request: MapRequest| {
            wait(&request).await;
            Ok(request.into_message())
        });
        match self {
            Self::Unary => map::service(unary),
            Self::KeyOrdered => map::service(unary).key_ordered(true),
            Self::UnaryInBatches => map::service(unary).mode(MapMode::Batch),
            Self::UnaryInStreams => map::service(unary).mode(MapMode::Stream),
            Self::Batch => map::batch_service(map::batch_from_fn(async |requests: Vec<MapRequest>| {
                let mut answers = BatchAnswers::new();
                for request in requests {
                    wait(&request).await;
                    answers.push(request.id().to_owned(), request.into_message());
                }
                Ok(answers)
            })),
            Self::Stream => {
                map::stream_service(map::stream_from_fn(async |request: MapRequest, mut outputs: Outputs| {
                    wait(&request).await;
                    Ok(outputs.send(request.into_message()).await?)
                }))
            }
        }
    }
}

async fn wait(request: &MapRequest) {
    if is_odd(request.value()) {
        tokio::task::yield_now().await;
    }
}

fn is_odd(value: &[u8]) -> bool {
    value.first().is_some_and(|byte| byte % 2 == 1)
}

/// Receives the answers to these messages, each once, with the end that the mode has.
async fn receive(mode: MapMode, receiver: &mut MapReceiver, mut expected: HashMap<String, Bytes>) {
    let messages = expected.len();
    let (mut ends, mut answered) = (0, 0);
    let enough = match mode {
        MapMode::Unary => 0,
        MapMode::Batch => 1,
        MapMode::Stream => messages,
    };
    while answered < messages || ends < enough {
        let answer = receiver.recv().await.unwrap().unwrap();
        if answer.eot {
            ends += 1;
            if mode == MapMode::Batch {
                assert_eq!(answered, messages, "the end came before the last answer");
            } else {
                assert!(!expected.contains_key(&answer.id), "the end of {} came before its output", answer.id);
            }
            continue;
        }
        let value = expected.remove(&answer.id).unwrap_or_else(|| panic!("{} is answered again", answer.id));
        assert!(answer.messages.len() == 1 && answer.messages[0].value() == &value, "{} is another's", answer.id);
        answered += 1;
    }
    assert_eq!(ends, enough);
}

/// Sends these messages as one peer, over and over as the platform does it, and waits for the answers.
async fn peer(mode: MapMode, stream: MapStream, batches: Vec<Vec<Bytes>>) {
    let (mut sender, mut receiver) = stream.split();
    for values in batches {
        let named = |(index, value): (usize, Bytes)| (format!("{index}"), value);
        let messages: Vec<_> = values.into_iter().enumerate().map(named).collect();
        let expected = messages.iter().cloned().collect();
        let sending = async {
            for (id, value) in messages {
                let keys = id.as_bytes().first().map(|digit| char::from(*digit).to_string());
                sender.send(id, MapRequest::new(value).with_keys(keys)).await.unwrap();
            }
            if mode == MapMode::Batch {
                sender.send_eot().await.unwrap();
            }
        };
        tokio::join!(sending, receive(mode, &mut receiver, expected));
    }
    sender.close();
    assert_eq!(receiver.recv().await.unwrap(), None);
}

/// What no message of a test comes near.
const MUCH: usize = 1 << 30;

/// Three streams at once, two of them on one connection, each with batches that are larger than either limit.
#[tokio::test]
async fn one_message_and_one_byte_in_every_mode() {
    for shape in SHAPES {
        for (messages, bytes) in [(1, MUCH), (MUCH, 1), (1, 1)] {
            let server =
                OnSocket::start(Server::new(shape.service()).max_in_flight(messages).max_in_flight_bytes(bytes));
            let (one, other) = (server.map_client().await, server.map_client().await);
            let batches = || vec![(0..40).map(|size| Bytes::from(vec![size; usize::from(size) * 100])).collect(); 2];
            let peers = [one.open().await, one.open().await, other.open().await]
                .map(|stream| peer(shape.mode(), stream.unwrap(), batches()));
            let [a, b, c] = peers;
            let all = async { tokio::join!(a, b, c) };
            assert!(timeout(LONG, all).await.is_ok(), "{shape:?} with {messages} messages and {bytes} bytes");
        }
    }
}

/// Two batches whose messages arrive in turns, ended only when both are there: neither waits for the other.
#[tokio::test]
async fn two_batches_that_arrive_in_turns() {
    for shape in [Shape::Batch, Shape::UnaryInBatches] {
        for (messages, bytes) in [(1, MUCH), (MUCH, 1), (1, 1)] {
            let client = serve(Server::new(shape.service()).max_in_flight(messages).max_in_flight_bytes(bytes)).await;
            let mut streams = [client.open().await.unwrap(), client.open().await.unwrap()];
            let values: Vec<_> = (0..10_u8).map(|value| Bytes::from(vec![value; 500])).collect();
            for (id, value) in values.iter().enumerate() {
                for stream in &mut streams {
                    stream.send(id.to_string(), MapRequest::new(value.clone())).await.unwrap();
                }
            }
            for stream in &mut streams {
                stream.send_eot().await.unwrap();
            }
            for stream in streams {
                let named = values.iter().enumerate().map(|(id, value)| (id.to_string(), value.clone()));
                let (_sender, mut receiver) = stream.split();
                within(LONG, receive(MapMode::Batch, &mut receiver, named.collect())).await;
            }
        }
    }
}

/// More than all windows hold. It stands still, bounded, and goes on when it is read.
#[tokio::test]
async fn a_peer_that_sends_all_before_it_reads() {
    for shape in SHAPES {
        let client = serve(Server::new(shape.service()).max_in_flight(1).max_in_flight_bytes(1)).await;
        let (mut sender, mut receiver) = client.open().await.unwrap().split();
        let value = Bytes::from(vec![1; 64 << 10]);
        let (stands, stood) = oneshot::channel();
        let sending = async {
            let mut stands = Some(stands);
            // 32 MiB: the peer's windows are 2 and 5, ours 1 and 16.
            for id in 0..512 {
                let mut send = pin!(sender.send(id.to_string(), MapRequest::new(value.clone())));
                // Nothing tells that a peer stands still but that nothing happens.
                if timeout(STILL, &mut send).await.is_err() {
                    if let Some(stands) = stands.take() {
                        stands.send(id).unwrap();
                    }
                    send.await.unwrap();
                }
            }
            if shape.mode() == MapMode::Batch {
                sender.send_eot().await.unwrap();
            }
            // A batch map answers nothing before it has all of it, and is bounded by a limit of its own.
            if let Some(stands) = stands.take() {
                stands.send(512).unwrap();
            }
        };
        let receiving = async {
            let sent = stood.await.unwrap();
            assert_eq!(sent < 512, shape != Shape::Batch, "{shape:?} took {sent} messages");
            let expected = (0..512).map(|id| (id.to_string(), value.clone())).collect();
            receive(shape.mode(), &mut receiver, expected).await;
        };
        within(LONG, async { tokio::join!(sending, receiving) }).await;
        sender.close();
        assert_eq!(receiver.recv().await.unwrap(), None);
    }
}

#[derive(Debug, Clone)]
struct Scenario {
    shape: Shape,
    max_messages: usize,
    max_bytes: usize,
    /// The batches of each stream.
    streams: Vec<Vec<Vec<Bytes>>>,
    one_connection: bool,
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let value = (any::<u8>(), prop_oneof![4 => 0..100_usize, 1 => 0..70_000_usize])
        .prop_map(|(byte, length)| Bytes::from(vec![byte; length]));
    let streams = vec(vec(vec(value, 1..20), 1..4), 1..5);
    let max_messages = prop_oneof![3 => 1..5_usize, 1 => Just(MUCH)];
    let max_bytes = prop_oneof![Just(1), 1..2000_usize, 1..100_000_usize, Just(MUCH)];
    (select(&SHAPES[..]), max_messages, max_bytes, streams, any::<bool>()).prop_map(
        |(shape, max_messages, max_bytes, streams, one_connection)| Scenario {
            shape,
            max_messages,
            max_bytes,
            streams,
            one_connection,
        },
    )
}

/// Whatever the limits, the mode, the sizes and who waits: everything is answered once, and ends where it should.
#[test]
fn everything_is_answered_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[4; 32]);
    let config = Config { cases: 100, failure_persistence: None, max_shrink_iters: 20, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&scenario(), |scenario| {
            runtime.block_on(async {
                let Scenario { shape, max_messages, max_bytes, streams, one_connection } = scenario;
                let server = Server::new(shape.service()).max_in_flight(max_messages).max_in_flight_bytes(max_bytes);
                let server = OnSocket::start(server);
                let client = server.map_client().await;
                let mut peers = JoinSet::new();
                for batches in streams {
                    let client = if one_connection { client.clone() } else { server.map_client().await };
                    let stream = client.open().await.unwrap();
                    peers.spawn(peer(shape.mode(), stream, batches));
                }
                within(LONG / 2, peers.join_all()).await;
            });
            Ok(())
        })
        .unwrap();
}
