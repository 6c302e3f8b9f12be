//! Peers that do what none should: the worst that comes of it is a status on their stream. Streams that were open before,
//! on the same connection and on others, do not notice.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use numaflow_sdk::testing::{MapClient, MapStream};
use numaflow_sdk::{MapRequest, Server, map};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::raw::{RawCall, RawConnection, frame};
use crate::support::{OnSocket, within};

const MAP_FN: &str = "/map.v1.Map/MapFn";
/// `MapRequest { handshake: Handshake { sot: true } }`, and the answer to it.
const HANDSHAKE: &[u8] = &[0x1a, 2, 8, 1];
/// `MapRequest { id: "1", request: Request { value: "x" } }`, and what a map that passes everything on answers to it.
const MESSAGE: &[u8] = &[0x12, 1, b'1', 0x0a, 3, 0x12, 1, b'x'];
const LIMIT: usize = 1 << 20;
/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// A server under attack, and those who use it meanwhile.
struct Scene {
    server: OnSocket,
    /// What the attacks go over.
    connection: RawConnection,
    /// A stream on the same connection, opened before.
    neighbour: RawCall,
    /// A stream on another connection, opened before.
    stream: MapStream,
    client: MapClient,
}

impl Scene {
    /// A map that passes everything on, every other message after it has waited.
    async fn start() -> Self {
        let mapper = map::from_fn(async |request: MapRequest| {
            if request.value().first().is_some_and(|byte| byte % 2 == 1) {
                tokio::task::yield_now().await;
            }
            Ok(request.into_message())
        });
        Self::of(Server::new(map::service(mapper)).max_message_size(LIMIT)).await
    }

    async fn of(server: Server<map::MapService>) -> Self {
        let server = OnSocket::start(server);
        let connected = async {
            let client = server.map_client().await;
            let stream = client.open().await.unwrap();
            let connection = RawConnection::over(UnixStream::connect(server.socket()).await.unwrap()).await;
            let neighbour = open(&connection).await;
            (client, stream, connection, neighbour)
        };
        let (client, stream, connection, neighbour) = within(LONG, connected).await;
        Self { server, connection, neighbour, stream, client }
    }

    async fn others_are_served(&mut self) {
        self.other_connections_are_served().await;
        let served = async {
            self.neighbour.send(MESSAGE).await;
            assert_eq!(self.neighbour.recv().await, MESSAGE);
        };
        within(LONG, served).await;
    }

    async fn other_connections_are_served(&mut self) {
        let served = async {
            assert!(self.client.is_ready().await.unwrap());
            assert_eq!(self.stream.map(MapRequest::new("still here")).await.unwrap()[0].value(), "still here");
            assert!(self.server.map_client().await.is_ready().await.unwrap());
        };
        within(LONG, served).await;
    }
}

/// Opens a stream and does the handshake.
async fn open(connection: &RawConnection) -> RawCall {
    let opened = async {
        let mut call = connection.call(MAP_FN).await;
        call.send(HANDSHAKE).await;
        assert_eq!(call.recv().await, HANDSHAKE);
        call
    };
    within(LONG, opened).await
}

/// A frame's five-byte head, whatever follows.
fn head(flag: u8, length: u32) -> Bytes {
    let mut head = BytesMut::new();
    head.put_u8(flag);
    head.put_u32(length);
    head.freeze()
}

