//! Servers that the suite starts, asks to end, and kills.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{Kind, Target, Unproven};

/// The longest a server may take from its start until it takes calls: a virtual machine on a busy computer.
pub(crate) const START: Duration = Duration::from_secs(30);
/// How often a file is looked for while one is awaited.
const LOOK: Duration = Duration::from_millis(1);
/// How much of what a server printed is kept.
const LOG_END: u64 = 4 << 10;
/// What is awaited of a server that starts.
pub(crate) const READY: &str = "a server-info file and a listening socket";

/// The shell becomes the command, after it has left a guard behind in its process group: when the pipe it reads ends, we are
/// gone, whatever has ended us, and nothing of the group may outlive that.
const GUARDED: &str = r#"
exec 3<&0 </dev/null
(read -r _ <&3; kill -9 -$$) 2>/dev/null &
eval "exec $1" 3<&-
"#;

/// An environment variable and its value; `None` takes it away.
pub(crate) type Variable<'a> = (&'a str, Option<&'a str>);

/// Starts the servers of one case.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) kind: Kind,
    command: String,
    directory: TempDir,
    target: Target,
}

impl Launcher {
    pub(crate) fn new(kind: Kind, command: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        let target = Target::new(kind, directory.path().join("server.sock"), directory.path().join("server-info"));
        Ok(Self { kind, command: command.to_owned(), directory, target })
    }

    /// Where its servers are, unless they are started elsewhere.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Starts a server and waits until it takes calls.
    pub(crate) async fn start(&self) -> Result<Server, Unproven> {
        self.start_with(&[]).await
    }

    /// As [`start`](Self::start), with environment variables set as well, or taken away.
    pub(crate) async fn start_with(&self, variables: &[Variable<'_>]) -> Result<Server, Unproven> {
        let mut server = self.spawn(variables)?;
        server.ready().await?;
        Ok(server)
    }

    /// Starts a server at the case's own paths, and does not wait for it.
    pub(crate) fn spawn(&self, variables: &[Variable<'_>]) -> Result<Server, Unproven> {
        self.spawn_at(self.target.clone(), variables)
    }

    /// As [`spawn`](Self::spawn), at paths given by the case.
    pub(crate) fn spawn_at(&self, target: Target, variables: &[Variable<'_>]) -> Result<Server, Unproven> {
        let mut command = self.command(variables);
        command.env("CONFORMANCE_SOCKET", &target.socket).env("CONFORMANCE_SERVER_INFO", &target.server_info);
        Server::spawn(command, target)
    }

    /// Starts a server that is told no paths, and will be at `target` if it goes by the platform's own.
    pub(crate) fn spawn_at_defaults(&self, target: Target) -> Result<Server, Unproven> {
        Server::spawn(self.command(&[]), target)
    }

    /// The end of what its servers have printed.
    pub(crate) fn log(&self) -> String {
        let end = || {
            let mut file = File::open(self.log_path())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            io::Result::Ok(String::from_utf8_lossy(&end).into_owned())
        };
        end().unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn command(&self, variables: &[Variable<'_>]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", GUARDED, "sh", &self.command]).process_group(0).stdin(Stdio::piped());
        if let Ok(log) = File::options().append(true).create(true).open(self.log_path()) {
            command.stdout(log.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)).stderr(log);
        }
        command
            .env("CONFORMANCE_KIND", self.kind.to_string())
            .env("NUMAFLOW_UD_CONTAINER_TYPE", self.kind.container_type())
            .env("NUMAFLOW_REPLICA", "0");
        for name in ["CONFORMANCE_SOCKET", "CONFORMANCE_SERVER_INFO", "CONFORMANCE_DEFAULTS"] {
            command.env_remove(name);
        }
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

/// A server's process and all that it has started. Dropped, they are killed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    group: Option<Pid>,
    /// Its end is what the guard waits for.
    _pipe: Option<ChildStdin>,
    pub(crate) target: Target,
}

impl Server {
    fn spawn(mut command: Command, target: Target) -> Result<Self, Unproven> {
        let mut child =
            command.spawn().map_err(|error| Unproven::broken("the server's command to start", error.to_string()))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pipe = child.stdin.take();
        Ok(Self { child, group, _pipe: pipe, target })
    }

    /// Waits until the server has written its server-info file and takes connections.
    pub(crate) async fn ready(&mut self) -> Result<(), Unproven> {
        let target = self.target.clone();
        let there = || async { is_written(&target.server_info) && takes_connections(&target).await };
        self.until(READY, START, there).await
    }

    /// Looks again and again until something about the server's files holds, or the server has ended.
    pub(crate) async fn until<F: Future<Output = bool>>(
        &mut self,
        expected: &str,
        within: Duration,
        holds: impl Fn() -> F,
    ) -> Result<(), Unproven> {
        let child = &mut self.child;
        let look = async {
            let mut ticks = interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !holds().await {
                ticks.tick().await;
            }
        };
        let ended = tokio::select! {
            biased;
            () = look => return Ok(()),
            status = child.wait() => match status {
                Ok(status) => format!("the end of the server, {status}"),
                Err(error) => error.to_string(),
            },
            () = tokio::time::sleep(within) => format!("nothing of it within {within:?}"),
        };
        Err(Unproven::broken(expected, ended))
    }

    /// Asks the server to end, as the platform does.
    pub(crate) fn terminate(&self) -> Result<(), Unproven> {
        let Some(id) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return Ok(()) };
        kill_process(id, Signal::TERM)
            .map_err(|error| Unproven::broken("a process that SIGTERM can be sent to", error.to_string()))
    }

    /// How the server ended, if it does so in time.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        timeout(within, self.child.wait()).await.ok()?.ok()
    }

    /// Kills the server where it stands, and all that it has started.
    pub(crate) async fn kill(mut self) {
        self.kill_group();
        _ = self.child.wait().await;
    }

    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            // The guard keeps the group's number taken, so nobody else can be meant; and it may be gone.
            _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Whether somebody listens on the target's socket.
pub(crate) async fn takes_connections(target: &Target) -> bool {
    UnixStream::connect(&target.socket).await.is_ok()
}

/// Whether a file is there and has something in it: whether that is all of it is for its readers to see.
pub(crate) fn is_written(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}
