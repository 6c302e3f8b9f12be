//! Batches of maps.

use futures_util::future::join_all;
use numaflow_sdk::map::{self, BatchAnswers};
use numaflow_sdk::{MapRequest, Server};
use tokio::time::timeout;

use super::peer::{call, field, frame};
use super::{BESIDES, LONG, MIB, Measured, serve};

/// What all batches may have.
const COLLECTED: usize = 64 * MIB;

#[test]
fn served_to_the_others() {
    let mapper = map::batch_from_fn(async |_: Vec<MapRequest>| Ok(BatchAnswers::new()));
    serve(|| Server::new(map::batch_service(mapper).max_batch_bytes(COLLECTED)));
}

/// Twenty batches, each with a small message and one of 60 MiB that lacks its last byte.
#[tokio::test]
async fn batches_whose_last_message_is_never_whole() {
    const LENGTH: usize = 60 * MIB;
    let measured = Measured::start("batch::served_to_the_others").await;
    let before = measured.memory("VmRSS");
    let handshake = field(3, &[8, 1]);
    let small = [field(1, &field(2, b"x")), field(2, b"1")].concat();
    let mut body = frame(handshake.len(), &handshake);
    body.unsplit(frame(small.len(), &small));
    body.unsplit(frame(LENGTH, &vec![0; LENGTH - 1]));
    let body = body.freeze();
    let calls = (0..20).map(|_| call(measured.socket(), "map.v1.Map/MapFn", body.clone()));
    let statuses = timeout(LONG, join_all(calls)).await.unwrap();
    // Refused as too large, or as far as there is room told that it was cut short.
    assert!(statuses.iter().all(|status| status == "8" || status == "3"), "{statuses:?}");
    let grown = measured.memory("VmHWM").saturating_sub(before);
    assert!(grown < COLLECTED + BESIDES, "{} MiB, {statuses:?}", grown / MIB);
}
