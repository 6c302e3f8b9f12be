//! `udf-server drive`: plays the platform for a source and a map.
//!
//! It reads batches from a source server (or lines of a file), sends them through a map server, writes the outputs and
//! acks a batch once all of it is written, and it meets failures as the platform does from its `main` branch on: it
//! reconnects and sends again what was in flight. [`Drive`] is the same for programs, such as the demo.

mod args;
mod dial;
mod journal;
mod lines;
mod map;
mod output;
mod pipeline;
mod progress;
mod report;
mod resolved;
mod source;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use numaflow_sdk::testing::{ClientError, InfoError, MapMode};
use tokio::sync::watch;
use tokio::time::sleep;

use journal::Journal;
use lines::LineSource;
use map::Map;
use output::Output;
use pipeline::{Pipeline, Source};
use source::SourceHandle;

pub(crate) use args::time;
pub use args::{DriveArgs, command};
pub use dial::ServerAt;
pub use journal::{Counts, Notice, Watcher};
pub use lines::Lines;
pub use output::Destination;
#[cfg(feature = "kafka")]
pub(crate) use output::check;
pub use progress::show;
pub use report::{Latency, Report};

/// What a run is to do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Where messages come from.
    pub input: Input,
    /// The map, in the mode that its server-info names; without one, messages go out as they came in.
    pub map: Option<ServerAt>,
    /// Where outputs go, one value a line; `None` counts them and writes none.
    pub out: Option<Destination>,
    /// Where outputs tagged `dead-letter` go; beside `out` with `.dead` at the end of its name, where that is a file.
    pub dead_letters: Option<PathBuf>,
    /// How many messages a read asks for. 500 as on the platform.
    pub batch_size: usize,
    /// How long a read waits for them. 1 s as on the platform.
    pub read_timeout: Duration,
    /// How many messages the map is given at a time. The batch size as on the platform. In batch mode it is given all that
    /// a read has come back with.
    pub concurrency: usize,
    /// When to stop; its sender can change that while the run is on.
    pub until: watch::Receiver<Until>,
    /// How long the batch in flight may take after [`Until::Now`]. 20 s as on the platform.
    pub grace: Duration,
    /// How often what is tried again. As on the platform.
    pub pauses: Pauses,
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A source server.
    Server(ServerAt),
    /// Lines, one message each.
    Lines(Lines),
}

/// When a run stops. Lines also end with their input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// When told so: not before this is changed.
    Told,
    /// When the source says that nothing is pending, after a read that came back empty.
    Idle,
    /// When this many distinct messages are resolved and acked, those that were before this was set included.
    Resolved(u64),
    /// Now, but for the batch in flight.
    Now,
}

/// How long the driver waits before it tries something again, and between regular questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pauses {
    /// Between two attempts to connect.
    pub dial: Duration,
    /// Before messages are sent to a map for the third time and more often; the second time is at once.
    pub redrive: Duration,
    /// Before acks are sent again.
    pub ack: Duration,
    /// Before nacks are sent again.
    pub nack: Duration,
    /// Between two questions for pending messages.
    pub pending: Duration,
    /// Between two questions for partitions.
    pub partitions: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(1),
            redrive: Duration::from_secs(1),
            ack: Duration::from_millis(100),
            nack: Duration::from_millis(100),
            pending: Duration::from_secs(5),
            partitions: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// Creates settings with the platform's defaults: no map, no output, until `until` says so.
    #[must_use]
    pub fn new(input: Input, until: watch::Receiver<Until>) -> Self {
        Self {
            input,
            map: None,
            out: None,
            dead_letters: None,
            batch_size: 500,
            read_timeout: Duration::from_secs(1),
            concurrency: 500,
            until,
            grace: Duration::from_secs(20),
            pauses: Pauses::default(),
        }
    }
}

/// A run that is set up and not yet started.
#[derive(Debug)]
pub struct Drive {
    settings: Settings,
    journal: Journal,
}

impl Drive {
    /// Creates a run, and what is needed to watch it.
    #[must_use]
    pub fn new(settings: Settings) -> (Self, Watcher) {
        let (journal, watcher) = Journal::new();
        (Self { settings, journal }, watcher)
    }

