//! What many modules need: handlers that report and wait, and a server in a folder of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use numaflow_sdk::testing::{ClientError, MapClient};
use numaflow_sdk::{Drained, ServeError, Server, Service};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on a socket in a folder that goes away with it.
pub(crate) struct OnSocket {
    pub(crate) directory: TempDir,
    pub(crate) admin: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<Drained, ServeError>>,
}

impl OnSocket {
    pub(crate) fn start<S: Service>(server: Server<S>) -> Self {
        let directory = TempDir::new().unwrap();
        let bound = server
            .socket_path(directory.path().join("server.sock"))
            .server_info_path(directory.path().join("server-info"))
            .bind()
            .unwrap();
        let admin = bound.admin_address();
        let (stop, stopped) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "joined by stop")]
        let served = tokio::spawn(bound.serve_until(async { drop(stopped.await) }));
        Self { directory, admin, stop, served }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("server.sock")
    }

    pub(crate) async fn map_client(&self) -> MapClient {
        MapClient::connect(self.socket()).await.unwrap()
    }

    /// Waits for a server that ends without being told to.
    pub(crate) async fn ended(self) -> (TempDir, Result<Drained, ServeError>) {
        // Kept until then: dropped, it would tell the server to stop.
        let stop = self.stop;
        let drained = self.served.await.unwrap();
        drop(stop);
        (self.directory, drained)
    }

    /// Starts the drain; the handle is ready when it is over.
    pub(crate) fn stop(self) -> (TempDir, JoinHandle<Result<Drained, ServeError>>) {
        self.stop.send(()).unwrap();
        (self.directory, self.served)
    }
}

/// The files that are left in a folder.
pub(crate) fn left_in(directory: &TempDir) -> Vec<String> {
    std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// The code and the message of the status that an error carries.
pub(crate) fn status(error: &ClientError) -> (&'static str, &str) {
    let status = error.status().unwrap_or_else(|| panic!("not a status: {error}"));
    (status.name, &status.message)
}

/// Ends a test that waits for what never comes, long after it should have.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("not within {limit:?}"))
}
