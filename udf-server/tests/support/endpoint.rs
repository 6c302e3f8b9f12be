//! The admin endpoint of a source's server, as those see it who operate it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use udf_server::kafka::KafkaSource;

/// Longer than anything takes that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks: a page takes its time from the source, which is in the same process.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Endpoint {
    address: SocketAddr,
    _directory: TempDir,
}

impl Endpoint {
    /// Serves the source until the test's runtime ends.
    pub(crate) fn of(source: &KafkaSource) -> Self {
        let directory = TempDir::new().unwrap();
        let server = source.server().admin(([127, 0, 0, 1], 0)).socket_path(directory.path().join("s"));
        let bound = server.server_info_path(directory.path().join("i")).bind().unwrap();
        let address = bound.admin_address().unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        drop(tokio::spawn(bound.serve_until(std::future::pending())));
        Self { address, _directory: directory }
    }

    /// The status and the body of a page.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// Looks at `/readyz` until the source is ready. It may have been busy with something else for a moment.
    pub(crate) async fn becomes_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, reason) = self.get("/readyz").await;
            if status == 200 {
                return;
            }
            assert!(Instant::now() < deadline, "never ready: {reason}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `/kafka`.
    pub(crate) async fn page(&self) -> Value {
        let (status, body) = self.get("/kafka").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Looks at `/kafka` until it is as it is to be.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.page().await;
            if is(&page) {
                return page;
            }
            assert!(Instant::now() < deadline, "never {what}: {page:#}");
            tokio::time::sleep(LOOK).await;
        }
    }
}
