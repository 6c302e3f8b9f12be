//! The command line of `drive`.

use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use numaflow_sdk::parse_duration;
use tokio::sync::watch;

use super::{Destination, Drive, DriveError, Input, Lines, Report, ServerAt, Settings, Until, show};
use crate::error::{Failure, chain};
use crate::signals::signals;

/// What stands for standard input or output.
const STANDARD: &str = "-";

/// The flags of `drive`.
#[derive(Debug, Clone, Args)]
pub struct DriveArgs {
    /// Where messages come from: the socket of a source server, a file of lines, or - for standard input
    #[arg(long, value_name = "SOCKET|FILE|-")]
    source: PathBuf,
    /// The socket of a map server [default: no map, messages go out as they came in]
    #[arg(long, value_name = "SOCKET")]
    map: Option<PathBuf>,
    /// The server-info file of the source server
    #[arg(long, value_name = "FILE")]
    source_info: Option<PathBuf>,
    /// The server-info file of the map server, which names its mode [default: unary mode]
    #[arg(long, value_name = "FILE", requires = "map")]
    map_info: Option<PathBuf>,
    /// Where outputs go, one value a line; - for standard output [default: they are counted and not written]
    #[arg(long, value_name = "FILE|-")]
    out: Option<PathBuf>,
    /// Where outputs tagged dead-letter go [default: the file of --out with .dead at its end]
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// How many messages a read asks for
    #[arg(long, value_name = "N", default_value = "500")]
    batch_size: NonZeroUsize,
    /// How long a read waits for them
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    read_timeout: Duration,
    /// How many messages the map is given at a time [default: the batch size]
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,
    /// Stop when this many distinct messages are acked
    #[arg(long, value_name = "N", conflicts_with = "until_idle")]
    count: Option<u64>,
    /// Stop when the source says that nothing is pending
    #[arg(long)]
    until_idle: bool,
    /// Print the summary as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Parses a flag's time.
pub(crate) fn time(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).map_err(|_| "give a time with its unit, such as 500ms, 25s or 2m")
}

/// Runs the command: until its end, or a signal; a second signal ends it at once.
///
/// # Errors
///
/// What the run fails with, a source that isn't there, messages left unresolved by a signal.
pub fn command(args: &DriveArgs) -> Result<(), Failure> {
    let (until, told) = watch::channel(args.until());
    let settings = args.settings(told.clone())?;
    let set_up = |source| Failure::from(DriveError::SetUp { source });
    let mut signals = signals().map_err(set_up)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(set_up)?;
    let (drive, watcher) = Drive::new(settings);
    let result = runtime.block_on(async {
        tokio::select! {
            (result, ()) = async { tokio::join!(drive.run(), show(watcher, told)) } => result.map_err(Failure::from),
            () = twice(&mut signals, &until) => Err(Failure::Run("stopped at once by a second signal".to_owned())),
        }
    });
    // Does not wait for a read of standard input or a write that stands still.
    runtime.shutdown_background();
    let report = result?;
    let ended_by = *until.borrow();
    args.print(&report).map_err(|source| DriveError::Output { name: "the summary".to_owned(), source })?;
    let resolved = report.counts.resolved();
    match (report.unresolved, ended_by) {
        // Nobody stopped it, so it ended with its input.
        (0, Until::Resolved(wanted)) if resolved < wanted => Err(DriveError::TooFew { resolved, wanted }.into()),
        (0, _) => Ok(()),
        (messages, _) => Err(DriveError::Unresolved { messages }.into()),
    }
}

/// Tells the run to stop at the first signal and returns at the second.
async fn twice(signals: &mut watch::Receiver<u32>, until: &watch::Sender<Until>) {
    // The thread that counts them lives as long as the process.
    drop(signals.wait_for(|count| *count >= 1).await);
    until.send_replace(Until::Now);
    drop(signals.wait_for(|count| *count >= 2).await);
}

impl DriveArgs {
    fn until(&self) -> Until {
        match self.count {
            Some(count) => Until::Resolved(count),
            None if self.until_idle => Until::Idle,
            None => Until::Told,
        }
    }

    fn settings(&self, until: watch::Receiver<Until>) -> Result<Settings, Failure> {
        let mut settings = Settings::new(self.input()?, until);
        settings.map = self.map.as_ref().map(|socket| ServerAt { socket: socket.clone(), info: self.map_info.clone() });
        settings.out = self.out.as_ref().map(|out| match is_standard(out) {
            true => Destination::Stdout,
            false => Destination::File(out.clone()),
        });
        settings.dead_letters = self.dead_letters.clone();
        settings.batch_size = self.batch_size.get();
        settings.read_timeout = self.read_timeout;
        settings.concurrency = self.concurrency.unwrap_or(self.batch_size).get();
        Ok(settings)
    }

    /// What `--source` names. A socket that isn't there yet is told from a mistyped file by its name or its info file.
    fn input(&self) -> Result<Input, Failure> {
        let server = || Input::Server(ServerAt { socket: self.source.clone(), info: self.source_info.clone() });
        if !is_standard(&self.source) {
            match fs::metadata(&self.source) {
                Ok(metadata) if metadata.file_type().is_socket() => return Ok(server()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.source_info.is_some() || self.source.extension().is_some_and(|name| name == "sock") {
                        return Ok(server());
                    }
                    return Err(Failure::configuration(format!(
                        "--source {}: there is no such file or socket; to wait for a socket, give it a name that ends \
                         in .sock",
                        self.source.display()
                    )));
                }
                Ok(_) | Err(_) => {}
            }
        }
        if self.source_info.is_some() {
            return Err(Failure::configuration(format!(
                "--source-info is for source servers, and --source {} is not a socket",
                self.source.display()
            )));
        }
        Ok(Input::Lines(match is_standard(&self.source) {
            true => Lines::Stdin,
            false => Lines::File(self.source.clone()),
        }))
    }

    /// Prints the summary: on standard output, unless the outputs are there and people read the summary.
    fn print(&self, report: &Report) -> io::Result<()> {
        if self.json {
            return writeln!(io::stdout(), "{}", serde_json::to_string(report)?);
        }
        match self.out.as_deref().is_some_and(is_standard) {
            true => writeln!(io::stderr(), "{report}"),
            false => writeln!(io::stdout(), "{report}"),
        }
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD
}

impl From<DriveError> for Failure {
    fn from(error: DriveError) -> Self {
        let text = chain(&error);
        if error.is_configuration() { Self::configuration(text) } else { Self::Run(text) }
    }
}
