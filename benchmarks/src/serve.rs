//! The servers that are compared. Each runs in a process of its own, started by this same program.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::Outcome;
use crate::handler::Handler;
use crate::measure::Used;

mod h2_echo;
mod ours;
mod published;
mod tonic_echo;

/// Tokio takes the number of a runtime's workers from here, whoever makes the runtime.
pub(crate) const WORKERS: &str = "TOKIO_WORKER_THREADS";

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// `numaflow-sdk`, with everything on that is on by default
    Ours,
    /// The crate `numaflow` 0.6.0
    Published,
    /// A tonic server that answers with the stream it was sent, mapped
    Tonic,
    /// An echo on the crate `h2` alone: what HTTP/2 costs
    H2,
}

/// The HTTP/2 windows of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Setting {
    /// Two worker threads; windows of 1 MiB a stream and 16 MiB a connection, where they can be set
    Equal,
    /// What each peer does on its own
    Default,
}

/// The windows of [`Setting::Equal`]: those that `numaflow-sdk` has.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;
/// The worker threads of [`Setting::Equal`].
pub(crate) const EQUAL_WORKERS: usize = 2;

/// What to serve; the socket and the info file are the child's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServeArgs {
    pub(crate) peer: Peer,
    pub(crate) setting: Setting,
    pub(crate) handler: Handler,
    /// The worker threads of its runtime; `None` for what tokio chooses, one a core.
    pub(crate) workers: Option<usize>,
}

impl ServeArgs {
    pub(crate) fn new(peer: Peer, setting: Setting, handler: Handler) -> Self {
        let workers = match setting {
            Setting::Equal => Some(EQUAL_WORKERS),
            Setting::Default => None,
        };
        Self { peer, setting, handler, workers }
    }

    pub(crate) fn to_arguments(self, socket: &Path, info: &Path) -> Vec<std::ffi::OsString> {
        let name = |value: Option<clap::builder::PossibleValue>| value.map(|v| v.get_name().into()).unwrap_or_default();
        vec![
            name(self.peer.to_possible_value()),
            "--setting".into(),
            name(self.setting.to_possible_value()),
            "--handler".into(),
            self.handler.to_string().into(),
            "--socket".into(),
            socket.into(),
            "--info".into(),
            info.into(),
        ]
    }
}

/// The hidden command of a server's process.
#[derive(Debug, Args)]
pub(crate) struct ServeCommand {
    peer: Peer,
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    info: PathBuf,
    #[arg(long)]
    setting: Setting,
    #[arg(long)]
    handler: Handler,
}

/// What a server is told.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) socket: PathBuf,
    pub(crate) info: PathBuf,
    pub(crate) setting: Setting,
    pub(crate) handler: Handler,
}

/// Serves until the process that started this one ends or has enough.
pub(crate) fn run(command: ServeCommand) -> Outcome<()> {
    std::thread::Builder::new().name("control".to_owned()).spawn(answer_questions)?;
    let ServeCommand { peer, socket, info, setting, handler } = command;
    let serving = Serving { socket, info, setting, handler };
    match peer {
        Peer::Ours => ours::map(serving),
        Peer::Published => block_on(published::map(serving)),
        Peer::Tonic => block_on(tonic_echo::map(serving)),
        Peer::H2 => block_on(h2_echo::map(serving)),
    }
}

/// Answers every line of standard input with what this process has used, and ends the process at its end, which is there
/// when the parent is gone, however it went.
#[expect(clippy::exit, reason = "nothing of this process is worth waiting for once its parent is gone")]
fn answer_questions() {
    for line in std::io::stdin().lock().lines() {
        let Ok(used) = Used::by_this_process() else { break };
        if line.is_err() || writeln!(std::io::stdout(), "{}", used.to_line()).is_err() {
            break;
        }
    }
    std::process::exit(0);
}

/// Runs a server on the runtime that `#[tokio::main]` would make.
fn block_on(server: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(server)
}
