//! Handlers that block every thread of the runtime for ever.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use numaflow_sdk::MapRequest;
use numaflow_sdk::testing::{MapClient, MapStream};
use tokio::time::timeout;

use crate::process::{DRAIN, LONG_DRAIN, Process, WORKERS};
use crate::server::{Doing, STOPS_ITSELF, STOPS_WHEN_ALL_BLOCK};

/// The bound is 100 ms; far more, for machines that are busy with others. What is not seen at once is never seen: nothing else
/// wakes the thread that is left.
const AT_ONCE: Duration = Duration::from_secs(20);

pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), test).await.unwrap() })
}

/// A process whose workers are all blocked, and the peer's stream.
async fn blocked(drain: Duration) -> (Process, MapStream) {
    let mut process = Process::draining_for(drain, "1");
    process.listens().await;
    let client = MapClient::connect(process.socket()).await.unwrap();
    let mut stream = client.open().await.unwrap();
    for index in 0..WORKERS {
        stream.send(format!("stuck-{index}"), MapRequest::new(Doing::BlocksLater.to_text())).await.unwrap();
    }
    process.lines("blocks ", WORKERS).await;
    (process, stream)
}

fn is_stuck(ids: &mut dyn Iterator<Item = &str>) -> bool {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids == ["stuck-0", "stuck-1"]
}

pub(crate) fn test() {
    block_on(async {
        let (mut process, _stream) = blocked(DRAIN).await;
        let line = process.line("http://").await;
        let address = line.split_once("http://").unwrap().1.split(' ').next().unwrap().to_owned();
        let page = get(&address, "/inflight");
        let page: serde_json::Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
        let messages = page["messages"].as_array().unwrap();
        assert!(is_stuck(&mut messages.iter().map(|message| message["id"].as_str().unwrap())), "{page}");
        assert!(messages.iter().all(|message| message["stage"] == "handler"), "{page}");

        process.terminate();
        let end = process.end().await;
        end.check().unwrap();
        assert!(is_stuck(&mut end.abandoned.iter().map(String::as_str)), "{end:?}");
    });
}

/// With one thread of two blocked, whichever it is, what comes in is seen: on the connection of the message that blocks, as
/// the platform asks for its health there, and on others.
pub(crate) fn one_of_two() {
    block_on(async {
        for doing in [Doing::Blocks, Doing::BlocksLater] {
            let mut process = Process::start().await;
            let client = MapClient::connect(process.socket()).await.unwrap();
            let mut stream = client.open().await.unwrap();
            stream.send("stuck", MapRequest::new(doing.to_text())).await.unwrap();
            process.lines("blocks ", 1).await;
            for _ in 0..5 {
                assert!(timeout(AT_ONCE, client.is_ready()).await.unwrap().unwrap());
                let other = timeout(AT_ONCE, MapClient::connect(process.socket())).await.unwrap().unwrap();
                let mut other = timeout(AT_ONCE, other.open()).await.unwrap().unwrap();
                timeout(AT_ONCE, other.map(MapRequest::new(Doing::Quick.to_text()))).await.unwrap().unwrap();
            }
            process.terminate();
            process.end().await.check().unwrap();
        }
    });
}

/// A drain that nobody asked for has a deadline too, and a signal that comes during it is the first. It may begin before the
/// second handler blocks or after that.
pub(crate) fn stops_itself() {
    block_on(stops(STOPS_ITSELF));
}

/// The same where it can only begin when no thread of the runtime is left.
pub(crate) fn stops_when_all_block() {
    block_on(stops(STOPS_WHEN_ALL_BLOCK));
}

async fn stops(server: &str) {
    let mut process = Process::spawn(server);
    process.listens().await;
    let client = MapClient::connect(process.socket()).await.unwrap();
    let mut stream = client.open().await.unwrap();
    for index in 0..WORKERS {
        stream.send(format!("stuck-{index}"), MapRequest::new(Doing::BlocksLater.to_text())).await.unwrap();
        process.lines("blocks ", index + 1).await;
    }
    process.line("draining").await;
    process.terminate();
    let end = process.end().await;
    end.check().unwrap();
    assert!(!end.said.iter().any(|line| line.contains("a second signal cuts the drain short")), "{end:?}");
    assert!(is_stuck(&mut end.abandoned.iter().map(String::as_str)), "{end:?}");
}

pub(crate) fn second_signal() {
    block_on(async {
        let (mut process, _stream) = blocked(LONG_DRAIN).await;
        process.terminate();
        // Two signals that come before the first is handled are one.
        process.line("draining").await;
        process.terminate();
        let end = process.end().await;
        end.check().unwrap();
        assert!(end.took < end.drain, "{end:?}");
        assert!(is_stuck(&mut end.abandoned.iter().map(String::as_str)), "{end:?}");
    });
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}
