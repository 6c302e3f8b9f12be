//! The paths of the platform, where servers are that are told no others.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::info::server_info;
use super::{ALL, works};
use crate::case::{Case, Kind, Level, Recipe};
use crate::outcome::Unproven;
use crate::server::{Launcher, START, is_written, takes_connections};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "general.default-path.socket",
        level: Level::Must,
        section: "3 Service catalogue",
        sentence: "A server that is told no paths listens on the socket that the platform dials for its kind.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(socket(launcher))),
    },
    Case {
        id: "general.default-path.server-info",
        level: Level::Must,
        section: "3 Service catalogue",
        sentence: "A server that is told no paths writes the server-info file that the platform reads for its kind.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(info(launcher))),
    },
];

async fn socket(launcher: &Launcher) -> Result<(), Unproven> {
    let place = Place::claim(launcher).await?;
    let mut server = launcher.spawn_at_defaults(place.target.clone())?;
    let expected = format!("a server on {}", place.target.socket.display());
    server.until(&expected, START, || takes_connections(&place.target)).await?;
    let outcome = works(&place.target).await;
    server.kill().await;
    outcome
}

async fn info(launcher: &Launcher) -> Result<(), Unproven> {
    let place = Place::claim(launcher).await?;
    let mut server = launcher.spawn_at_defaults(place.target.clone())?;
    let expected = format!("a file {}", place.target.server_info.display());
    server.until(&expected, START, || async { is_written(&place.target.server_info) }).await?;
    let outcome = server_info(&place.target).await.map(drop);
    server.kill().await;
    outcome
}

/// The platform's paths, while they are this case's. Dropped, what a server has left there is removed.
struct Place {
    target: Target,
    lock: File,
}

impl Place {
    /// Makes sure that nobody uses the paths, nor will another process of the suite. Ends the case where that can't be.
    async fn claim(launcher: &Launcher) -> Result<Self, Unproven> {
        let kind = launcher.kind;
        let target = launcher.target().at(kind.default_socket(), kind.default_server_info());
        let not_run = |error: io::Error| Unproven::NotRun(format!("the paths of the platform: {error}"));
        let mut lock = lock().await.map_err(not_run)?;
        if let Some(socket) = in_use(&target).await {
            return Err(Unproven::NotRun(format!("a server listens on {}", socket.display())));
        }
        remove_what_was_left(&mut lock).map_err(not_run)?;
        for path in [&target.socket, &target.server_info] {
            if std::fs::symlink_metadata(path).is_ok() {
                let reason = format!("{} is there already; remove it if nobody needs it", path.display());
                return Err(Unproven::NotRun(reason));
            }
            can_be_made(path).map_err(not_run)?;
        }
        // Who is killed from here on leaves files behind that are known to be the suite's.
        for path in [&target.socket, &target.server_info] {
            writeln!(lock, "{}", path.display()).map_err(not_run)?;
        }
        Ok(Self { target, lock })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Best effort: what stays is in the way of the next case that needs the paths, which says so.
        for path in [&self.target.socket, &self.target.server_info] {
            drop(std::fs::remove_file(path));
        }
        drop(self.lock.set_len(0));
    }
}

/// Waits for the one lock that there is on this machine for the platform's paths. It goes with its file.
async fn lock() -> io::Result<File> {
    // Each case before this one in line may wait for a server that does not start.
    const PATIENCE: Duration = Duration::from_secs(180);
    let path = std::env::temp_dir().join("numaflow-conformance.lock");
    let file = File::options().read(true).append(true).create(true).open(path)?;
    let started = Instant::now();
    while let Err(error) = file.try_lock() {
        if started.elapsed() > PATIENCE {
            return Err(error.into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(file)
}

/// The socket of a server that uses one of the paths: maps of all modes share a server-info file.
async fn in_use(target: &Target) -> Option<PathBuf> {
    let sharing = Kind::ALL.iter().filter(|kind| Path::new(kind.default_server_info()) == target.server_info);
    for kind in sharing {
        if UnixStream::connect(kind.default_socket()).await.is_ok() {
            return Some(kind.default_socket().into());
        }
    }
    None
}

/// Removes what a run of the suite that was killed has noted in the lock's file, and the note.
fn remove_what_was_left(lock: &mut File) -> io::Result<()> {
    let mut left = String::new();
    lock.read_to_string(&mut left)?;
    for path in left.lines() {
        drop(std::fs::remove_file(path));
    }
    lock.set_len(0)
}

/// Makes the folder of a file, and checks that files can be made in it.
fn can_be_made(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(named)?;
    tempfile::tempfile_in(folder).map(drop).map_err(named)
}
