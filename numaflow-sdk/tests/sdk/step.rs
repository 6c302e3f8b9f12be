//! Handlers that report when they start and wait until they are told to go on.

use std::sync::Arc;

use numaflow_sdk::testing::{self, MapClient};
use numaflow_sdk::{HandlerError, MapRequest, Server, map};
use tokio::sync::{Semaphore, mpsc};

use crate::support::within;

/// Far more than anything takes that a test waits for.
pub(crate) const LONG: std::time::Duration = std::time::Duration::from_secs(120);

/// The handlers' end: cheap to clone, one for each call.
#[derive(Clone)]
pub(crate) struct Steps {
    started: mpsc::Sender<String>,
    go: Arc<Semaphore>,
}

/// The test's end.
pub(crate) struct Director {
    starts: mpsc::Receiver<String>,
    go: Arc<Semaphore>,
}

pub(crate) fn steps() -> (Steps, Director) {
    let (started, starts) = mpsc::channel(10_000);
    let go = Arc::new(Semaphore::new(0));
    (Steps { started, go: go.clone() }, Director { starts, go })
}

impl Steps {
    /// Reports the start of this message's handler.
    pub(crate) async fn start(&self, request: &MapRequest) -> Result<(), HandlerError> {
        Ok(self.started.send(request.id().to_owned()).await?)
    }

    /// Reports the start of this message's handler, and waits for its go.
    pub(crate) async fn step(&self, request: &MapRequest) -> Result<(), HandlerError> {
        self.start(request).await?;
        self.go.acquire().await?.forget();
        Ok(())
    }
}

impl Director {
    /// The id of the next message whose handler starts.
    pub(crate) async fn started(&mut self) -> String {
        within(LONG, self.starts.recv()).await.unwrap()
    }

    /// Whether another handler has started that was not looked at.
    pub(crate) fn has_started(&mut self) -> bool {
        !self.starts.is_empty()
    }

    /// Lets so many handlers go on.
    pub(crate) fn go(&self, handlers: usize) {
        self.go.add_permits(handlers);
    }
}

/// Serves a map in this process.
pub(crate) async fn serve(server: Server<map::MapService>) -> MapClient {
    MapClient::over(testing::serve(server)).await.unwrap()
}
