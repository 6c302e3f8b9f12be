//! Servers as the platform runs them: processes of their own, stopped by signals with streams still open.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use numaflow_sdk::source::ReadRequest;
use numaflow_sdk::testing::{MapClient, ServerInfo, SourceClient};
use numaflow_sdk::{MapMode, MapRequest};
use rdkafka::mocking::MockCluster;
use tempfile::TempDir;

const DRAIN: Duration = Duration::from_secs(1);
const KAFKA: [&str; 7] = ["kafka-source", "--brokers", "127.0.0.1:1", "--topics", "t", "--group", "g"];

fn udf_server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    command.args(arguments);
    command
}

/// A server process; killed when a test fails.
struct Server {
    process: Child,
    directory: TempDir,
}

impl Server {
    async fn start(arguments: &[&str]) -> Self {
        Self::start_as(arguments, |_| ()).await
    }

    /// Starts a server whose process is set up by `set_up` besides.
    async fn start_as(arguments: &[&str], set_up: impl FnOnce(&mut Command)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = Self::command(arguments, directory.path());
        set_up(&mut command);
        let process = command.spawn().unwrap();
        let server = Self { process, directory };
        // As the platform does: the file is there, so the socket is.
        let info = tokio::time::timeout(Duration::from_secs(30), ServerInfo::wait(server.path("i")));
        info.await.unwrap().unwrap();
        server
    }

    fn spawn(arguments: &[&str], directory: &Path) -> Child {
        Self::command(arguments, directory).spawn().unwrap()
    }

