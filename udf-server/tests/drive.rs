//! `drive` against scripted servers: each rule of the platform that it follows.
//!
//! The servers are real ones on real sockets; the clock is paused where time is part of the rule, so that nothing waits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "drive/map.rs"]
mod map;
#[path = "drive/published.rs"]
mod published;
#[path = "drive/script.rs"]
mod script;
#[path = "drive/source.rs"]
mod source;

use std::path::{Path, PathBuf};
use std::time::Duration;

use numaflow_sdk::{Server, Service};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use udf_server::drive::{Destination, Drive, Input, Lines, Report, ServerAt, Settings, Until};

/// A folder with servers in it, which end with it.
struct Stage {
    folder: TempDir,
    servers: JoinSet<()>,
}

impl Stage {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), servers: JoinSet::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a server of this name listens.
    fn at(&self, name: &str) -> ServerAt {
        ServerAt { socket: self.path(&format!("{name}.sock")), info: Some(self.path(&format!("{name}-info"))) }
    }

    /// Serves for as long as the stage stands.
    fn serve<S: Service>(&mut self, name: &str, service: S) -> ServerAt {
        let at = self.at(name);
        let server = Server::new(service).socket_path(&at.socket).server_info_path(self.path(&format!("{name}-info")));
        let bound = server.bind().unwrap();
        self.servers.spawn(async move {
            bound.serve_until(std::future::pending()).await.unwrap();
        });
        at
    }

    /// A file with these lines, as input.
    fn lines<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Input {
        let path = self.path("input");
        std::fs::write(&path, lines.into_iter().fold(String::new(), |text, line| text + line + "\n")).unwrap();
        Input::Lines(Lines::File(path))
    }

    fn out(&self) -> Option<Destination> {
        Some(Destination::File(self.path("out")))
    }
}

/// What is in a file, line by line.
fn lines_of(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Settings that end with the input, or with this.
fn settings(input: Input, until: Until) -> Settings {
    // What is not changed needs no sender.
    Settings::new(input, watch::channel(until).1)
}

/// Runs to the end, which a mistake must not keep from coming.
async fn run(settings: Settings) -> Report {
    timeout(Duration::from_secs(300), Drive::new(settings).0.run()).await.unwrap().unwrap()
}
