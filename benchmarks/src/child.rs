//! A server in a process of its own, which ends with this one.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::Outcome;
use crate::measure::Used;
use crate::serve::{Spec, WORKERS};

/// How long a server may take to listen, or to answer what it has used.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that was started. Dropped, it is killed and its folder removed.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    started: Instant,
    // Dropped after the process.
    folder: TempDir,
}

impl Child {
    /// Starts a server. It does not listen yet.
    pub(crate) fn start(spec: &Spec) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("numaflow-bench-").tempdir()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let program = spec.program.clone().map_or_else(std::env::current_exe, Ok)?;
        let mut command = Command::new(&program);
        command
            .args(spec.to_arguments(&Self::socket_in(&folder), &Self::info_in(&folder)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for this process, which ends its servers.
            .process_group(0)
            .kill_on_drop(true);
        match spec.workers {
            Some(workers) => command.env(WORKERS, workers.to_string()),
            None => command.env_remove(WORKERS),
        };
        let started = Instant::now();
        let mut process = command.spawn().map_err(|error| format!("{} does not start: {error}", program.display()))?;
        let (Some(questions), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the server has no standard input or output".into());
        };
        Ok(Self { started, process, questions, answers: BufReader::new(answers).lines(), folder })
    }

    fn socket_in(folder: &TempDir) -> PathBuf {
        folder.path().join("s.sock")
    }

    fn info_in(folder: &TempDir) -> PathBuf {
        folder.path().join("server-info")
    }

    /// Connects as soon as the server listens.
    pub(crate) async fn connect(&mut self) -> Outcome<UnixStream> {
        let socket = Self::socket_in(&self.folder);
        let dial = async {
            loop {
                match UnixStream::connect(&socket).await {
                    Ok(connection) => return connection,
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            }
        };
        tokio::select! {
            connection = timeout(PATIENCE, dial) => match connection {
                Ok(connection) => Ok(connection),
                Err(_) => Err("the server does not listen".into()),
            },
            status = self.process.wait() => Err(format!("the server ended with {}", status?).into()),
        }
    }

    /// How long it took from its start until its server-info file was there.
    pub(crate) async fn announced(&mut self) -> Outcome<Duration> {
        let info = Self::info_in(&self.folder);
        while !info.exists() {
            if self.started.elapsed() > PATIENCE {
                return Err("the server writes no server-info file".into());
            }
            // Tokio's timer is too coarse for this: it ticks once a millisecond.
            std::thread::sleep(Duration::from_micros(100));
            tokio::task::yield_now().await;
        }
        Ok(self.started.elapsed())
    }

    /// What the server has used so far, by its own word.
    pub(crate) async fn used(&mut self) -> Outcome<Used> {
        let ask = async {
            self.questions.write_all(b"used\n").await?;
            self.answers.next_line().await
        };
        match timeout(PATIENCE, ask).await {
            Ok(Ok(Some(line))) => Used::from_line(&line),
            Ok(_) => Err("the server died".into()),
            Err(_) => Err("the server does not say what it has used".into()),
        }
    }

    /// What went wrong, with what the server said last, if anything.
    pub(crate) fn explain(&self, error: impl fmt::Display) -> Box<dyn Error + Send + Sync> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        match log.lines().last() {
            Some(last) => format!("{error}; the last that the server said is: {last}").into(),
            None => error.to_string().into(),
        }
    }
}