/// None of them half-closes: a peer that is told off may go on sending for ever, and its stream must end all the same.
#[tokio::test]
async fn a_bad_frame_ends_its_stream_with_a_status_and_nothing_else() {
    let mut scene = Scene::start().await;
    let too_long = u32::try_from(LIMIT + 1).unwrap();
    let (invalid_argument, resource_exhausted, unimplemented) = ("3", "8", "12");
    let attacks: [(&str, Vec<Bytes>, &str); 12] = [
        ("no handshake", vec![frame(MESSAGE)], invalid_argument),
        ("an empty message for a handshake", vec![frame(b"")], invalid_argument),
        ("sot = false", vec![frame(&[0x1a, 2, 8, 0])], invalid_argument),
        ("no request", vec![frame(HANDSHAKE), frame(&[0x12, 1, b'1'])], invalid_argument),
        ("no protobuf", vec![frame(HANDSHAKE), frame(&[0xff; 64])], invalid_argument),
        (
            "a field longer than its message",
            vec![frame(HANDSHAKE), frame(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])],
            invalid_argument,
        ),
        ("an id that is not UTF-8", vec![frame(HANDSHAKE), frame(&[0x0a, 0, 0x12, 1, 0xff])], invalid_argument),
        ("groups without end", vec![frame(HANDSHAKE), frame(&[0x4b; 100_000])], invalid_argument),
        ("above the limit", vec![frame(HANDSHAKE), head(0, too_long)], resource_exhausted),
        ("four gigabytes", vec![frame(HANDSHAKE), head(0, u32::MAX)], resource_exhausted),
        ("compressed", vec![frame(HANDSHAKE), head(1, 8), frame(MESSAGE)], unimplemented),
        ("no such flag", vec![frame(HANDSHAKE), head(7, 8), frame(MESSAGE)], invalid_argument),
    ];
    for (what, frames, expected) in attacks {
        let call = within(LONG, scene.connection.call(MAP_FN)).await;
        for frame in frames {
            call.try_send_bytes(frame).await;
        }
        let (_, status) = within(LONG, call.finish()).await;
        assert_eq!(status, expected, "{what}");
        scene.others_are_served().await;
    }
}

#[tokio::test]
async fn a_second_handshake_in_the_middle_and_the_same_id_twice_at_once() {
    let (started, mut starts) = mpsc::channel(3);
    let go = Arc::new(Semaphore::new(0));
    let gate = go.clone();
    let mapper = map::from_fn(move |request: MapRequest| {
        let (started, go) = (started.clone(), gate.clone());
        async move {
            if request.value() == "x" {
                started.send(()).await?;
                go.acquire().await?.forget();
            }
            Ok(request.into_message())
        }
    });
    let mut scene = Scene::of(Server::new(map::service(mapper))).await;
    let mut call = open(&scene.connection).await;
    call.send(MESSAGE).await;
    call.send(HANDSHAKE).await;
    call.send(MESSAGE).await;
    // Both are in their handlers.
    within(LONG, async { (starts.recv().await, starts.recv().await) }).await;
    scene.other_connections_are_served().await;
    go.add_permits(2);
    for _ in 0..2 {
        assert_eq!(within(LONG, call.recv()).await, MESSAGE);
    }
    call.close();
    assert_eq!(within(LONG, call.finish()).await, (Bytes::new(), "0".to_owned()), "two answers and no more");
    go.add_permits(1);
    scene.others_are_served().await;
}

/// What was sent before the message that is too long is answered.
#[tokio::test]
async fn a_value_above_the_limit_comes_after_others() {
    let mut scene = Scene::start().await;
    let mut call = open(&scene.connection).await;
    call.send(MESSAGE).await;
    assert_eq!(call.recv().await, MESSAGE);
    // As much as is allowed, its own head, the value's and the id's included.
    let mut largest = BytesMut::from(&MESSAGE[..3]);
    let value = LIMIT - 2 * 4 - 3;
    for (key, length) in [(0x0a, value + 4), (0x12, value)] {
        largest.put_u8(key);
        let [a, b, c] = [length & 0x7f | 0x80, length >> 7 & 0x7f | 0x80, length >> 14];
        largest.extend([a, b, c].map(|byte| u8::try_from(byte).unwrap()));
    }
    largest.put_bytes(b'x', value);
    assert_eq!(largest.len(), LIMIT);
    call.send(&largest).await;
    assert!(within(LONG, call.recv()).await == largest);
    largest.put_slice(&[0x40, 0]);
    call.try_send_bytes(frame(&largest)).await;
    assert_eq!(within(LONG, call.finish()).await.1, "8");
    scene.others_are_served().await;
}

/// Ids that no sane peer makes: 10 KiB long, a thousand times, all of them different.
#[tokio::test]
async fn a_thousand_long_ids() {
    let mut scene = Scene::start().await;
    for index in 0..1000 {
        let id = format!("{index:05}-{}", "ü".repeat(5 << 10));
        scene.stream.send(id.clone(), MapRequest::new("x")).await.unwrap();
        assert_eq!(scene.stream.recv().await.unwrap().unwrap().id, id);
    }
    scene.others_are_served().await;
}

