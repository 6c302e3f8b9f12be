//! What is on standard error, and what a server does when nobody reads it or it is closed.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use numaflow_sdk::MapRequest;
use numaflow_sdk::testing::{MapClient, MapStream, ServerInfo};
use tempfile::TempDir;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::blocked::block_on;
use crate::server::{OWN_LOG, QUIET, VARIABLE};

/// Far longer than anything takes here; what fails takes for ever.
const DRAIN: Duration = Duration::from_secs(20);
/// The log's queue holds 1 MiB, as much may be on its way, and a line has at most this of an error's text.
const TEXT: usize = 1000;
const FLOOD: usize = 2500;
/// No line is as long: the text of a panic is cut at half of this.
const LINE: usize = 8 << 10;

struct Server {
    child: Child,
    directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Mostly it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    fn spawn(kind: &str, out: Stdio, err: Stdio) -> Self {
        let directory = TempDir::new().unwrap();
        let child = command(kind, &directory).stdout(out).stderr(err).spawn().unwrap();
        Self { child, directory }
    }

    async fn connect(&self) -> (MapClient, MapStream) {
        ServerInfo::wait(self.directory.path().join("i")).await.unwrap();
        let client = MapClient::connect(self.directory.path().join("s")).await.unwrap();
        let stream = client.open().await.unwrap();
        (client, stream)
    }

    /// Tells it to stop; how it ends, and how long that takes.
    async fn stop(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            // The client's connection closes meanwhile.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Messages that fail are dropped, so that a stream goes on.
fn command(kind: &str, directory: &TempDir) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(VARIABLE, kind)
        .env("UDF_SOCKET", directory.path().join("s"))
        .env("UDF_SERVER_INFO", directory.path().join("i"))
        .env("UDF_DRAIN_TIMEOUT", format!("{}s", DRAIN.as_secs()))
        .env("UDF_ON_FAILURE", "drop")
        .env("UDF_SLOW_AFTER", "50ms")
        .env("TOKIO_WORKER_THREADS", "2")
        .env_remove("RUST_BACKTRACE");
    command
}

/// A pipe that holds all that it can.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (sender, receiver) = pipe::pipe().unwrap();
    while sender.try_write(&[b'.'; 4096]).is_ok() {}
    while sender.try_write(b".").is_ok() {}
    (receiver.into_blocking_fd().unwrap().into(), sender.into_blocking_fd().unwrap().into())
}

/// A pipe that nobody will ever read.
fn closed_pipe() -> PipeWriter {
    std::io::pipe().unwrap().1
}

/// Sends messages of which some fail and some panic, more than there are threads, and more text than any queue holds. All
/// are answered, and the platform's probe too.
async fn work(client: &MapClient, stream: &mut MapStream) {
    for index in 0..20 {
        stream.send(format!("panics-{index}"), MapRequest::new(format!("panic {index}"))).await.unwrap();
        assert!(answer(stream).await.is_drop());
    }
    for index in 0..FLOOD {
        let text = format!("fail {}", "x".repeat(TEXT));
        stream.send(format!("fails-{index}"), MapRequest::new(text)).await.unwrap();
        assert!(answer(stream).await.is_drop());
    }
    assert!(timeout(DRAIN, client.is_ready()).await.unwrap().unwrap());
    stream.send("good", MapRequest::new("good")).await.unwrap();
    assert_eq!(answer(stream).await.value(), "good");
}

/// The server works, and stops within its drain.
async fn works_and_stops(server: Server) {
    let (client, mut stream) = server.connect().await;
    work(&client, &mut stream).await;
    drop((stream, client));
    let (code, took) = server.stop().await;
    assert_eq!(code, Some(0));
    assert!(took < DRAIN, "{took:?}");
}

async fn answer(stream: &mut MapStream) -> numaflow_sdk::Message {
    let mut answer = timeout(DRAIN, stream.recv()).await.unwrap().unwrap().unwrap();
    answer.messages.remove(0)
}

pub(crate) fn not_read() {
    block_on(async {
        let (_reader, full) = full_pipe();
        let server = Server::spawn(QUIET, Stdio::null(), full.into());
        works_and_stops(server).await;
    });
}

pub(crate) fn closed() {
    block_on(async {
        let server = Server::spawn(QUIET, closed_pipe().into(), closed_pipe().into());
        works_and_stops(server).await;
    });
}

