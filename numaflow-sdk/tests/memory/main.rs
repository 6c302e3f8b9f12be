//! What peers send takes no more memory than it may, as the system sees it and not as the server counts: in a process of its
//! own, which is this program started again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use numaflow_sdk::{Server, Service};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::timeout;

mod batch;
mod map;
mod peer;
mod source;

/// Where the process that is measured listens; set only there.
const SOCKET: &str = "MEMORY_TEST_SOCKET";
const MIB: usize = 1 << 20;
/// What messages may take, by the server's own count.
const IN_FLIGHT: usize = 64 * MIB;
/// What a process may take besides what it counts.
const BESIDES: usize = 64 * MIB;
const LONG: Duration = Duration::from_secs(60);
/// After which a peer that cannot send is taken to stand still.
const STILL: Duration = Duration::from_millis(500);

/// Serves in the process that is measured; does nothing in any other.
fn serve<S: Service>(server: impl FnOnce() -> Server<S>) {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let info = Path::new(&socket).with_extension("info");
        let server = server().socket_path(socket).server_info_path(info).max_in_flight_bytes(IN_FLIGHT);
        // Until the test is over, however it ends: its end of the standard input is closed then.
        let over = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        server.bind().unwrap().serve_until(async { drop(over.await) }).await.unwrap();
    });
}

struct Measured {
    process: Child,
    directory: TempDir,
}

impl Measured {
    /// Starts this program again as the test of this name, which serves, and waits until it does.
    async fn start(serves: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", serves])
            .env(SOCKET, directory.path().join("s"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { process, directory };
        let listening = async {
            while UnixStream::connect(this.socket()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, listening).await.unwrap();
        this
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// A line of the process' status, in bytes.
    fn memory(&self, line: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        let kib: usize = found.unwrap_or_else(|| panic!("no {line}")).trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
