//! `udf-server drive`: plays the platform for a source and a map.
//!
//! It reads batches from a source server (or lines of a file, or makes messages itself), sends them through a map server,
//! writes the outputs and acks a batch once all of it is written. It meets failures as the platform does: the one of the
//! `main` branch reconnects and sends again what was in flight, 1.8 exits. It can also be the trouble itself: vanish, leave
//! streams, send ids twice, nack, read slowly. [`Drive`] is the same for programs, such as the demo.

mod args;
mod breach;
mod command;
mod context;
mod dial;
mod error;
mod generator;
mod input;
mod journal;
mod lines;
mod map;
mod output;
mod pace;
mod pipeline;
mod progress;
mod report;
mod resolved;
mod settings;
mod source;
mod wire;

use tokio::sync::watch;
use tokio::time::sleep;

use context::Context;
use input::Reader;
use journal::Journal;
use map::Map;
use output::Output;
use pipeline::Pipeline;

pub use args::DriveArgs;
pub(crate) use args::time;
pub use breach::{Breach, Breached};
pub use command::command;
pub use dial::ServerAt;
pub use error::DriveError;
pub use generator::Generate;
pub use journal::{Counts, Notice, Watcher};
pub use lines::Lines;
#[cfg(feature = "kafka")]
pub(crate) use output::check;
pub use output::{Destination, Format};
pub use progress::{show, tell};
pub use report::{Ended, Latency, Report};
pub use settings::{Faults, Input, Pauses, Platform, Settings, Until};

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
    /// Servers that are not there are waited for as long as [`Settings::wait`] says, and failures are met as the platform meets them, so only what trying
    /// again can't mend is an error. No errors are a run that was told to stop while its batch couldn't be finished within
    /// the grace period, one that was to be killed, and one that the platform played here ends by exiting:
    /// [`Report::ended`] tells, and the report says how many messages are unresolved.
    ///
    /// # Errors
    ///
    /// An input that can't be read, an output that can't be written or is the input or the dead letters, outputs to standard
    /// output that leave no place for dead letters, a server that keeps the driver waiting for too long, servers that were not reached before
    /// the run was told to stop, a server that breaks the protocol in a way that the platform can't go on after, a
    /// server-info file that is not valid, a map that changes its mode.
    pub async fn run(self) -> Result<Report, DriveError> {
        let Self { settings, journal } = self;
        let mut until = settings.until.clone();
        let lines = match &settings.input {
            Input::Lines(lines) => Some(lines),
            Input::Server(_) | Input::Generate(_) => None,
        };
        output::check(lines, settings.out.as_ref(), settings.dead_letters.as_deref())?;
        check_servers(&settings)?;
        let context = Context::new(&settings, journal);
        let connected = tokio::select! {
            connected = connect(&settings, &context) => Some(connected),
            () = stopped(&mut until) => None,
        };
        let (input, map) = connected.ok_or(DriveError::NotReached)??;
        // Not before the servers are there: what an earlier run left is kept when nothing comes of this one.
        let output = Output::open(settings.out.as_ref(), settings.dead_letters.as_deref(), settings.format).await?;
        let mut pipeline = Pipeline::new(input, map, output, &settings, context.clone());
        let ended = tokio::select! {
            biased;
            () = context.killed.told() => Ended::Killed,
            result = pipeline.run() => match result {
                Ok(()) => if *until.borrow() == Until::Now { Ended::Stopped } else { Ended::Done },
                Err(exits @ DriveError::Exits { .. }) => Ended::Exited(crate::error::chain(&exits)),
                Err(error) => return Err(error),
            },
            () = async { stopped(&mut until).await; sleep(settings.grace).await } => Ended::Stopped,
        };
        Ok(pipeline.report(ended))
    }
}

/// Refuses what could not be done, before anything is read.
fn check_servers(settings: &Settings) -> Result<(), DriveError> {
    let source = match &settings.input {
        Input::Server(server) => Some(server),
        Input::Lines(_) | Input::Generate(_) => None,
    };
    for server in source.into_iter().chain(&settings.map) {
        numaflow_sdk::check_socket_path(&server.socket).map_err(DriveError::Socket)?;
    }
    let is_stdout = settings.out == Some(Destination::Stdout);
    if settings.map.is_some() && is_stdout && settings.dead_letters.is_none() {
        return Err(DriveError::NoDeadLetters);
    }
    Ok(())
}

/// Connects in the platform's order: the source, then the map.
async fn connect(settings: &Settings, context: &Context) -> Result<(Reader, Option<Map>), DriveError> {
    let input = Reader::open(settings, context).await?;
    let map = match &settings.map {
        Some(server) => Some(Map::connect(server.clone(), settings.faults, context.clone()).await?),
        None => None,
    };
    Ok((input, map))
}

/// Waits until the run is told to stop.
async fn stopped(until: &mut watch::Receiver<Until>) {
    if until.wait_for(|until| *until == Until::Now).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending::<()>().await;
    }
}
