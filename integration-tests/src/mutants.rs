//! Servers with one fault each, and which case catches it: the program `mutants`.
//!
//! The faults are in the example `mutant`, `peers/mutant/`, which says itself which there are.

use std::collections::BTreeSet;
use std::fmt;
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser;
use futures_util::stream::{self, StreamExt as _};

use crate::blocking::block_on;
use crate::examples::{self, Folders, quoted};
use crate::program::{self, Outcome, say};
use crate::{Kind, Level, Report, Subject, Unproven, cases, server};

mod faults;

use faults::Fault;

/// Plays cases against servers that have one fault each, and says which case catches which fault.
///
/// Each fault names the cases that have to catch it; they are first played against the same server without the fault, which
/// has to pass. A case that is a MUST and has no fault is a failure too.
///
/// Exit codes: 0 all faults are caught, 1 one is not, 2 a mistake in the flags.
#[derive(Debug, Parser)]
#[command(name = "mutants", max_term_width = 100)]
struct Cli {
    /// Only the faults that have this in their name, or are for this case; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Play all cases against each fault, and say which others catch it; takes an hour without --only
    #[arg(long)]
    all_cases: bool,
    /// How many cases run at a time [default: three times as many as there are processors: most of them wait]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// The program: builds the servers, plays, and says what was not caught.
#[must_use]
pub fn main() -> ExitCode {
    program::end("mutants", run(&Cli::parse()))
}

/// One case against one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trial<'a> {
    fault: &'a Fault,
    kind: Kind,
    case: &'static str,
    /// Whether the case is one of those that have to catch it.
    must_catch: bool,
}

fn run(cli: &Cli) -> Outcome<bool> {
    let started = Instant::now();
    say("building the servers");
    let folders = Folders::find()?;
    examples::build(&["mutant"], &folders)?;
    let program = folders.examples.join("mutant");
    let listed = Command::new(&program).arg("--list").output()?;
    let all: Vec<Fault> = serde_json::from_slice(&listed.stdout)?;
    faults::check(&all)?;
    let is_wanted = |fault: &&Fault| {
        let named = |text: &String| fault.name.contains(text.as_str()) || fault.cases.contains(text);
        cli.only.is_empty() || cli.only.iter().any(named)
    };
    let wanted: Vec<&Fault> = all.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        return Err(format!(
            "no fault and no case is called {}: `mutant --list` has the faults",
            cli.only.join(" or ")
        )
        .into());
    }

    let command = quoted(&program);
    let jobs = cli.jobs.unwrap_or_else(|| 3 * std::thread::available_parallelism().map_or(1, usize::from));
    let unmutated = unmutated(&all, &wanted);
    let mut slow = Vec::new();
    play(&command, jobs, &unmutated, |trial, report| {
        if report.outcome.is_err() {
            slow.push(*trial);
        }
    })?;
    // A machine that does much else makes any server late, but hardly twice, and one that has nothing beside it.
    let mut unhealthy = 0;
    play(&command, 1, &slow, |trial, report| {
        if let Err(unproven) = &report.outcome {
            unhealthy += 1;
            say(&Line(trial, "FAILED", &unproven.to_string()).to_string());
        }
    })?;
    say(&format!(
        "without a fault: {} cases passed, {} of them when played alone, {unhealthy} failed, {:.0} s",
        unmutated.len() - unhealthy,
        slow.len() - unhealthy,
        seconds(started)
    ));

    let mut caught = 0;
    let mut missed = 0;
    play(&command, jobs, &mutated(&wanted, cli.all_cases), |trial, report| match (catch(trial, &report), trial) {
        (Ok(why), Trial { must_catch: true, .. }) => {
            caught += 1;
            say(&Line(trial, "caught", &why).to_string());
        }
        (Ok(why), _) => say(&Line(trial, "also", &why).to_string()),
        (Err(why), Trial { must_catch: true, .. }) => {
            missed += 1;
            say(&Line(trial, "NOT CAUGHT", &why).to_string());
        }
        (Err(_), _) => {}
    })?;
    let untested = if cli.only.is_empty() { without_fault(&all) } else { Vec::new() };
    for (case, kind) in &untested {
        say(&format!("NO FAULT    {kind:<10} {case}"));
    }
    say(&format!(
        "{} faults: {caught} of {} caught, {missed} not; {} rules without a fault; {:.0} s",
        wanted.iter().filter(|fault| !fault.cases.is_empty()).count(),
        caught + missed,
        untested.len(),
        seconds(started),
    ));
    Ok(unhealthy == 0 && missed == 0 && untested.is_empty())
}

fn seconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64()
}

/// The cases of these faults against the server without a fault: by itself, or behind the relay where a fault is in it.
fn unmutated<'a>(all: &'a [Fault], wanted: &[&Fault]) -> Vec<Trial<'a>> {
    let mut trials = Vec::new();
    for fault in wanted {
        let same = all.iter().find(|same| same.cases.is_empty() && same.is_relayed() == fault.is_relayed());
        for (kind, case) in fault.catchers() {
            let trial = same.map(|same| Trial { fault: same, kind, case: case.id, must_catch: false });
            trials.extend(trial.filter(|trial| !trials.contains(trial)));
        }
    }
    trials
}

