//! `NUMAFLOW_RUNTIME`: another program in the place of ours, on the same socket.

use std::process::{Child, Command};
use std::time::Duration;

use numaflow_sdk::source::ReadRequest;
use numaflow_sdk::testing::{ServerInfo, SourceClient};
use rdkafka::mocking::MockCluster;
use tempfile::TempDir;

use crate::harness::{TOPIC, file, fill, run};

/// Killed when a test fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_runtime_serves_in_the_place_of_ours() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 5);
    let directory = TempDir::new().unwrap();
    let (socket, info) = (directory.path().join("s"), directory.path().join("i"));
    // A source of its own making, to whoever starts it: ours could not run with what is configured beside it.
    let twin = [
        "env",
        "NUMAFLOW_RUNTIME=rust",
        env!("CARGO_BIN_EXE_udf-server"),
        "kafka-source",
        "--brokers",
        &brokers,
        "--topics",
        TOPIC,
        "--group",
        "twin",
        "--property",
        "session.timeout.ms=4000",
        "--socket",
        socket.to_str().unwrap(),
        "--server-info",
        info.to_str().unwrap(),
    ];
    let command = serde_json::to_string(&twin).unwrap();
    let config = file(&format!("brokers: 127.0.0.1:1\ntopics: nothing\nruntimes:\n  twin: {command}\n"));
    let mut source = Process(
        Command::new(env!("CARGO_BIN_EXE_udf-server"))
            .arg("kafka-source")
            .arg("--config")
            .arg(config.path())
            .env("NUMAFLOW_RUNTIME", "twin")
            .spawn()
            .unwrap(),
    );

    // As the platform does, which knows nothing of runtimes.
    let waiting = tokio::time::timeout(Duration::from_secs(30), ServerInfo::wait(&info));
    waiting.await.unwrap().unwrap();
    let client = SourceClient::connect(&socket).await.unwrap();
    assert!(client.is_ready().await.unwrap());
    let mut reads = client.read_stream().await.unwrap();
    let mut acks = client.ack_stream().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    let mut read = 0;
    while read < 5 {
        assert!(tokio::time::Instant::now() < deadline, "{read} of 5 messages came");
        let messages = reads.read(ReadRequest::new(5, Duration::from_millis(500))).await.unwrap();
        acks.ack(messages.iter().map(|message| message.offset().clone()).collect()).await.unwrap();
        read += messages.len();
    }
    drop((reads, acks, client));

    // It has the process to itself, so a signal to the container is a signal to it.
    let pid = source.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(source.0.wait().unwrap().code(), Some(0));
    assert!(!socket.exists() && !info.exists());
}

#[test]
fn an_unknown_runtime_is_refused_with_those_known() {
    let config = file("runtimes: {java: [java], go: [go]}\n");
    let said = run(&["kafka-source", "--config", config.path().to_str().unwrap()], &[("NUMAFLOW_RUNTIME", "haskell")]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(
        said.err.contains("NUMAFLOW_RUNTIME is \"haskell\"") && said.err.contains("known: rust, go, java"),
        "{said:?}"
    );
}