/// Inside a message's head, right behind it, and inside the message.
#[tokio::test]
async fn a_stream_reset_or_closed_in_mid_message() {
    let mut scene = Scene::start().await;
    let message = frame(MESSAGE);
    for cut in 1..message.len() {
        let call = open(&scene.connection).await;
        call.send(MESSAGE).await;
        call.send_bytes(message.slice(..cut)).await;
        call.reset().await;

        let mut call = open(&scene.connection).await;
        call.send_bytes(message.slice(..cut)).await;
        call.close();
        let (data, status) = within(LONG, call.finish()).await;
        assert!(data.is_empty());
        assert_ne!(status, "0", "{cut} bytes of a message are no end of a stream");
        scene.others_are_served().await;
    }
}

/// A thousand streams at once, each with a message that is answered and one that is announced and never comes.
#[tokio::test]
async fn a_thousand_streams_that_are_never_closed() {
    let mut scene = Scene::start().await;
    let mut calls = Vec::new();
    for _ in 0..1000 {
        calls.push(open(&scene.connection).await);
    }
    for call in &mut calls {
        call.send(MESSAGE).await;
        call.send_bytes(head(0, u32::try_from(LIMIT).unwrap())).await;
        call.send_bytes(Bytes::from_static(b"and no more")).await;
    }
    for call in &mut calls {
        assert_eq!(within(LONG, call.recv()).await, MESSAGE);
    }
    scene.others_are_served().await;
    for call in calls {
        call.reset().await;
    }
    scene.others_are_served().await;
}

/// The start of an HTTP/2 connection: the preface and settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingping";
const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0pingping";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A peer that pings as fast as it can and reads the answers gets them all; the others get theirs in between.
#[tokio::test]
async fn a_flood_of_pings() {
    const PINGS: usize = 20_000;
    let mut scene = Scene::start().await;
    let (mut reader, mut writer) = UnixStream::connect(scene.server.socket()).await.unwrap().into_split();
    let flood = async {
        writer.write_all(PREFACE).await.unwrap();
        for _ in 0..PINGS / 100 {
            writer.write_all(&PING.repeat(100)).await.unwrap();
        }
    };
    let answers = async {
        let (mut pongs, mut received) = (0, Vec::new());
        while pongs < PINGS {
            assert_ne!(reader.read_buf(&mut received).await.unwrap(), 0, "closed after {pongs} answers");
            while let Some((&[_, _, length, kind, ..], _)) = received.split_first_chunk::<9>() {
                let end = 9 + usize::from(length);
                if received.len() < end {
                    break;
                }
                if kind == PONG[3] && received[4] == PONG[4] {
                    assert_eq!(&received[..end], PONG);
                    pongs += 1;
                }
                received.drain(..end);
            }
        }
    };
    let others = async {
        for _ in 0..20 {
            scene.others_are_served().await;
        }
    };
    within(LONG, Box::pin(async { tokio::join!(flood, answers, others) })).await;
}

/// A peer that never reads what it is answered is not read either, after a while; the others don't notice.
#[tokio::test]
async fn floods_whose_answers_nobody_reads() {
    for attack in [PING, SETTINGS] {
        let mut scene = Scene::start().await;
        let mut io = UnixStream::connect(scene.server.socket()).await.unwrap();
        io.write_all(PREFACE).await.unwrap();
        let flood = attack.repeat(1000);
        let flood = async { while io.write_all(&flood).await.is_ok() {} };
        let others = async {
            for _ in 0..50 {
                scene.others_are_served().await;
            }
        };
        // The flood may end, if the server closes the connection; the others must come to their end.
        within(LONG, Box::pin(until_first(others, flood))).await;
    }
}

/// Runs both until the first is ready.
async fn until_first(first: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let mut first = std::pin::pin!(first);
    tokio::select! {
        () = &mut first => return,
        () = other => {}
    }
    first.await;
}

/// Streams that are opened and reset as fast as can be. The connection may be ended for it, and no other.
#[tokio::test]
async fn streams_opened_and_reset_at_once() {
    let mut scene = Scene::start().await;
    let mut io = UnixStream::connect(scene.server.socket()).await.unwrap();
    io.write_all(PREFACE).await.unwrap();
    let mut flood = Vec::new();
    for stream in (1_u32..4001).step_by(2) {
        // `:method POST`, `:scheme http`, `:path /`, and CANCEL right behind.
        for (kind, flags, payload) in [(1, 4, &[0x83, 0x86, 0x84][..]), (3, 0, &[0, 0, 0, 8])] {
            flood.extend_from_slice(&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags]);
            flood.extend_from_slice(&stream.to_be_bytes());
            flood.extend_from_slice(payload);
        }
    }
    // Refused halfway when the server has had enough.
    drop(io.write_all(&flood).await);
    scene.others_are_served().await;
}