fn mutated<'a>(wanted: &[&'a Fault], all_cases: bool) -> Vec<Trial<'a>> {
    let mut trials = Vec::new();
    for fault in wanted {
        let fault = *fault;
        trials.extend(fault.catchers().map(|(kind, case)| Trial { fault, kind, case: case.id, must_catch: true }));
        if all_cases && !fault.cases.is_empty() {
            for kind in fault.kinds.iter().copied() {
                let others =
                    cases::all().filter(|case| case.applies_to(kind) && !fault.cases.iter().any(|id| id == case.id));
                trials.extend(others.map(|case| Trial { fault, kind, case: case.id, must_catch: false }));
            }
        }
    }
    trials
}

/// Plays each, some at a time, and hands each report on as soon as it is there.
fn play<'a>(
    command: &str,
    jobs: usize,
    trials: &[Trial<'a>],
    mut on_report: impl FnMut(&Trial<'a>, Report),
) -> Outcome<()> {
    let reports = stream::iter(trials).filter_map(async |trial| {
        let case = cases::find(trial.case)?;
        let subject = Subject::Command { kind: trial.kind, command: format!("{command} {}", trial.fault.name) };
        Some(async move { (trial, case.play(&subject).await) })
    });
    block_on(async {
        let mut reports = std::pin::pin!(reports.buffer_unordered(jobs.max(1)));
        while let Some((trial, report)) = reports.next().await {
            on_report(trial, report);
        }
    })?;
    Ok(())
}

/// What the case says of the fault, or why that is not a catch.
fn catch(trial: &Trial<'_>, report: &Report) -> Result<String, String> {
    match &report.outcome {
        Ok(()) => Err("the case passes".to_owned()),
        // What does not start has shown nothing, unless that is the fault.
        Err(Unproven::Broken { expected, came }) if expected == server::READY && !trial.fault.may_not_start() => {
            Err(format!("the server did not start: {came}; {}", report.log.trim_end()))
        }
        Err(Unproven::Broken { expected, came }) => Ok(format!("expected {expected}; came {came}")),
        Err(unproven @ (Unproven::NotOffered(_) | Unproven::NotRun(_) | Unproven::CutOff(_))) => {
            Err(unproven.to_string())
        }
    }
}

/// The rules, for a kind of server each, that no fault breaks.
fn without_fault(all: &[Fault]) -> Vec<(&'static str, Kind)> {
    let caught: BTreeSet<(&str, String)> =
        all.iter().flat_map(Fault::catchers).map(|(kind, case)| (case.id, kind.to_string())).collect();
    let rules = cases::all().filter(|case| case.level == Level::Must);
    let of_a_kind = rules.flat_map(|case| case.kinds.iter().map(|kind| (case.id, *kind)));
    of_a_kind.filter(|(case, kind)| !caught.contains(&(*case, kind.to_string()))).collect()
}

/// One line of the result.
struct Line<'a>(&'a Trial<'a>, &'a str, &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 160;
        let Self(Trial { fault, kind, case, .. }, word, why) = self;
        let why: String = why.lines().next().unwrap_or_default().chars().take(SHOWN).collect();
        write!(f, "{word:<11} {:<29} {kind:<10} {case}: {why}", fault.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(place: &str, cases: &[&str]) -> Fault {
        let json = serde_json::json!({ "name": "a", "kinds": ["map-unary"], "cases": cases, "place": place });
        serde_json::from_value(json).unwrap()
    }

    fn caught(fault: &Fault, outcome: Result<(), Unproven>) -> Result<String, String> {
        let case = cases::find(&fault.cases[0]).unwrap();
        let trial = Trial { fault, kind: Kind::UnaryMap, case: case.id, must_catch: true };
        let took = std::time::Duration::ZERO;
        catch(&trial, &Report { case, kind: Kind::UnaryMap, outcome, frames: Vec::new(), log: String::new(), took })
    }

    #[test]
    fn only_a_broken_rule_is_a_catch() {
        let relayed = fault("relay", &["map.keys"]);
        assert!(caught(&relayed, Err(Unproven::broken("a", "b"))).is_ok());
        assert!(caught(&relayed, Ok(())).is_err());
        assert!(caught(&relayed, Err(Unproven::NotOffered("keys".to_owned()))).is_err());
        assert!(caught(&relayed, Err(Unproven::NotRun("no time".to_owned()))).is_err());
    }

    #[test]
    fn a_server_that_does_not_start_is_a_catch_where_that_is_the_fault() {
        let not_started = || Err(Unproven::broken(server::READY, "the end of the server"));
        assert!(caught(&fault("relay", &["map.keys"]), not_started()).is_err());
        assert!(caught(&fault("start", &["map.keys"]), not_started()).is_ok());
    }

    #[test]
    fn rules_without_a_fault_are_named_for_each_kind() {
        let untested = without_fault(&[fault("relay", &["map.keys"])]);
        assert!(!untested.contains(&("map.keys", Kind::UnaryMap)));
        assert!(untested.contains(&("map.keys", Kind::BatchMap)));
        assert!(untested.contains(&("source.read.count", Kind::Source)));
    }

    #[test]
    fn a_fault_names_cases_that_there_are() {
        assert!(faults::check(&[fault("relay", &["map.keys"])]).is_ok());
        assert!(faults::check(&[fault("relay", &["map.no-such-case"])]).is_err());
    }
}
