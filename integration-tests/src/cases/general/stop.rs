//! How a server ends when it is asked to.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{ALL, AT_ONCE, is_ready, open};
use crate::case::{Case, Kind, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::server::{Launcher, Server};
use crate::wire::Connection;
use crate::wire::map::MapStream;
use crate::wire::source::{Acker, Reader, offsets};

/// What a pod is given between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(30);

pub(super) const CASES: &[Case] = &[
    Case {
        id: "general.sigterm.serves-on",
        level: Level::Should,
        section: "17.1 Order of signals",
        sentence: "After SIGTERM streams that are open are served on for a while.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(serves_on(launcher))),
    },
    Case {
        id: "general.sigterm.ends",
        level: Level::Should,
        section: "17.3 What SDKs do on SIGTERM / SIGINT",
        sentence: "After SIGTERM a server ends within the 30 s that a pod has, also while streams stay open.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(ends(launcher))),
    },
    Case {
        id: "general.sigterm.files-removed",
        level: Level::Should,
        section: "14.7 When to write it",
        sentence: "A server that ends after SIGTERM has removed its socket and its server-info file.",
        kinds: ALL,
        recipe: Recipe::Process(|launcher| Box::pin(files_removed(launcher))),
    },
];

async fn serves_on(launcher: &Launcher) -> Result<(), Unproven> {
    let server = launcher.start().await?;
    let connection = Connection::to(&server.target).await?;
    match launcher.kind {
        Kind::UnaryMap | Kind::BatchMap | Kind::StreamMap => {
            let mut stream = MapStream::open(&connection).await?;
            stream.echo("before").await?;
            server.terminate()?;
            let mut beats = Beats::new();
            while beats.next().await {
                stream.echo("after").await?;
            }
        }
        Kind::Source => {
            let mut reader = Reader::open(&connection).await?;
            let mut acker = Acker::open(&connection).await?;
            let mut records = reader.read(1, AT_ONCE).await?;
            server.terminate()?;
            let mut beats = Beats::new();
            while beats.next().await {
                acker.ack(offsets(&records)).await?;
                records = reader.read(1, AT_ONCE).await?;
                check(records.len() == 1, "one record", || format!("{}", records.len()))?;
            }
        }
    }
    server.kill().await;
    Ok(())
}

/// Some time in which a server notices a signal, and the occasions in it to see that it still serves.
struct Beats {
    left: u32,
    ticks: tokio::time::Interval,
}

impl Beats {
    fn new() -> Self {
        let mut ticks = interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { left: 10, ticks }
    }

    async fn next(&mut self) -> bool {
        self.ticks.tick().await;
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}

async fn ends(launcher: &Launcher) -> Result<(), Unproven> {
    let server = launcher.start().await?;
    let connection = Connection::to(&server.target).await?;
    let idle = open(&connection, launcher.kind).await?;
    server.terminate()?;
    ends_in_time(server).await?;
    drop(idle);
    Ok(())
}

async fn files_removed(launcher: &Launcher) -> Result<(), Unproven> {
    let server = launcher.start().await?;
    // A server that listens may still have to say what it does about signals; one that answers is past that.
    is_ready(&Connection::to(&server.target).await?, launcher.kind).await?;
    server.terminate()?;
    ends_in_time(server).await?;
    for path in [&launcher.target().socket, &launcher.target().server_info] {
        check(!path.exists(), "no file of a server that has ended", || path.display().to_string())?;
    }
    Ok(())
}

async fn ends_in_time(mut server: Server) -> Result<(), Unproven> {
    let ended = server.ended(GRACE).await;
    server.kill().await;
    check(ended.is_some(), "the end of the process", || format!("none within {GRACE:?} after SIGTERM"))
}
