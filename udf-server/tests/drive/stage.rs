//! Where servers under test stand, and what the tests share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use numaflow_sdk::{Server, Service};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use udf_server::drive::{Destination, Drive, DriveError, Input, Lines, Report, ServerAt, Settings, Until};

/// A folder with servers in it, which end with it.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) servers: JoinSet<()>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), servers: JoinSet::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a server of this name listens.
    pub(crate) fn at(&self, name: &str) -> ServerAt {
        ServerAt { socket: self.path(&format!("{name}.sock")), info: Some(self.path(&format!("{name}-info"))) }
    }

    /// Serves for as long as the stage stands.
    pub(crate) fn serve<S: Service>(&mut self, name: &str, service: S) -> ServerAt {
        let at = self.at(name);
        let server = Server::new(service).socket_path(&at.socket).server_info_path(self.path(&format!("{name}-info")));
        let bound = server.bind().unwrap();
        self.servers.spawn(async move {
            bound.serve_until(std::future::pending()).await.unwrap();
        });
        at
    }

    /// A file with these lines, as input.
    pub(crate) fn lines<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Input {
        let path = self.path("input");
        std::fs::write(&path, lines.into_iter().fold(String::new(), |text, line| text + line + "\n")).unwrap();
        Input::Lines(Lines::File(path))
    }

    pub(crate) fn out(&self) -> Option<Destination> {
        Some(Destination::File(self.path("out")))
    }
}

/// What is in a file, line by line.
pub(crate) fn lines_of(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Settings that end with the input, or with this.
pub(crate) fn settings(input: Input, until: Until) -> Settings {
    // What is not changed needs no sender.
    Settings::new(input, watch::channel(until).1)
}

/// Runs to the end.
pub(crate) async fn run(settings: Settings) -> Report {
    outcome(settings).await.unwrap()
}

/// Runs to the end. The alarm that ends a run that has none is no timer of the runtime, since those may be paused.
pub(crate) async fn outcome(settings: Settings) -> Result<Report, DriveError> {
    let (alarm, late) = oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(60));
        _ = alarm.send(());
    });
    tokio::select! {
        report = Drive::new(settings).0.run() => report,
        _ = late => panic!("the run does not end"),
    }
}
