//! Calls of sources. Whatever is sent, the process takes no more than the bytes that may be in flight and 64 MiB, and goes on
//! answering others.

use bytes::{Bytes, BytesMut};
use numaflow_sdk::source::{Batch, NackOffset, Offset, ReadRequest, Sourcer, service};
use numaflow_sdk::testing::SourceClient;
use numaflow_sdk::{HandlerError, Server};
use tokio::time::timeout;

use super::peer::{self, field, frame};
use super::{BESIDES, IN_FLIGHT, LONG, MIB, Measured, serve};

/// `source.v1.AckRequest { handshake: { sot: true } }`.
const HANDSHAKE: &[u8] = &[0x12, 2, 8, 1];

/// Takes note of everything and keeps nothing.
struct Done;

impl Sourcer for Done {
    async fn read(&self, _: ReadRequest, _: &mut Batch) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        Ok(Some(7))
    }
}

#[test]
fn served_to_the_others() {
    serve(|| Server::new(service(Done)));
}

/// Makes a call of the source, and returns the number of its status.
async fn call(measured: &Measured, method: &str, body: Bytes) -> String {
    peer::call(measured.socket(), &format!("source.v1.Source/{method}"), body).await
}

/// Makes the calls and sees that others are answered meanwhile, and that memory stays within its bounds.
async fn bounded(attack: impl AsyncFnOnce(&Measured)) {
    let measured = Measured::start("source::served_to_the_others").await;
    let client = SourceClient::connect(measured.socket()).await.unwrap();
    let before = measured.memory("VmRSS");
    let others = async {
        loop {
            timeout(LONG, others_are_answered(&client)).await.unwrap();
        }
    };
    tokio::select! {
        attacked = timeout(LONG, attack(&measured)) => attacked.unwrap(),
        () = others => {}
    }
    timeout(LONG, others_are_answered(&client)).await.unwrap();
    let grown = measured.memory("VmHWM").saturating_sub(before);
    assert!(grown < IN_FLIGHT + BESIDES, "{} MiB", grown / MIB);
}

async fn others_are_answered(client: &SourceClient) {
    assert!(client.is_ready().await.unwrap());
    assert_eq!(client.pending().await.unwrap(), Some(7));
    client.ack_stream().await.unwrap().ack(vec![Offset::new("1", 0)]).await.unwrap();
}

/// Options that are as long as all offsets together: as many copies as there are offsets would be 340 MiB.
#[tokio::test]
async fn a_nack_of_many_offsets_with_long_options() {
    const OFFSETS: usize = 13_000;
    bounded(async |measured| {
        let options = field(2, &field(1, &[b'x'; 2 * OFFSETS]));
        let request = field(1, &[[0x0a, 0].repeat(OFFSETS), options].concat());
        assert_eq!(call(measured, "NackFn", frame(request.len(), &request).freeze()).await, "0");
    })
    .await;
}

/// Offsets of two bytes each, which would take twenty times as much in memory.
#[tokio::test]
async fn an_ack_of_very_short_offsets() {
    let offsets = std::env::var("MEMORY_TEST_OFFSETS").map_or(8 << 20, |text| text.parse().unwrap());
    bounded(async |measured| {
        let request = field(1, &[0x0a, 0].repeat(offsets));
        let mut body = frame(HANDSHAKE.len(), HANDSHAKE);
        body.unsplit(frame(request.len(), &request));
        assert_eq!(call(measured, "AckFn", body.freeze()).await, "0");
    })
    .await;
}

/// The same as nacks, each with options of its own.
#[tokio::test]
async fn a_nack_of_very_many_elements() {
    bounded(async |measured| {
        let request = field(1, &[0x0a, 0, 0x12, 2, 0x10, 1]).repeat(2 << 20);
        assert_eq!(call(measured, "NackFn", frame(request.len(), &request).freeze()).await, "0");
    })
    .await;
}

/// Twenty requests of 60 MiB for what needs none.
#[tokio::test]
async fn questions_with_large_bodies() {
    const LENGTH: usize = 60 * MIB;
    bounded(async |measured| {
        let body = frame(LENGTH, &vec![0; LENGTH]).freeze();
        for method in ["IsReady", "PendingFn", "PartitionsFn"] {
            let calls = (0..20).map(|_| call(measured, method, body.clone()));
            for status in futures_util::future::join_all(calls).await {
                assert_eq!(status, "8", "{method}");
            }
        }
    })
    .await;
}

/// Twenty acks and twenty nacks of 20 MiB that lack their last byte.
#[tokio::test]
async fn calls_that_are_never_whole() {
    const LENGTH: usize = 20 * MIB;
    for (method, before) in [("AckFn", frame(HANDSHAKE.len(), HANDSHAKE)), ("NackFn", BytesMut::new())] {
        bounded(async |measured| {
            let mut body = before;
            body.unsplit(frame(LENGTH, &vec![0; LENGTH - 1]));
            let body = body.freeze();
            let calls = (0..20).map(|_| call(measured, method, body.clone()));
            // Those that are received tell that they were cut short; the others wait for room, behind them.
            for status in futures_util::future::join_all(calls).await {
                assert_eq!(status, "3", "{method}");
            }
        })
        .await;
    }
}
