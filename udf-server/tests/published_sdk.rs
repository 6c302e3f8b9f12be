//! `drive` against a map built with the published SDK. A test binary of its own, because that SDK replaces the panic hook of
//! the process, and the messages of tests that fail with it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use numaflow::batchmap::{self, BatchMapper, BatchResponse};
use numaflow::map::{MapRequest, Mapper, Message, Server};
use numaflow::shared::ServerExtras;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

/// Turns `n` into `2n`, and drops every seventh.
struct Double;

impl Mapper for Double {
    // What the `async_trait` macro makes of `async fn map`.
    fn map<'a, 'b>(&'a self, input: MapRequest) -> Pin<Box<dyn Future<Output = Vec<Message>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let number: u64 = String::from_utf8(input.value).unwrap().parse().unwrap();
            match number % 7 {
                0 => vec![Message::message_to_drop()],
                _ => vec![Message::new((2 * number).to_string().into_bytes()).with_keys(input.keys)],
            }
        })
    }
}

#[tokio::test]
async fn a_map_of_the_published_sdk_maps_every_record() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (stop, stopped) = oneshot::channel();
    let server = Server::new(Double).with_socket_file(path("s.sock")).with_server_info_file(path("info"));
    let lines: String = (1..=2100).map(|number| format!("{number}\n")).collect();
    std::fs::write(path("in"), lines).unwrap();

    let serve = async { server.start_with_shutdown(stopped).await.unwrap() };
    let drive = async {
        let report = drive(directory.path()).await;
        stop.send(()).unwrap();
        report
    };
    let ((), report) = tokio::join!(serve, drive);

    let counts = ["read", "mapped", "dropped", "acked"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [2100, 1800, 300, 2100]);
    let expected: String =
        (1..=2100).filter(|number| number % 7 != 0).map(|number| format!("{}\n", 2 * number)).collect();
    assert_eq!(std::fs::read_to_string(path("out")).unwrap(), expected);
}

/// Answers a batch but for its last message the first time, as that SDK lets a handler do.
struct Skips {
    batches: AtomicU32,
}

impl BatchMapper for Skips {
    fn batchmap<'a, 'b>(
        &'a self,
        mut input: mpsc::Receiver<batchmap::Datum>,
    ) -> Pin<Box<dyn Future<Output = Vec<BatchResponse>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let mut responses = Vec::new();
            while let Some(datum) = input.recv().await {
                let mut response = BatchResponse::from_id(datum.id);
                response.append(batchmap::Message::new(datum.value));
                responses.push(response);
            }
            // It is called once more, for the batch that may follow.
            if !responses.is_empty() && self.batches.fetch_add(1, Ordering::SeqCst) == 0 {
                responses.pop();
            }
            responses
        })
    }
}

#[tokio::test]
async fn a_batch_with_a_hole_is_sent_again() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (stop, stopped) = oneshot::channel();
    let map = Skips { batches: AtomicU32::new(0) };
    let server = batchmap::Server::new(map).with_socket_file(path("s.sock")).with_server_info_file(path("info"));
    std::fs::write(path("in"), "1\n2\n3\n").unwrap();
    let serve = async { server.start_with_shutdown(stopped).await.unwrap() };
    let drive = async {
        let report = drive(directory.path()).await;
        stop.send(()).unwrap();
        report
    };
    let ((), report) = tokio::join!(serve, drive);
    let counts = ["mapped", "acked", "redriven", "map_reconnects"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [3, 3, 3, 1]);
    assert_eq!(std::fs::read_to_string(path("out")).unwrap(), "1\n2\n3\n");
}

/// Runs the command, as a user would, and returns its summary.
async fn drive(directory: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_udf-server"))
        .current_dir(directory)
        .args(["drive", "--source", "in", "--map", "s.sock", "--map-info", "info", "--out", "out", "--json"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
