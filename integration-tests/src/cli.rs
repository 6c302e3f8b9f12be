//! The command line `numaflow-conformance`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::program::{self, Outcome};
use crate::{Case, Kind, Subject, Suite, Target, cases};

mod json;
mod junit;
mod list;
mod run;
mod table;

/// A mistake in the command line or in a file it names: no server is to blame.
const USAGE: u8 = 64;
/// The run was broken off by a signal.
const INTERRUPTED: u8 = 130;

/// Grades a Numaflow map or source, in whatever language it is written.
///
/// The server under test does what the handler contract says (`numaflow-conformance contract` prints it). The suite plays
/// the platform: it talks to the server's Unix socket and reads its server-info file, and knows nothing else of it.
///
/// Examples:
///
///   numaflow-conformance run --kind map-unary --socket /tmp/map.sock --server-info /tmp/mapper-server-info
///
///   numaflow-conformance run --kind source --exec 'java -jar contract.jar' --junit results.xml
///
///   numaflow-conformance explain general.half-close
///
/// Exit codes: 0 no MUST is broken but for known gaps, 1 one is or a known gap is none any more, 64 a mistake in the
/// command line, no server, or a file that can't be read or written, 130 broken off.
#[derive(Debug, Parser)]
#[command(name = "numaflow-conformance", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays the cases against a server
    Run(Box<RunArgs>),
    /// Lists the cases
    List {
        /// Only those for this kind of server: map-unary, map-batch, map-stream, source
        #[arg(long, value_name = "KIND")]
        kind: Option<Kind>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Says what a case proves, and where the protocol says so
    Explain {
        /// The id of the case
        id: String,
    },
    /// Prints the handler contract: what the server under test has to do
    Contract,
}

/// What `run` is told.
#[derive(Debug, Args)]
struct RunArgs {
    /// What the server serves: map-unary, map-batch, map-stream, source
    #[arg(long, value_name = "KIND")]
    kind: Kind,
    /// The Unix socket of a server that runs [default: the platform's path for the kind]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The server-info file of a server that runs [default: the platform's path for the kind]
    #[arg(long, value_name = "PATH")]
    server_info: Option<PathBuf>,
    /// Start the server with this command instead, anew for each case: a simple command for sh, which expands variables
    /// and becomes it (`env NAME=VALUE ./server` sets variables, `sh -c '...'` does the rest). It is told CONFORMANCE_KIND, CONFORMANCE_SOCKET and CONFORMANCE_SERVER_INFO. Cases that need to
    /// start, end or kill a server are not run without it
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["socket", "server_info"])]
    exec: Option<String>,
    /// Only the case with this id, or those that have this in their id; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Gaps that are known: their cases may fail, and must
    #[arg(long, value_name = "FILE")]
    known_gaps: Option<PathBuf>,
    /// Write what fails as a list of gaps; the reasons are left to be filled in, or taken from --known-gaps
    #[arg(long, value_name = "FILE")]
    write_gaps: Option<PathBuf>,
    /// A broken SHOULD counts like a broken MUST, and so does a part of the contract that is not offered, and a case that
    /// is not run
    #[arg(long)]
    strict: bool,
    /// How many cases run at a time, with --exec [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The end of the whole run, in seconds, whatever the server does
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    deadline: u64,
    /// Write the results as JSON to this file; - is standard output, and then no table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results as JUnit XML to this file; - is standard output, and then no table
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl RunArgs {
    /// The run that is asked for.
    fn suite(&self) -> Outcome<Suite> {
        if [&self.json, &self.junit].iter().all(|path| path.as_deref() == Some(Path::new("-"))) {
            return Err("--json and --junit can't both be standard output: give one of them a file".into());
        }
        let kind = self.kind;
        let subject = match &self.exec {
            Some(command) => Subject::Command { kind, command: command.clone() },
            None => {
                let path = |given: &Option<PathBuf>, default: &str| given.clone().unwrap_or_else(|| default.into());
                Subject::Running(Target::new(
                    kind,
                    path(&self.socket, kind.default_socket()),
                    path(&self.server_info, kind.default_server_info()),
                ))
            }
        };
        let mut suite = Suite::new(subject);
        // A whole id means that case, and not those whose ids begin like it.
        let is_wanted =
            |case: &Case, text: &str| case.id == text || (cases::find(text).is_none() && case.id.contains(text));
        let wanted = |case: &&Case| self.only.is_empty() || self.only.iter().any(|text| is_wanted(case, text));
        suite.cases.retain(wanted);
        if suite.cases.is_empty() {
            return Err(format!(
                "no case for {kind} has {} in its id: `numaflow-conformance list --kind {kind}` shows them",
                self.only.join(" or ")
            )
            .into());
        }
        suite.jobs = self.jobs.unwrap_or(suite.jobs);
        suite.deadline = Duration::from_secs(self.deadline);
        Ok(suite)
    }
}

/// The program `numaflow-conformance`: does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes. Where nothing can be printed there is nobody to tell.
            _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::List { kind, json } => printed(list::list(kind, json)),
        Command::Explain { id } => printed(list::explain(&id)),
        Command::Contract => printed(list::contract()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            program::note(&format!("numaflow-conformance: {error}"));
            if io_kind(&*error) == Some(io::ErrorKind::Interrupted) { INTERRUPTED.into() } else { USAGE.into() }
        }
    }
}

/// A reader that closed the pipe is no error: it has read enough.
fn printed(result: Outcome<()>) -> Outcome<bool> {
    match result {
        Err(error) if io_kind(&*error) != Some(io::ErrorKind::BrokenPipe) => Err(error),
        Ok(()) | Err(_) => Ok(true),
    }
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    error.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Cli::command().debug_assert();
        let parse = |flags: &str| Cli::try_parse_from(flags.split(' '));
        assert!(parse("c run --kind source --exec true --socket s").is_err());
        assert!(parse("c run --kind sink --exec true").unwrap_err().to_string().contains("map-unary, map-batch"));
    }

    #[test]
    fn cases_are_chosen_by_a_part_of_their_id() {
        let suite = |flags: &str| {
            let Command::Run(args) = Cli::try_parse_from(flags.split(' ')).unwrap().command else { unreachable!() };
            args.suite()
        };
        let ids = |suite: Suite| suite.cases.iter().map(|case| case.id).collect::<Vec<_>>();
        let half_close = ids(suite("c run --kind source --only half-close").unwrap());
        assert!(!half_close.is_empty() && half_close.iter().all(|id| id.contains("half-close")), "{half_close:?}");
        let none = suite("c run --kind source --only map.").unwrap_err().to_string();
        assert!(none.contains("no case for source has map. in its id"), "{none}");
    }
}
