//! The command: a run with the process's signals, terminal and exit code around it.

use tokio::sync::watch;

use super::{Drive, DriveArgs, DriveError, Ended, Report, Until, show, tell};
use crate::error::{Failure, chain};
use crate::print::{line, note};
use crate::signals::signals;

/// Runs the command: until its end, or a signal; a second signal ends it at once.
///
/// # Errors
///
/// What the run fails with, a source that isn't there, messages left unresolved by a signal, the exit of the platform that
/// is played.
pub fn command(args: &DriveArgs) -> Result<(), Failure> {
    let (until, told) = watch::channel(args.until());
    let settings = args.settings(told.clone())?;
    let set_up = |source| Failure::from(DriveError::SetUp { source });
    let mut signals = signals().map_err(set_up)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(set_up)?;
    let (drive, watcher) = Drive::new(settings);
    let shown = async {
        if args.quiet {
            tell(watcher).await;
        } else {
            show(watcher, told).await;
        }
    };
    let result = runtime.block_on(async {
        tokio::select! {
            (result, ()) = async { tokio::join!(drive.run(), shown) } => Some(result),
            () = twice(&mut signals, &until) => None,
        }
    });
    // Does not wait for a read of standard input or a write that stands still.
    runtime.shutdown_background();
    let report = match result {
        Some(Ok(report)) => report,
        Some(Err(error)) if error.is_closed_pipe() => return Ok(()),
        Some(Err(error)) => return Err(error.into()),
        None => return Err(Failure::Run("stopped at once by a second signal".to_owned())),
    };
    let ended_by = *until.borrow();
    print(args, &report)?;
    let resolved = report.counts.resolved();
    match (report.ended, report.unresolved, ended_by) {
        // What was asked for.
        (Ended::Killed, _, _) => Ok(()),
        (Ended::Exited(reason), _, _) => Err(Failure::Run(reason)),
        // Nobody stopped it, so it ended with its input.
        (_, 0, Until::Resolved(wanted)) if resolved < wanted => Err(DriveError::TooFew { resolved, wanted }.into()),
        (_, 0, _) => Ok(()),
        (_, messages, _) => Err(DriveError::Unresolved { messages }.into()),
    }
}

/// Tells the run to stop at the first signal and returns at the second.
async fn twice(signals: &mut watch::Receiver<u32>, until: &watch::Sender<Until>) {
    // The thread that counts them lives as long as the process.
    drop(signals.wait_for(|count| *count >= 1).await);
    until.send_replace(Until::Now);
    drop(signals.wait_for(|count| *count >= 2).await);
}

/// Prints the summary: on standard output, unless the outputs are there and people read the summary.
fn print(args: &DriveArgs, report: &Report) -> Result<(), Failure> {
    if args.json {
        return line(serde_json::to_string(report).map_err(|error| Failure::run(&error))?);
    }
    match args.writes_to_stdout() {
        _ if args.quiet => {}
        true => note(report),
        false => line(report)?,
    }
    Ok(())
}

impl From<DriveError> for Failure {
    fn from(error: DriveError) -> Self {
        let text = chain(&error);
        if error.is_configuration() { Self::configuration(text) } else { Self::Run(text) }
    }
}
