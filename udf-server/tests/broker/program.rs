//! The program itself as a process of its own, whose memory can be measured.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command};

use numaflow_sdk::testing::{ServerInfo, SourceClient};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{PATIENCE, Platform, deadline};

/// `udf-server kafka-source` with a budget of 64 MiB; killed when the test ends.
pub(crate) struct Program {
    process: Child,
    admin: u16,
    folder: TempDir,
}

impl Program {
    pub(crate) const BUDGET: usize = 64 << 20;

    /// Starts it and waits until it serves.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let admin = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new(env!("CARGO_BIN_EXE_udf-server"))
            .arg("kafka-source")
            .env("NUMAFLOW_REPLICA", "0")
            .args(arguments)
            .args(["--max-in-flight-bytes", "64MiB", "--admin", &admin.to_string()])
            .arg("--socket")
            .arg(folder.path().join("s"))
            .arg("--server-info")
            .arg(folder.path().join("i"))
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let program = Self { process, admin, folder };
        let info = tokio::time::timeout(PATIENCE, ServerInfo::wait(program.folder.path().join("i"))).await;
        assert!(info.is_ok_and(|info| info.is_ok()), "it does not serve: {}", program.log());
        program
    }

    pub(crate) async fn connect(&self) -> Platform {
        Platform::over(SourceClient::connect(self.folder.path().join("s")).await.unwrap()).await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The most memory that it ever had, in bytes, without the pages of its own file. These are many in a debug build, and the
    /// system takes them back as it needs to.
    pub(crate) fn peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
        };
        of("VmHWM:") - of("RssFile:")
    }

    /// Holds the program to its budget and 64 MiB for everything else.
    pub(crate) fn assert_within_budget(&self) {
        let (peak, most) = (self.peak(), Self::BUDGET + (64 << 20));
        assert!(peak <= most, "{} MiB are more than {} MiB", peak >> 20, most >> 20);
    }

    /// The status and the body of a page.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin)).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// Looks at `/kafka` until it is as it is to be.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = deadline();
        loop {
            let page = serde_json::from_str(&self.get("/kafka").await.1).unwrap();
            if is(&page) {
                return page;
            }
            assert!(Instant::now() < deadline, "never {what}: {page:#}\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The partitions of a page that stand still, and where.
pub(crate) fn halted(page: &Value) -> Vec<(&str, i64, i64)> {
    let partitions = page["partitions"].as_array().unwrap().iter();
    let halted = partitions.filter_map(|it| {
        let offset = it["halted"].as_i64()?;
        Some((it["topic"].as_str().unwrap(), it["partition"].as_i64().unwrap(), offset))
    });
    halted.collect()
}