#[tokio::test]
async fn what_is_not_http2() {
    let mut scene = Scene::start().await;
    for noise in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0; 1000], &[0xff; 100_000], &PREFACE[..20]] {
        let mut io = UnixStream::connect(scene.server.socket()).await.unwrap();
        drop(io.write_all(noise).await);
        drop(io.shutdown().await);
        // Whatever is said is said before the connection is closed, by the server too.
        within(LONG, io.read_to_end(&mut Vec::new())).await.ok();
        scene.others_are_served().await;
    }
}

/// What a peer sends on one stream, and how it leaves.
#[derive(Debug, Clone)]
struct Attack {
    shakes_hands: bool,
    chunks: Vec<Vec<u8>>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// Half-closes and reads to the end.
    Close,
    Reset,
    /// Drops the stream without a word.
    Leave,
}

/// A frame that is right, or was before it was changed, or never.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let message = (vec(any::<u8>(), 0..40), "[a-z]{1,50}").prop_map(|(value, id)| {
        let mut message = vec![0x0a, u8::try_from(value.len() + 2).unwrap(), 0x12, u8::try_from(value.len()).unwrap()];
        message.extend_from_slice(&value);
        message.extend_from_slice(&[0x12, u8::try_from(id.len()).unwrap()]);
        message.extend_from_slice(id.as_bytes());
        frame(&message).to_vec()
    });
    let known = proptest::sample::select(vec![HANDSHAKE, &[0x22, 2, 8, 1], &[0x0a, 0], b""]);
    let changes = vec((any::<Index>(), any::<u8>()), 1..4);
    prop_oneof![
        4 => message.clone(),
        1 => known.prop_map(|message| frame(message).to_vec()),
        2 => (message, changes).prop_map(|(mut message, changes)| {
            for (at, byte) in changes {
                let at = at.index(message.len());
                message[at] = byte;
            }
            message
        }),
        1 => vec(any::<u8>(), 0..64).prop_map(|noise| frame(&noise).to_vec()),
        1 => vec(any::<u8>(), 0..64),
        1 => any::<u32>().prop_map(|length| head(0, length).to_vec()),
    ]
}

fn attack() -> impl Strategy<Value = Attack> {
    let end = prop_oneof![3 => Just(End::Close), 1 => Just(End::Reset), 1 => Just(End::Leave)];
    (prop::bool::weighted(0.9), vec(piece(), 0..12), vec(any::<Index>(), 0..6), end).prop_map(
        |(shakes_hands, pieces, cuts, end)| {
            let mut rest = pieces.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rest.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks: Vec<Vec<u8>> = cuts.into_iter().rev().map(|cut| rest.split_off(cut)).collect();
            chunks.push(rest);
            chunks.reverse();
            Attack { shakes_hands, chunks, end }
        },
    )
}

/// Frames as chance makes them, all on one connection of one server, so that harm would add up.
#[test]
fn random_and_broken_frames() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scene = Mutex::new(runtime.block_on(Scene::start()));
    let config = ProptestConfig { cases: 300, source_file: Some(file!()), ..ProptestConfig::default() };
    // A failure is told with the smallest attack that still fails, and with its seed.
    TestRunner::new(config)
        .run(&attack(), |attack| {
            runtime.block_on(async {
                let mut scene = scene.lock().await;
                let mut call = within(LONG, scene.connection.call(MAP_FN)).await;
                if attack.shakes_hands {
                    call.send(HANDSHAKE).await;
                }
                for chunk in attack.chunks {
                    if !call.try_send_bytes(chunk.into()).await {
                        break;
                    }
                }
                match attack.end {
                    End::Close => {
                        call.close();
                        within(LONG, call.finish()).await;
                    }
                    End::Reset => call.reset().await,
                    End::Leave => drop(call),
                }
                scene.others_are_served().await;
            });
            Ok(())
        })
        .unwrap();
}
