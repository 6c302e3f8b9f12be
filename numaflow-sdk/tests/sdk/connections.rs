//! What a connection may do and what it is told.

use std::time::Duration;

use numaflow_sdk::{MapRequest, Server, map};

use crate::admin::{metric, serve};
use crate::raw_http2::{ACK, HEADERS, RST_STREAM, RawPeer, SETTINGS, frame};
use crate::support::within;

const LONG: Duration = Duration::from_secs(120);
const IS_READY: &str = "/map.v1.Map/IsReady";
/// `SETTINGS_MAX_CONCURRENT_STREAMS`.
const STREAMS_SETTING: u16 = 3;
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

fn server() -> Server<map::MapService> {
    Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message()))))
}

/// What gRPC libraries call a server on a Unix socket by. HTTP/2 accepts hosts only, and decides before anything of ours:
/// a name that it refuses is counted, and the connection goes on.
#[tokio::test]
async fn a_refused_authority_is_counted() {
    let (directory, admin, _client) = serve(server()).await;
    let mut peer = RawPeer::connect(&directory.path().join("s")).await;
    let accepted = [Some("localhost"), Some("[::1]:50051"), Some("a_b"), None];
    let refused = [Some("%2Fvar%2Frun%2Fnumaflow%2Fmap.sock"), Some("/var/run/numaflow/map.sock"), Some("")];
    let mut stream = 1;
    let mut count = 0.0;
    for authority in accepted.into_iter().chain(refused).chain(accepted) {
        let end = within(LONG, peer.call(stream, IS_READY, authority)).await;
        stream += 2;
        if refused.contains(&authority) {
            count += 1.0;
            assert_eq!((end.kind, &end.payload[..]), (RST_STREAM, &PROTOCOL_ERROR[..]), "{authority:?}: {end:?}");
        } else {
            assert_eq!(end.kind, HEADERS, "{authority:?}: {end:?}");
        }
        assert_eq!(metric(admin, "numaflow_udf_requests_refused_total").await, count, "{authority:?}");
    }
}

#[tokio::test]
async fn streams_have_a_limit_that_the_peer_is_told() {
    let (directory, _admin, client) = serve(server()).await;
    let mut peer = RawPeer::connect(&directory.path().join("s")).await;
    let settings = within(LONG, peer.receive()).await;
    assert_eq!(settings.kind, SETTINGS);
    let (entries, _) = settings.payload.as_chunks::<6>();
    let limit = entries.iter().find(|entry| u16::from_be_bytes([entry[0], entry[1]]) == STREAMS_SETTING);
    let limit = limit.map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]));
    assert_eq!(limit, Some(1024));
    // As many work at a time.
    let mut streams = Vec::new();
    for _ in 0..1024 {
        streams.push(within(LONG, client.open()).await.unwrap());
    }
    for stream in &mut streams {
        assert_eq!(within(LONG, stream.map(MapRequest::new("x"))).await.unwrap()[0].value(), "x");
    }
}

/// Each change of the window is applied to every stream: settings take a thousand times as long to handle as to send. Others
/// get their turn in between; everything here shares one thread.
#[tokio::test]
async fn a_flood_of_settings_keeps_no_other_connection_waiting() {
    let (directory, _admin, client) = serve(server()).await;
    let mut peer = RawPeer::connect(&directory.path().join("s")).await;
    for stream in 0..1000 {
        peer.open(2 * stream + 1, "/map.v1.Map/MapFn", Some("localhost")).await;
    }
    let mut opened = 0;
    while opened < 1000 {
        opened += usize::from(within(LONG, peer.receive()).await.kind == HEADERS);
    }
    let window = |size: u32| frame(SETTINGS, 0, 0, &[&4_u16.to_be_bytes()[..], &size.to_be_bytes()].concat());
    let flood = peer.flood(&[window(1 << 16), window(1 << 20)].concat());
    assert!(flood > 1000, "{flood} pairs of changes");
    assert!(within(LONG, client.is_ready()).await.unwrap());
    let rest = peer.rest();
    let acks = rest.chunks(9).filter(|frame| frame[3] == SETTINGS && frame[4] == ACK).count();
    assert!(acks < flood, "answered after all {flood} pairs of changes");
}
