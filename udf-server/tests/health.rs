//! `health` against servers that answer, and sockets where none does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::time::SystemTime;

use numaflow_sdk::source::{Batch, Message as SourceMessage, NackOffset, Offset, ReadRequest, Sourcer};
use numaflow_sdk::{HandlerError, MapRequest, ProcessEnvironment, Server, Service, map, source};

/// Runs the command in a thread of its own, since it has a runtime of its own, and returns what it says.
async fn health(socket: &Path) -> Result<(), String> {
    let arguments = ["udf-server".into(), "health".into(), "--timeout=300ms".into(), "--socket".into(), socket.into()];
    let command = move || udf_server::cli::run(arguments, &ProcessEnvironment).map_err(|failure| failure.to_string());
    tokio::task::spawn_blocking(command).await.unwrap()
}

/// What `health` says of this service.
async fn health_of(service: impl Service) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s.sock");
    let bound = Server::new(service).socket_path(&socket).server_info_path(folder.path().join("info")).bind().unwrap();
    tokio::select! {
        answer = health(&socket) => answer,
        ended = bound.serve_until(std::future::pending()) => Err(format!("{ended:?}")),
    }
}

struct Endless;

impl Sourcer for Endless {
    async fn read(&self, _: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        batch.push(SourceMessage::new("", Offset::new("1", 0), SystemTime::UNIX_EPOCH)).await?;
        Ok(())
    }
    async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
        Ok(())
    }
    async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_server_of_any_kind_is_ready() {
    health_of(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message())))).await.unwrap();
    health_of(source::service(Endless)).await.unwrap();
}

#[tokio::test]
async fn what_does_not_answer_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s.sock");
    let missing = health(&socket).await.unwrap_err();
    assert!(missing.contains("s.sock") && missing.contains("No such file"), "{missing}");
    // Connections are accepted by the system, and nobody speaks.
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let silent = health(&socket).await.unwrap_err();
    assert!(silent.contains("did not answer within 300ms"), "{silent}");
}
