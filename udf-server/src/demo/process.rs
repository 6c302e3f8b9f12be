//! The demo's servers: processes of their own, started again when they die, as the kubelet does.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::error::Failure;
use crate::print;

/// How much of a log is shown when its server gives up.
const TAIL: u64 = 2048;
/// A server that is killed this often is not started again.
const RESTARTS: u32 = 20;

/// The exit code for a mistake in the settings.
const CONFIGURATION: i32 = 64;

/// How to start one server.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    /// What people call it.
    pub(super) name: &'static str,
    /// The arguments of this program.
    pub(super) arguments: Vec<OsString>,
    /// Where its log lines go.
    pub(super) log: PathBuf,
}

/// A server that does not run any more and cannot be started again.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) name: &'static str,
    /// How it ended, and its last words.
    how: String,
    /// Whether it found a mistake in what it was told, which the demo was told too.
    configuration: bool,
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        let text = format!("{} {}", gone.name, gone.how);
        if gone.configuration { Self::configuration(text) } else { Self::Run(text) }
    }
}

impl Gone {
    /// A server whose supervisor itself failed.
    pub(super) fn unsupervised(error: &JoinError) -> Self {
        Self { name: "a server", how: format!("is not watched any more: {error}"), configuration: false }
    }
}

impl Spec {
    fn spawn(&self) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        let child = command
            .args(&self.arguments)
            // Whatever ends the demo. The system counts the end of the thread that starts the server as the end of its
            // parent: this runs on the runtime's own threads, which stay until the servers are gone.
            .args(["--exit-with-parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C is for the demo, which then stops its servers in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        if let Some(pid) = child.id() {
            self.note(&format!("runs as process {pid}"));
        }
        Ok(child)
    }

    /// Keeps the server running until `stop`, then asks it to stop and waits for it.
    ///
    /// A server that was killed is started again; one that exits by itself has said why in its log.
    pub(super) async fn supervise(self, mut stop: oneshot::Receiver<()>) -> Result<(), Gone> {
        let mut restarts = 0;
        loop {
            let mut child = self.spawn().map_err(|error| self.gone(format!("cannot be started: {error}")))?;
            let ended = tokio::select! {
                ended = child.wait() => ended,
                _ = &mut stop => return self.end(child).await,
            };
            let status = ended.map_err(|error| self.gone(format!("cannot be waited for: {error}")))?;
            restarts += 1;
            match status.signal() {
                Some(signal) if restarts <= RESTARTS => {
                    self.note(&format!("was ended by signal {signal} and is started again"));
                }
                _ => {
                    let configuration = status.code() == Some(CONFIGURATION);
                    return Err(Gone { configuration, ..self.gone(format!("has ended ({status})")) });
                }
            }
        }
    }

    async fn end(&self, mut child: Child) -> Result<(), Gone> {
        if let Some(pid) = child.id() {
            terminate(pid);
        }
        let status = child.wait().await.map_err(|error| self.gone(format!("cannot be waited for: {error}")))?;
        if clean(status) { Ok(()) } else { Err(self.gone(format!("did not stop cleanly ({status})"))) }
    }

    fn gone(&self, how: String) -> Gone {
        let how = match tail(&self.log) {
            Ok(text) if !text.is_empty() => format!("{how}; its last words:\n{text}"),
            Ok(_) | Err(_) => how,
        };
        Gone { name: self.name, how, configuration: false }
    }

    fn note(&self, what: &str) {
        print::note(format_args!("{}: {what}", self.name));
    }
}

/// Whether a variable is meant for servers. Those of a demo are told all they need by arguments; what is set for others
/// in the same shell is none of their business.
fn is_setting(name: &OsStr) -> bool {
    [&b"UDF_"[..], b"NUMAFLOW_"].iter().any(|prefix| name.as_bytes().starts_with(prefix))
}

/// A server that was told to stop while it was starting may not handle signals yet.
fn clean(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(signal_hook::consts::SIGTERM)
}

fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself in between.
        _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
