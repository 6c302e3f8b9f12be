//! A server process, what it says and how it ends.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use numaflow_sdk::testing::ServerInfo;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::server::VARIABLE;

pub(crate) const DRAIN: Duration = Duration::from_secs(1);
/// What the process may take beyond the drain on a machine that is busy with others: less than the five seconds between
/// the default drain and the end of the time that Kubernetes gives a pod.
pub(crate) const SLACK: Duration = Duration::from_secs(4);
/// The threads of its runtime.
pub(crate) const WORKERS: usize = 2;

/// A drain that is over long before its time is, where nothing blocks, however busy the machine.
pub(crate) const LONG_DRAIN: Duration = Duration::from_secs(25);

/// A server process.
pub(crate) struct Process {
    child: Killed,
    drain: Duration,
    directory: TempDir,
    said: watch::Receiver<Vec<String>>,
    reader: JoinHandle<()>,
}

/// Killed where a test fails, so that nothing of it is left to wait for.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Mostly it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    /// Of the process; `None` where a signal killed it.
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
    /// The time of its drain.
    pub(crate) drain: Duration,
    /// The files that it left.
    pub(crate) left: usize,
    /// The ids that handlers were given.
    pub(crate) taken: HashSet<String>,
    /// The ids that it named as abandoned.
    pub(crate) abandoned: HashSet<String>,
    /// What else it said.
    pub(crate) said: Vec<String>,
}

impl Process {
    /// Starts a server, and returns when its info file is there.
    pub(crate) async fn start() -> Self {
        let process = Self::spawn("1");
        process.listens().await;
        process
    }

    /// Starts a server with this value of [`VARIABLE`].
    pub(crate) fn spawn(value: &str) -> Self {
        Self::draining_for(DRAIN, value)
    }

    /// Starts a server with this value of [`VARIABLE`], and a drain that may take so long.
    pub(crate) fn draining_for(drain: Duration, value: &str) -> Self {
        Self::run(Command::new(std::env::current_exe().unwrap()), value, drain)
    }

    /// Starts a server as `nohup` does.
    pub(crate) fn ignoring_hang_ups() -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP; exec \"$0\""]).arg(std::env::current_exe().unwrap());
        Self::run(shell, "1", DRAIN)
    }

    fn run(mut command: Command, value: &str, drain: Duration) -> Self {
        let directory = TempDir::new().unwrap();
        let mut child = command
            .env(VARIABLE, value)
            .env("UDF_SOCKET", directory.path().join("s"))
            .env("UDF_SERVER_INFO", directory.path().join("i"))
            .env("UDF_DRAIN_TIMEOUT", format!("{}ms", drain.as_millis()))
            .env("UDF_ADMIN", "0")
            .env("TOKIO_WORKER_THREADS", WORKERS.to_string())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (say, said) = watch::channel(Vec::new());
        let reader = std::thread::spawn(move || listen(stderr, &say));
        Self { child: Killed(child), drain, directory, said, reader }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The first line that has this in it, once it is there.
    pub(crate) async fn line(&mut self, part: &str) -> String {
        let said = self.said.wait_for(|lines| lines.iter().any(|line| line.contains(part))).await.unwrap();
        said.iter().find(|line| line.contains(part)).cloned().unwrap()
    }

    /// Waits until it listens.
    pub(crate) async fn listens(&self) {
        ServerInfo::wait(self.directory.path().join("i")).await.unwrap();
    }

    /// Waits until so many lines start like this.
    pub(crate) async fn lines(&mut self, start: &str, count: usize) {
        let enough = |lines: &Vec<String>| lines.iter().filter(|line| line.starts_with(start)).count() >= count;
        self.said.wait_for(enough).await.unwrap();
    }

    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> End {
        let end = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let code = self.child.0.wait().unwrap().code();
            let took = begun.elapsed();
            self.reader.join().unwrap();
            let said = self.said.borrow();
            let starting =
                |start: &'static str| said.iter().filter_map(move |line| line.strip_prefix(start)).map(str::to_owned);
            let abandoned = said.iter().filter_map(|line| Some(line.split_once("abandoned: ")?.1.to_owned()));
            // In quotes, which an id of these tests does not have.
            let quoted = |line: String| -> Vec<_> { line.split('"').skip(1).step_by(2).map(str::to_owned).collect() };
            End {
                code,
                took,
                drain: self.drain,
                left: std::fs::read_dir(self.directory.path()).unwrap().count(),
                taken: starting("taken ").collect(),
                abandoned: abandoned.flat_map(quoted).collect(),
                said: said.iter().filter(|line| !line.starts_with("taken ")).cloned().collect(),
            }
        });
        end.await.unwrap()
    }
}

impl End {
    /// What is wrong with it, but for the messages.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { code, took, drain, left, .. } = self;
        if *code == Some(0) && *left == 0 && *took <= *drain + SLACK {
            return Ok(());
        }
        Err(format!("exit code {code:?} after {took:?}, {left} files left"))
    }
}

/// Takes down what the process says, until it ends.
fn listen(stderr: ChildStderr, say: &watch::Sender<Vec<String>>) {
    for line in BufReader::new(stderr).lines() {
        let line = line.unwrap();
        say.send_modify(|lines| lines.push(line));
    }
}
