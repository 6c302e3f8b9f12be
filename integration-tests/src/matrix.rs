//! All implementations that are compared, against all cases: the program `matrix`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use futures_util::future::join_all;

use crate::blocking::block_on;
use crate::gaps::Gaps;
use crate::program::{self, Outcome, say};
use crate::standing::Standing;
use crate::{Report, Subject, Suite};

mod build;
mod page;
mod peers;

use peers::Peer;

/// Builds the contract's servers of all SDKs, as far as this machine has the tools, and plays all cases against each.
///
/// Writes a page for people and the results behind it. What an SDK is known not to keep stands in its list of gaps beside
/// its server; anything else fails the run, and so does a gap that is none any more.
///
/// Exit codes: 0 all is as known, 1 it is not, 2 a mistake in the flags. With REQUIRE_PEERS=all a peer that can't be built
/// is a failure.
#[derive(Debug, Parser)]
#[command(name = "matrix", max_term_width = 100)]
struct Cli {
    /// The folder that conformance.md and conformance.json are written to [default: docs; with --only nothing is written]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Only these implementations; may be given several times
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(peers::ALL.iter().map(|peer| peer.name)))]
    only: Vec<String>,
    /// Write each implementation's list of gaps anew; the reasons that are known stay
    #[arg(long)]
    write_gaps: bool,
    /// How many cases of each kind run at a time, and the kinds beside each other [default: as many as there are processors:
    /// most cases wait]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// What one implementation has come to.
#[derive(Debug)]
struct Column {
    peer: &'static Peer,
    gaps: Gaps,
    /// Of all of its kinds, in the order of the cases; none where it could not be built.
    results: Vec<(Report, Standing)>,
    /// Why there is nothing.
    missing: Option<String>,
}

/// The program: builds, plays, writes, and says what is not as known.
#[must_use]
pub fn main() -> ExitCode {
    program::end("matrix", run(&Cli::parse()))
}

fn run(cli: &Cli) -> Outcome<bool> {
    let peers = peers::ALL.iter().filter(|peer| cli.only.is_empty() || cli.only.iter().any(|name| peer.name == name));
    let peers: Vec<&Peer> = peers.collect();
    let commands = build::build(&peers)?;

    let mut columns = Vec::new();
    for (peer, command) in peers.into_iter().zip(commands) {
        columns.push(column(cli, peer, command)?);
    }
    let docs = || cli.only.is_empty().then(|| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")));
    if let Some(folder) = cli.out.as_deref().or_else(docs) {
        page::write(folder, &columns)?;
    }

    let required = std::env::var("REQUIRE_PEERS").is_ok_and(|which| which == "all");
    let missing = columns.iter().filter(|column| column.missing.is_some()).count();
    let surprises =
        columns.iter().flat_map(|column| &column.results).filter(|(_, standing)| standing.is_news()).count();
    let count = |wanted: fn(Standing) -> bool| {
        columns.iter().flat_map(|column| &column.results).filter(|(_, standing)| wanted(*standing)).count()
    };
    let not_offered = count(|standing| standing == Standing::NotOffered);
    let not_run = count(|standing| standing == Standing::NotRun);
    let played = count(|_| true) - not_offered - not_run;
    say(&format!(
        "{played} cases played, {not_offered} not offered, {not_run} not run, {surprises} not as known, {missing} \
         implementations missing"
    ));
    Ok(surprises == 0 && (missing + not_run == 0 || !required))
}

/// Plays all cases of all of its kinds against one implementation.
fn column(cli: &Cli, peer: &'static Peer, command: Result<String, String>) -> Outcome<Column> {
    let gaps = Gaps::read(&peer.gaps_file())?;
    let command = match command {
        Ok(command) => command,
        Err(reason) => {
            say(&format!("{}: missing: {reason}", peer.name));
            return Ok(Column { peer, gaps, results: Vec::new(), missing: Some(reason) });
        }
    };
    let started = Instant::now();
    let results = play(cli, peer, &command, &gaps)?;
    for (report, standing) in results.iter().filter(|(_, standing)| standing.is_news()) {
        let Report { case, kind, outcome, .. } = report;
        let why = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        say(&format!("{}: {}: {kind} {}: {why}", peer.name, standing.word(), case.id));
    }
    if cli.write_gaps {
        let reports: Vec<&Report> = results.iter().map(|(report, _)| report).collect();
        gaps.write(&peer.gaps_file(), &reports)?;
    }
    let count = |wanted: fn(Standing) -> bool| results.iter().filter(|(_, standing)| wanted(*standing)).count();
    say(&format!(
        "{}: {} of {} kept, {} known gaps, {} not offered, {:.0} s",
        peer.name,
        count(|standing| standing == Standing::Kept),
        results.len(),
        count(|standing| standing == Standing::KnownGap),
        count(|standing| standing == Standing::NotOffered),
        started.elapsed().as_secs_f64(),
    ));
    Ok(Column { peer, gaps, results, missing: None })
}

/// Plays the cases of all kinds, the kinds beside each other.
fn play(cli: &Cli, peer: &Peer, command: &str, gaps: &Gaps) -> Outcome<Vec<(Report, Standing)>> {
    /// Of one implementation; all that hangs is cut off long before.
    const DEADLINE: Duration = Duration::from_secs(10 * 60);
    let kinds = peer.kinds.iter().map(async |kind| {
        let mut suite = Suite::new(Subject::Command { kind: *kind, command: command.to_owned() });
        suite.jobs = cli.jobs.unwrap_or(suite.jobs);
        suite.deadline = DEADLINE;
        let mut reports = Vec::new();
        suite.run(|report| reports.push(report)).await;
        let mut results = Vec::new();
        for report in reports {
            results.push(as_known(peer, &suite.subject, gaps, report).await);
        }
        results
    });
    Ok(block_on(join_all(kinds))?.into_iter().flatten().collect())
}

/// What a report means. Some of what others' servers do is chance, such as a race as they end; a result that is not as known
/// is therefore not believed before it came three times. Of ours nothing may be chance.
async fn as_known(peer: &Peer, subject: &Subject, gaps: &Gaps, mut report: Report) -> (Report, Standing) {
    const TIMES: usize = 3;
    let gap = gaps.find(report.case.id, report.kind);
    let mut standing = Standing::of(&report, gap);
    for _ in 1..TIMES {
        if peer.is_ours() || !standing.is_news() {
            break;
        }
        report = report.case.play(subject).await;
        standing = Standing::of(&report, gap);
    }
    (report, standing)
}