pub(crate) fn read_again() {
    block_on(async {
        let (reader, full) = full_pipe();
        let server = Server::spawn(QUIET, Stdio::null(), full.into());
        let (client, mut stream) = server.connect().await;
        work(&client, &mut stream).await;
        let mut log = BufReader::new(File::from(std::os::fd::OwnedFd::from(reader))).lines().map(Result::unwrap);
        let notice = log.find(|line| line.contains("log lines were dropped")).unwrap();
        let (_, lines) = notice.split_once(" lines=").unwrap();
        assert!(notice.contains(" WARN ") && lines.parse::<usize>().unwrap() > 100, "{notice}");
        drop((stream, client));
        let draining = std::thread::spawn(move || log.any(|line| line.starts_with("draining for ")));
        assert_eq!(server.stop().await.0, Some(0));
        assert!(draining.join().unwrap());
    });
}

pub(crate) fn without_a_log() {
    block_on(async {
        let (reader, writer) = std::io::pipe().unwrap();
        let server = Server::spawn(QUIET, Stdio::null(), writer.into());
        let (_client, mut stream) = server.connect().await;
        let long = format!("panic {}", "x".repeat(1 << 20));
        let messages = [
            ("one", "fail the table is locked"),
            ("two", "panic the index is gone"),
            ("three", &long),
            ("four", "block"),
        ];
        for (id, text) in messages {
            stream.send(id, MapRequest::new(text.to_owned())).await.unwrap();
        }
        let wanted: [&[&str]; 7] = [
            &[" ERROR numaflow_sdk::", "the handler failed", "id=\"one\"", "the table is locked"],
            &["panicked at ", "server.rs:"],
            &["the index is gone"],
            &[" ERROR numaflow_sdk::", "the handler failed", "id=\"two\"", "the index is gone"],
            &["x… (1048576 bytes in all)"],
            &[" ERROR numaflow_sdk::", "the handler failed", "id=\"three\"", "xxx"],
            &[" WARN numaflow_sdk::", "in flight for long", "id=\"four\""],
        ];
        let read = tokio::task::spawn_blocking(move || {
            let (mut missing, mut longest) = (wanted.to_vec(), 0);
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                longest = longest.max(line.len());
                missing.retain(|parts| !parts.iter().all(|part| line.contains(part)));
                if missing.is_empty() {
                    break;
                }
            }
            (missing, longest)
        });
        let read = timeout(DRAIN, read).await;
        // Ends the reading too, where it goes on.
        drop(server);
        let (missing, longest) = read.unwrap().unwrap();
        assert_eq!(missing, [&[] as &[&str]; 0]);
        assert!(longest < LINE, "a line of {longest} bytes");
    });
}

pub(crate) fn own_log_closed() {
    block_on(async {
        let server = Server::spawn(OWN_LOG, closed_pipe().into(), closed_pipe().into());
        let (client, mut stream) = server.connect().await;
        work(&client, &mut stream).await;
        drop((stream, client));
        assert_eq!(server.stop().await.0, Some(0));
    });
}

/// What waits for the log is the program's own doing; the end of the process does not.
pub(crate) fn own_log_not_read() {
    block_on(async {
        let (_reader, full) = full_pipe();
        let server = Server::spawn(OWN_LOG, full.into(), Stdio::null());
        let (client, mut stream) = server.connect().await;
        stream.send("good", MapRequest::new("good")).await.unwrap();
        assert_eq!(answer(&mut stream).await.value(), "good");
        drop((stream, client));
        let (code, took) = server.stop().await;
        assert_eq!(code, Some(0));
        assert!(took < DRAIN, "{took:?}");
    });
}

pub(crate) fn argument() {
    let directory = TempDir::new().unwrap();
    let output = command(QUIET, &directory).args(["--max-in-flight", "8"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.starts_with("error: this program takes no arguments: ") && said.contains("UDF_MAX_IN_FLIGHT"),
        "{said}"
    );
}

pub(crate) fn variable() {
    block_on(async {
        let directory = TempDir::new().unwrap();
        let mut command = command(QUIET, &directory);
        let child = command.env("UDF_MAX_INFLIGHT", "8").stderr(Stdio::piped()).spawn().unwrap();
        let mut server = Server { child, directory };
        let mut err = server.child.stderr.take().unwrap();
        drop(server.connect().await);
        assert_eq!(server.stop().await.0, Some(0));
        let mut said = String::new();
        err.read_to_string(&mut said).unwrap();
        assert!(said.contains(" WARN ") && said.contains("did you mean UDF_MAX_IN_FLIGHT?"), "{said}");
    });
}
