//! How a server starts: what it makes when, and what it finds from before.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::info::END_MARKER;
use super::{ALL, works};
use crate::case::{Case, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::server::{Launcher, START, takes_connections};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "general.server-info.after-socket",
        level: Level::Should,
        section: "14.7 When to write it",
        sentence: "The server-info file is never there without a socket that takes connections.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(info_after_socket(launcher))),
    },
    Case {
        id: "general.restart.stale-files",
        level: Level::Must,
        section: "14.7 When to write it",
        sentence: "A server starts where the socket and the server-info file of one that was killed are still there.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(stale_files(launcher))),
    },
    Case {
        id: "general.socket.not-a-socket",
        level: Level::Should,
        section: "19.1 General",
        sentence: "A file at the socket's path that is no socket is kept, and the start fails with an error that names it.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(not_a_socket(launcher))),
    },
];

async fn info_after_socket(launcher: &Launcher) -> Result<(), Unproven> {
    const STARTS: usize = 3;
    const EXPECTED: &str = "no server-info file before the socket takes connections";
    let target = launcher.target();
    for _ in 0..STARTS {
        let accepted = AtomicBool::new(false);
        let mut server = launcher.spawn(&[])?;
        let first_seen = server.until("a server-info file", START, || async {
            let there = target.server_info.exists();
            if there {
                accepted.store(takes_connections(target).await, Ordering::Relaxed);
            }
            there
        });
        first_seen.await?;
        server.kill().await;
        for path in [&target.socket, &target.server_info] {
            drop(std::fs::remove_file(path));
        }
        check(accepted.into_inner(), EXPECTED, || "one with nobody behind the socket".to_owned())?;
    }
    never_without_socket(launcher).await
}

/// Starts a server that cannot listen: there must be no file at all, however quick it would be.
async fn never_without_socket(launcher: &Launcher) -> Result<(), Unproven> {
    /// Long enough for a server to have tried.
    const WHILE: Duration = Duration::from_secs(5);
    /// More than fits an address.
    const LONG: usize = 150;
    let target = launcher.target();
    let target = target.at(target.socket.with_file_name("s".repeat(LONG)), &target.server_info);
    let mut server = launcher.spawn_at(target.clone(), &[])?;
    // The end of the server is what is expected here.
    drop(server.until("", WHILE, || async { target.server_info.exists() }).await);
    server.kill().await;
    check(!target.server_info.exists(), "no server-info file of a server that can't listen", || "one".to_owned())
}

async fn stale_files(launcher: &Launcher) -> Result<(), Unproven> {
    let target = launcher.target();
    launcher.start().await?.kill().await;
    let prepared = || {
        if !target.socket.exists() {
            // Whatever has removed it: closed, a listener leaves its socket.
            drop(UnixListener::bind(&target.socket)?);
        }
        // With a content of its own, so that it is not taken for the new one.
        let stale = format!(r#"{{"protocol":"uds","language":"rust","version":"0.0.1"}}{END_MARKER}"#);
        std::fs::write(&target.server_info, &stale)?;
        std::io::Result::Ok(stale)
    };
    let stale = prepared().map_err(|error| Unproven::NotRun(format!("stale files: {error}")))?;

    let mut server = launcher.spawn(&[])?;
    let started = server.until("a new server-info file and a listening socket", START, || async {
        let info = std::fs::read_to_string(&target.server_info).unwrap_or_default();
        !info.is_empty() && info != stale && takes_connections(target).await
    });
    started.await?;
    let outcome = works(target).await;
    server.kill().await;
    outcome
}

async fn not_a_socket(launcher: &Launcher) -> Result<(), Unproven> {
    const CONTENT: &str = "somebody's notes";
    const FAILS: &str = "the start to fail";
    let path = &launcher.target().socket;
    std::fs::write(path, CONTENT).map_err(|error| Unproven::NotRun(format!("a plain file: {error}")))?;

    let mut server = launcher.spawn(&[])?;
    let is_kept = || std::fs::read_to_string(path).is_ok_and(|content| content == CONTENT);
    // Either the file is touched, or the server ends.
    drop(server.until("", START / 2, || async { !is_kept() }).await);
    let ended = server.ended(Duration::ZERO).await;
    server.kill().await;
    check(is_kept(), "the file as it was", || "another, or none".to_owned())?;
    let status = ended.ok_or_else(|| Unproven::broken(FAILS, "a process that stays"))?;
    check(!status.success(), FAILS, || status.to_string())?;
    let named = launcher.log().contains(&*path.to_string_lossy());
    check(named, &format!("an error that names {}", path.display()), || format!("{:?}", launcher.log()))
}
