//! One broker.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::error::StartError;
use crate::java::Java;
use crate::options::Options;
use crate::process::{LOOK, Process};
use crate::properties::{self, Layout};

/// How long a start may take. It takes a few seconds; a machine that builds meanwhile may need many times that.
const START: Duration = Duration::from_secs(120);
/// How long a broker has to end in order.
const STOP: Duration = Duration::from_secs(30);
/// How often ports that another process was quicker to take are chosen anew.
pub(crate) const ATTEMPTS: u32 = 5;
/// What the broker logs when it serves.
const READY: &str = "Kafka Server started";
/// The lines of the log that an error tells.
const LINES: usize = 20;
/// Every broker is a cluster of its own, so that they need not differ.
const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// A broker that runs, or has been stopped and can be started again.
///
/// Dropped, it is killed, and its data is removed. The same happens when the process that started it ends in any other
/// way.
pub struct Broker {
    // Dropped, and so ended, before its folder goes.
    process: Option<Process>,
    folder: TempDir,
    options: Options,
    java: Java,
    layout: Layout,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("address", &self.address()).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts one without topics and waits until it serves.
    pub(crate) fn launch(options: &Options, java: &Java) -> Result<Self, StartError> {
        let mut attempt = 1;
        loop {
            let layout = Layout::alone(options).map_err(StartError::system("free ports"))?;
            let mut broker = Self::new(options.clone(), java.clone(), layout)?;
            broker.configure()?;
            match broker.run() {
                Ok(()) => return Ok(broker),
                Err(StartError::Failed { .. }) if attempt < ATTEMPTS && broker.port_was_taken() => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// One that does not run yet and has no configuration.
    pub(crate) fn new(options: Options, java: Java, layout: Layout) -> Result<Self, StartError> {
        let folder = tempfile::Builder::new().prefix("kafka-").tempdir();
        let folder = folder.map_err(StartError::system("a folder for its data"))?;
        Ok(Self { process: None, folder, options, java, layout })
    }

    /// Whether another process was quicker to take one of its ports.
    pub(crate) fn port_was_taken(&self) -> bool {
        self.log().contains("already in use")
    }

    /// Where clients find it: `host:port`, their `bootstrap.servers`. It stays the same over restarts.
    #[must_use]
    pub fn address(&self) -> String {
        self.layout.endpoints.first().map(|endpoint| endpoint.advertised.clone()).unwrap_or_default()
    }

    /// Where clients find the listener of this name; `None` if the options had none.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<String> {
        let mut endpoints = self.layout.endpoints.iter();
        endpoints.find(|endpoint| endpoint.name == name).map(|endpoint| endpoint.advertised.clone())
    }

    /// The number of its process, to see what it uses; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What it has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.path("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// How many bytes of records it keeps, those of its own topics included.
    ///
    /// # Errors
    ///
    /// When its folder cannot be read.
    pub fn data_size(&self) -> io::Result<u64> {
        records(&self.path("data"))
    }

    /// The file with the first records of a partition, for a test that damages them. What it writes there is what readers
    /// get from then on; the broker itself looks at it only when it starts after a crash.
    #[must_use]
    pub fn segment(&self, topic: &str, partition: i32) -> PathBuf {
        self.path("data").join(format!("{topic}-{partition}")).join("00000000000000000000.log")
    }

    /// With which record each leader of a partition began: the leader's epoch and the offset, as this node has them. Empty
    /// where it has no record of the partition.
    ///
    /// After an election of a replica that was not in sync, the last one on the new leader says where the log was cut.
    #[must_use]
    pub fn leader_epochs(&self, topic: &str, partition: i32) -> Vec<(i32, i64)> {
        let file = self.path("data").join(format!("{topic}-{partition}")).join("leader-epoch-checkpoint");
        let text = fs::read_to_string(file).unwrap_or_default();
        // A version and a count come first.
        text.lines().skip(2).filter_map(|line| line.split_once(' ')).filter_map(epoch).collect()
    }

    /// Kills it, as a machine that loses power would, but for what the operating system has yet to write.
    ///
    /// # Errors
    ///
    /// When the system does not let us.
    pub fn crash(&mut self) -> io::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Stops it in order. One that hasn't ended after half a minute is killed.
    ///
    /// # Errors
    ///
    /// When the system does not let us.
    pub fn stop(&mut self) -> io::Result<()> {
        self.process.take().map_or(Ok(()), |process| process.stop(STOP))
    }

    /// Stops it in order, with as much patience as for a start.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.process.take().map_or(Ok(()), |process| process.stop(START))
    }

    /// Starts it again with its data at its address, and waits until it serves. One that still runs is stopped in order
    /// first.
    ///
    /// # Errors
    ///
    /// [`StartError::Failed`] when it does not come back.
    pub fn restart(&mut self) -> Result<(), StartError> {
        self.stop().map_err(StartError::system("to end first"))?;
        self.run()
    }

    /// Stops its process where it is: connections stay, and nothing answers.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// A command that runs a class of Kafka's tools, such as `org.apache.kafka.tools.TopicCommand`. Its compiler is the
    /// broker's, so for tools that measure start the broker with [`Options::with_full_jit`].
    pub fn tool<A: AsRef<str>>(&self, class: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("java");
        command.args(self.java()).arg(class);
        command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        command
    }

    fn java(&self) -> Vec<String> {
        self.java.arguments(&self.options.heap, self.options.full_jit)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let process = self.process.as_ref().ok_or_else(|| io::Error::other("the broker does not run"))?;
        process.signal(signal)
    }

    /// Writes its configuration, and makes its data folder one.
    pub(crate) fn configure(&self) -> Result<(), StartError> {
        let text = properties::text(&self.options, &self.layout, &self.path("data"));
        fs::write(self.path("server.properties"), text).map_err(StartError::system("a configuration file"))?;
        if let Some(hosts) = &self.layout.hosts {
            fs::write(self.path("hosts"), hosts).map_err(StartError::system("a file of hosts"))?;
        }
        let output = self
            .tool("kafka.tools.StorageTool", ["format", "-t", CLUSTER, "-c"])
            .arg(self.path("server.properties"))
            .args(&self.options.format)
            .output()
            .map_err(StartError::system("java"))?;
        if output.status.success() {
            return Ok(());
        }
        let log = [output.stdout, output.stderr].concat();
        let log = last_lines(&String::from_utf8_lossy(&log));
        Err(StartError::Failed { problem: format!("could not format its data folder ({})", output.status), log })
    }

    /// Runs it and waits until it serves.
    fn run(&mut self) -> Result<(), StartError> {
        let logged = self.spawn()?;
        self.wait_until_it_serves(logged)
    }

    /// Runs it; how long its log was before.
    pub(crate) fn spawn(&mut self) -> Result<usize, StartError> {
        let log = File::options().append(true).create(true).open(self.path("log"));
        let log = log.map_err(StartError::system("a log file"))?;
        let logged = self.log().len();
        let mut command = vec!["java".to_owned()];
        command.extend(self.java());
        if self.layout.hosts.is_some() {
            command.push(format!("-Djdk.net.hosts.file={}", self.path("hosts").display()));
        }
        // That it serves, and who leads a partition, with which replicas in sync, and where a log was cut.
        for class in ["kafka.server.KafkaRaftServer", "kafka.cluster.Partition", "kafka.server.ReplicaFetcherThread"] {
            command.push(format!("-Dorg.slf4j.simpleLogger.log.{class}=info"));
        }
        command.extend(["kafka.Kafka".to_owned(), self.path("server.properties").display().to_string()]);
        self.process =
            Some(Process::spawn(&command, self.folder.path(), log).map_err(StartError::system("a process"))?);
        Ok(logged)
    }

    /// Waits until it serves, by what it has logged since its log was `logged` long. One that does not is ended.
    pub(crate) fn wait_until_it_serves(&mut self, logged: usize) -> Result<(), StartError> {
        let deadline = Instant::now() + START;
        let problem = loop {
            let ended = self.process.as_mut().map_or(Ok(None), Process::ended);
            let ended = ended.map_err(StartError::system("to be waited for"))?;
            if self.log().get(logged..).is_some_and(|log| log.contains(READY)) {
                return Ok(());
            }
            if let Some(status) = ended {
                break format!("ended while it started ({status})");
            }
            if Instant::now() > deadline {
                break format!("did not serve within {} s", START.as_secs());
            }
            thread::sleep(LOOK);
        };
        self.process = None;
        Err(StartError::Failed { problem, log: last_lines(&self.log()) })
    }
}

/// The end of a log, without the lines of stack traces that say nothing but where.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("\tat ")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A line of the file of leaders' epochs.
fn epoch((epoch, offset): (&str, &str)) -> Option<(i32, i64)> {
    Some((epoch.parse().ok()?, offset.trim().parse().ok()?))
}

/// The size of all segments of records below a folder.
fn records(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Segments come and go while we look.
        let Ok(metadata) = path.metadata() else { continue };
        if metadata.is_dir() {
            sum += records(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "log") {
            sum += metadata.len();
        }
    }
    Ok(sum)
}
