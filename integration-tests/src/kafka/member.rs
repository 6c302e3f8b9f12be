//! A member of the group: a source and the platform that drives it, each a process.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Outcome;
use super::process::Process;
use super::stage::Stage;
use crate::case::Kind;
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::source::partitions;

/// How long the end of a source may take after SIGTERM: its drain, and leaving the group.
const END: Duration = Duration::from_secs(20);
/// How long its drain may take.
const DRAIN: &str = "6s";

/// What the processes of a member are told, beyond where they find each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders {
    /// The topics to read, where they are others than the stage's one.
    pub(super) topics: Option<String>,
    /// Flags of `udf-server kafka-source`.
    pub(super) source: Vec<String>,
    /// Flags of the driver.
    pub(super) driver: Vec<String>,
}

impl Orders {
    /// Orders of these flags.
    pub(super) fn new(source: &[&str], driver: &[&str]) -> Self {
        let owned = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { topics: None, source: owned(source), driver: owned(driver) }
    }
}

/// One source and its driver, either of which may be down.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    program: PathBuf,
    folder: PathBuf,
    orders: Orders,
    source_flags: Vec<String>,
    seed: u64,
    /// How many drivers there have been; each writes a journal of its own.
    drivers: u64,
    pub(super) source: Option<Process>,
    pub(super) driver: Option<Process>,
    /// When the end of the source was asked for, if it was.
    ending: Option<Instant>,
}

impl Member {
    /// A member that does not run yet. Its logs and journals are in `folder`.
    pub(super) fn new(
        name: impl Into<String>,
        stage: &Stage,
        program: &Path,
        folder: &Path,
        orders: Orders,
        seed: u64,
    ) -> Self {
        let source_flags = [
            ("--brokers", &*stage.site.address),
            ("--topics", orders.topics.as_ref().unwrap_or(&stage.topic)),
            ("--group", &stage.group),
            ("--drain-timeout", DRAIN),
            // A source that is started while the broker is down waits for it.
            ("--connect-timeout", "120s"),
        ];
        let source_flags = source_flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]);
        Self {
            name: name.into(),
            program: program.to_owned(),
            folder: folder.to_owned(),
            source_flags: source_flags.chain(orders.source.iter().cloned()).collect(),
            orders,
            seed,
            drivers: 0,
            source: None,
            driver: None,
            ending: None,
        }
    }

    /// Starts the source, unless it runs.
    pub(super) fn start_source(&mut self) -> Outcome<()> {
        if self.source.is_some() {
            return Ok(());
        }
        let mut command: Vec<OsString> = vec![self.program.clone().into(), "kafka-source".into()];
        command.extend(self.source_flags.iter().map(OsString::from));
        command.extend(["--socket".into(), self.path("sock").into(), "--server-info".into(), self.path("info").into()]);
        self.source = Some(Process::start(command, &self.path("source.log"))?);
        Ok(())
    }

    /// Starts the driver, unless it runs.
    pub(super) fn start_driver(&mut self) -> Outcome<()> {
        if self.driver.is_some() {
            return Ok(());
        }
        self.drivers += 1;
        let journal = self.path(&format!("{}.journal", self.drivers));
        let seed = self.seed.wrapping_add(self.drivers).to_string();
        let mut command: Vec<OsString> = vec![std::env::current_exe()?.into(), "driver".into()];
        command.extend(["--socket".into(), self.path("sock").into()]);
        command.extend(["--journal".into(), journal.into(), "--seed".into(), seed.into()]);
        command.extend(self.orders.driver.iter().map(OsString::from));
        self.driver = Some(Process::start(command, &self.path("driver.log"))?);
        Ok(())
    }

    /// Starts both.
    pub(super) fn start(&mut self) -> Outcome<()> {
        self.start_source()?;
        self.start_driver()
    }

    /// Kills the source.
    pub(super) fn kill_source(&mut self) -> Outcome<()> {
        self.ending = None;
        Ok(self.source.take().map_or(Ok(()), |mut source| source.kill())?)
    }

    /// Kills the driver.
    pub(super) fn kill_driver(&mut self) -> Outcome<()> {
        Ok(self.driver.take().map_or(Ok(()), |mut driver| driver.kill())?)
    }

    /// Asks the source to end.
    pub(super) fn terminate_source(&mut self) -> Outcome<()> {
        if let Some(source) = &mut self.source {
            source.terminate()?;
            self.ending.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Stops the source where it is, unless it is on its way out.
    pub(super) fn stop_source(&mut self) -> Outcome<()> {
        match &mut self.source {
            Some(source) if self.ending.is_none() => Ok(source.stop()?),
            _ => Ok(()),
        }
    }

    /// Whether a source whose end was asked for is gone, in order and in time; also where none was.
    pub(super) fn source_is_gone(&mut self) -> Outcome<bool> {
        let (Some(since), Some(source)) = (self.ending, &mut self.source) else { return Ok(true) };
        match source.ended()? {
            // One that had not yet got to handling signals is ended by it.
            Some(status) if status.success() || status.signal() == Some(Signal::TERM.as_raw()) => {
                (self.ending, self.source) = (None, None);
                Ok(true)
            }
            Some(status) => Err(format!("the source {} was asked to end and did, with {status}", self.name).into()),
            None if since.elapsed() < END => Ok(false),
            None => Err(format!("the source {} has not ended {} s after SIGTERM", self.name, END.as_secs()).into()),
        }
    }

    /// Fails if a process has ended that nobody has ended.
    pub(super) fn check(&mut self) -> Outcome<()> {
        let unasked = |what: &str, status: ExitStatus, log: PathBuf| {
            Err(format!("the {what} {} ended by itself with {status}: see {}", self.name, log.display()).into())
        };
        if self.ending.is_none()
            && let Some(source) = &mut self.source
            && let Some(status) = source.ended()?
        {
            return unasked("source", status, self.path("source.log"));
        }
        if let Some(driver) = &mut self.driver
            && let Some(status) = driver.ended()?
        {
            return unasked("driver", status, self.path("driver.log"));
        }
        Ok(())
    }

    /// How many partitions the source says that it has; `None` while it does not answer.
    pub(super) fn assigned(&self) -> Outcome<Option<usize>> {
        let target = Target::new(Kind::Source, self.path("sock"), self.path("info"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(async {
            let connection = Connection::to(&target).await?;
            partitions(&connection).await
        });
        Ok(asked.ok().map(|answer| answer.partitions.len()))
    }

    fn path(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", self.name))
    }
}