    fn command(arguments: &[&str], directory: &Path) -> Command {
        let mut command = udf_server(arguments);
        command
            .arg("--socket")
            .arg(directory.join("s"))
            .arg("--server-info")
            .arg(directory.join("i"))
            .args(["--drain-timeout", "1s"])
            .stderr(Stdio::piped());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for the process to end, and tells its exit code and how long that took.
    fn wait(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let status = self.process.wait().unwrap();
        (status.code(), begun.elapsed())
    }

    /// How many files are left.
    fn left(&self) -> usize {
        std::fs::read_dir(self.directory.path()).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn a_map_with_an_open_stream_stops_within_its_time() {
    let mut server = Server::start(&["map", "cat"]).await;
    let client = MapClient::connect(server.path("s")).await.unwrap();
    let mut stream = client.open().await.unwrap();
    assert_eq!(stream.map(MapRequest::new("x").with_keys(["k"])).await.unwrap()[0].keys(), ["k"]);
    server.signal("-TERM");
    let error = stream.recv().await.unwrap_err();
    assert_eq!(error.status().unwrap().name, "UNAVAILABLE");
    let (code, took) = server.wait();
    assert_eq!(code, Some(0));
    assert!(took < 5 * DRAIN, "{took:?}");
    assert_eq!(server.left(), 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&["map", "cat", "--config", "/dev/null"]).await;
    let client = MapClient::connect(server.path("s")).await.unwrap();
    let _stream = client.open().await.unwrap();
    server.signal("-TERM");
    server.signal("-INT");
    assert_eq!(server.wait().0, Some(0));
    assert_eq!(server.left(), 0);
}

#[tokio::test]
async fn a_map_killed_outright_can_be_started_again() {
    let mut server = Server::start(&["map", "cat"]).await;
    server.signal("-KILL");
    server.wait();
    assert_eq!(server.left(), 2, "nobody was there to remove the files");
    server.process = Server::spawn(&["map", "cat"], server.directory.path());
    let deadline = Instant::now() + Duration::from_secs(30);
    // As the platform does: dial until it works.
    let client = loop {
        match MapClient::connect(server.path("s")).await {
            Ok(client) => break client,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(client.is_ready().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_source_with_open_streams_stops_within_its_time() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let mut server = Server::start(&["kafka-source", "--brokers", &brokers, "--topics", "t", "--group", "g"]).await;
    let client = SourceClient::connect(server.path("s")).await.unwrap();
    let mut reads = client.read_stream().await.unwrap();
    let _acks = client.ack_stream().await.unwrap();
    assert!(reads.read(ReadRequest::new(10, Duration::from_millis(10))).await.unwrap().is_empty());
    server.signal("-TERM");
    let (code, took) = server.wait();
    assert_eq!(code, Some(0));
    assert!(took < 5 * DRAIN, "{took:?}");
    assert_eq!(server.left(), 0);
}

#[tokio::test]
async fn a_map_is_served_in_the_mode_asked_for() {
    let server = Server::start(&["map", "cat", "--map-mode", "batch", "--max-in-flight", "8..16"]).await;
    assert_eq!(ServerInfo::read(server.path("i")).unwrap().map_mode(), MapMode::Batch);
    let mut stream = MapClient::connect(server.path("s")).await.unwrap().open().await.unwrap();
    stream.send("1", MapRequest::new("x")).await.unwrap();
    stream.send_eot().await.unwrap();
    let answers = [stream.recv().await.unwrap().unwrap(), stream.recv().await.unwrap().unwrap()];
    assert_eq!(answers.map(|answer| (answer.id, answer.eot)), [("1".to_owned(), false), (String::new(), true)]);
    server.signal("-TERM");
    stream.recv().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drain_gives_up_is_named_in_the_log() {
    let mut server = Server::start(&["map", "cat", "--slow-after", "20ms", "--log-format", "json"]).await;
    let mut log = BufReader::new(server.process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut stream = MapClient::connect(server.path("s")).await.unwrap().open().await.unwrap();
    // More than the window of a peer that does not read.
    stream.send("the large one", MapRequest::new(vec![0; 32 << 20])).await.unwrap();
    // The watchdog says that the answer waits.
    log.find(|line| line.contains("the large one") && line.contains("\"answered\"")).unwrap();
    server.signal("-TERM");
    let line = log.find(|line| line.contains("abandoned: ")).unwrap();
    assert!(line.contains("the large one") && line.contains("(answered, "), "{line}");
    drop(log);
    let (code, _) = server.wait();
    assert_eq!(code, Some(0));
}

/// Whose standard error is a pipe that is closed, or that nobody reads and the log has filled.
async fn serves_and_stops(mut server: Server) {
    let client = MapClient::connect(server.path("s")).await.unwrap();
    let mut stream = client.open().await.unwrap();
    for _ in 0..500 {
        let answer = tokio::time::timeout(LONG, stream.map(MapRequest::new(vec![b'x'; 1000]))).await;
        assert_eq!(answer.unwrap().unwrap()[0].value().len(), 1000);
    }
    assert!(tokio::time::timeout(LONG, client.is_ready()).await.unwrap().unwrap());
    server.signal("-TERM");
    let ended = tokio::task::spawn_blocking(move || (server.wait(), server.left()));
    let ((code, _), left) = tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
    assert_eq!((code, left), (Some(0), 0));
}

/// What fails here takes for ever.
const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    // Every frame of HTTP/2 is a line.
    let verbose = |command: &mut Command| _ = command.env("RUST_LOG", "trace").stderr(Stdio::piped());
    serves_and_stops(Server::start_as(&["map", "cat", "--log-format", "json"], verbose).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_standard_error_does_no_harm() {
    let closed = |command: &mut Command| _ = command.env("RUST_LOG", "trace").stderr(std::io::pipe().unwrap().1);
    serves_and_stops(Server::start_as(&["map", "cat"], closed).await).await;
}

#[test]
fn a_misspelt_variable_is_named() {
    let directory = TempDir::new().unwrap();
    let mut command = udf_server(&["map", "cat", "--socket", "/dev/null"]);
    command.arg("--server-info").arg(directory.path().join("i")).env("UDF_MAX_INFLIGHT", "8");
    let said = said(command.output().unwrap(), 64);
    assert!(said.contains("did you mean UDF_MAX_IN_FLIGHT?") && said.contains("is not a socket"), "{said}");
}

/// What a command says before it ends with this exit code.
fn said(output: Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn a_plain_file_at_the_socket_path_is_refused_and_kept() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("s");
    std::fs::write(&socket, "precious").unwrap();
    let mut command = udf_server(&["map", "cat", "--socket"]);
    command.arg(&socket).arg("--server-info").arg(directory.path().join("i"));
    assert!(said(command.output().unwrap(), 64).contains("is not a socket"));
    assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
}

#[test]
fn every_mistake_in_the_environment_is_named() {
    let mut command = udf_server(&["map", "cat"]);
    command.env("UDF_MAX_IN_FLIGHT", "many").env("UDF_SOCKET_MODE", "rw");
    let said = said(command.output().unwrap(), 64);
    assert!(said.contains("UDF_MAX_IN_FLIGHT is \"many\"") && said.contains("UDF_SOCKET_MODE is \"rw\""), "{said}");
}

#[test]
fn every_mistake_in_the_options_of_a_map_is_one_sentence() {
    let mistakes = [
        ("--map-mode", "async", "is \"async\"; give unary, batch or stream"),
        ("--on-failure", "ignore", "is \"ignore\"; give fail, drop, nack"),
        ("--attempts", "0", "is \"0\"; give the tries in all"),
        ("--execution", "blocking:0", "is \"blocking:0\"; give automatic, tasks, blocking"),
        ("--max-batch-bytes", "1MB", "is \"1MB\"; give a number of bytes"),
        ("--max-in-flight", "9..8", "is \"9..8\"; give a whole number above zero, or the floor"),
    ];
    let arguments = mistakes.iter().flat_map(|(flag, value, _)| [*flag, *value]);
    let said = said(udf_server(&["map", "cat"]).args(arguments).output().unwrap(), 64);
    assert_eq!(said.lines().count(), mistakes.len(), "{said}");
    for (flag, _, problem) in mistakes {
        assert!(said.contains(&format!("error: {flag} {problem}")), "{flag} {problem}: {said}");
    }
}

#[test]
fn a_source_has_no_options_of_maps() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("kafka.yaml");
    std::fs::write(&config, "map-mode: batch\n").unwrap();
    let in_file = said(udf_server(&KAFKA).arg("--config").arg(&config).output().unwrap(), 64);
    assert!(in_file.contains("map-mode in ") && in_file.contains("is not a setting of this command"), "{in_file}");
    let as_flag = said(udf_server(&KAFKA).args(["--map-mode", "batch"]).output().unwrap(), 64);
    assert!(as_flag.contains("unexpected argument '--map-mode'"), "{as_flag}");
}

#[test]
fn brokers_that_do_not_answer_are_named() {
    let directory = TempDir::new().unwrap();
    let mut command = udf_server(&KAFKA);
    command.args(["--connect-timeout", "1s", "--socket"]).arg(directory.path().join("s"));
    command.arg("--server-info").arg(directory.path().join("i"));
    let said = said(command.output().unwrap(), 1);
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_unknown_runtime_is_refused_with_those_known() {
    let mut command = udf_server(&KAFKA);
    command.env("NUMAFLOW_RUNTIME", "haskell");
    let said = said(command.output().unwrap(), 64);
    assert!(said.contains("NUMAFLOW_RUNTIME is \"haskell\"") && said.contains("known: rust"), "{said}");
}

#[test]
fn another_runtime_takes_the_place_of_this_one() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("kafka.yaml");
    std::fs::write(&config, "runtimes:\n  other: [sh, -c, 'echo the other runtime; exit 7']\n").unwrap();
    let mut command = udf_server(&KAFKA);
    command.arg("--config").arg(&config).env("NUMAFLOW_RUNTIME", "other");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"the other runtime\n");
}