    /// Runs to the end that the settings say.
    ///
    /// Servers that are not there are waited for, and failures are met as the platform meets them, so only what trying
    /// again can't mend is an error. A run that was told to stop while its batch couldn't be finished within the grace
    /// period is no error: its report says how many messages are unresolved.
    ///
    /// # Errors
    ///
    /// An input that can't be read, an output that can't be written or is the input, servers that were not reached before
    /// the run was told to stop, a server that breaks the protocol, a server-info
    /// file that is not valid, a map that changes its mode.
    pub async fn run(self) -> Result<Report, DriveError> {
        let Self { settings, journal } = self;
        let mut until = settings.until.clone();
        let lines = match &settings.input {
            Input::Lines(lines) => Some(lines),
            Input::Server(_) => None,
        };
        output::check(lines, settings.out.as_ref(), settings.dead_letters.as_deref())?;
        let connected = tokio::select! {
            connected = connect(&settings, &journal) => Some(connected?),
            () = stopped(&mut until) => None,
        };
        let (source, map) = connected.ok_or(DriveError::NotReached)?;
        // Not before the servers are there: what an earlier run left is kept when nothing comes of this one.
        let output = Output::open(settings.out.as_ref(), settings.dead_letters.as_deref()).await?;
        let mut pipeline = Pipeline::new(source, map, output, &settings, journal);
        tokio::select! {
            result = pipeline.run() => result?,
            () = async { stopped(&mut until).await; sleep(settings.grace).await } => {}
        }
        Ok(pipeline.report())
    }
}

/// Connects in the platform's order: the source, then the map.
async fn connect(settings: &Settings, journal: &Journal) -> Result<(Source, Option<Map>), DriveError> {
    let source = match &settings.input {
        Input::Server(server) => {
            let until = settings.until.clone();
            let handle = SourceHandle::connect(server.clone(), settings.pauses, until, journal.clone()).await?;
            Source::Server(handle)
        }
        Input::Lines(lines) => Source::Lines(LineSource::open(lines)?),
    };
    let map = match &settings.map {
        Some(server) => Some(Map::connect(server.clone(), settings.pauses, journal.clone()).await?),
        None => None,
    };
    Ok((source, map))
}

/// Waits until the run is told to stop.
async fn stopped(until: &mut watch::Receiver<Until>) {
    if until.wait_for(|until| *until == Until::Now).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending::<()>().await;
    }
}

/// Why a run failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum DriveError {
    /// An input or output can't be opened.
    Open {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// An output is the file that is read.
    SameFile {
        /// The input's name.
        input: String,
        /// The output's name.
        output: String,
    },
    /// The input can't be read.
    Input {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// An output can't be written.
    Output {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// A server broke the protocol.
    Server {
        /// Its socket.
        socket: PathBuf,
        /// What it did.
        error: ClientError,
    },
    /// A server-info file is not valid.
    Info(InfoError),
    /// A map came back in another mode.
    MapMode {
        /// Its socket.
        socket: PathBuf,
        /// The mode that it was served in.
        was: MapMode,
        /// The mode that it is served in now.
        is: MapMode,
    },
    /// The task that owns the source's client is gone.
    SourceTaskLost,
    /// The run was stopped before it reached its servers.
    NotReached,
    /// The input ended too early.
    TooFew {
        /// How many distinct messages were acked.
        resolved: u64,
        /// How many there should have been.
        wanted: u64,
    },
    /// The program can't be set up.
    SetUp {
        /// What the system says.
        source: io::Error,
    },
    /// The run was stopped before its last batch was complete.
    Unresolved {
        /// How many messages were read and not acked.
        messages: u64,
    },
}

impl DriveError {
    /// Whether the mistake is in what was asked for.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::SameFile { .. })
    }
}

impl fmt::Display for DriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { name, .. } => write!(f, "{name} cannot be opened"),
            Self::SameFile { input, output } => {
                write!(f, "the output {output} is the same file as the input {input}: name another for the output")
            }
            Self::Input { name, .. } => write!(f, "{name} cannot be read"),
            Self::Output { name, .. } => write!(f, "{name} cannot be written"),
            Self::Server { socket, .. } => write!(f, "the server on {} cannot be driven", socket.display()),
            Self::Info(_) => f.write_str("a server cannot be driven"),
            Self::MapMode { socket, was, is } => {
                write!(f, "the map on {} was served as {was}, and is now as {is}: start drive again", socket.display())
            }
            Self::SourceTaskLost => f.write_str("the task that talks to the source ended"),
            Self::NotReached => f.write_str("stopped before the servers were reached: nothing was read or written"),
            Self::TooFew { resolved, wanted } => {
                write!(f, "the input ended after {resolved} messages, and --count asks for {wanted}")
            }
            Self::SetUp { .. } => f.write_str("drive cannot be started"),
            Self::Unresolved { messages } => {
                write!(f, "stopped with {messages} messages read and not acked; the source still has them")
            }
        }
    }
}

impl Error for DriveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Open { source, .. }
            | Self::Input { source, .. }
            | Self::Output { source, .. }
            | Self::SetUp { source } => Some(source),
            Self::Server { error, .. } => Some(error),
            Self::Info(error) => Some(error),
            Self::SameFile { .. }
            | Self::MapMode { .. }
            | Self::SourceTaskLost
            | Self::NotReached
            | Self::TooFew { .. }
            | Self::Unresolved { .. } => None,
        }
    }
}
