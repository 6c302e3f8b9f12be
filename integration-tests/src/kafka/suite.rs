//! Seeds and scenarios, one after the other, and what they come to.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use kafka_broker::{Broker, Options};
use tempfile::TempDir;

use super::Outcome;
use super::chaos::Run;
use super::program::{self, Seeded};
use super::report::{Progress, Verdict};
use super::scenarios::outage::Outage;
use super::scenarios::{Scenario, memory, restart, stall};

/// What is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seeds: Range<u64>,
    pub(super) records: u64,
    pub(super) faults: u32,
    pub(super) scenarios: Vec<Scenario>,
    /// The bytes of the scenario [`Scenario::Memory`].
    pub(super) backlog: u64,
    pub(super) seeded: Option<Seeded>,
    pub(super) server: Option<PathBuf>,
}

/// What has been run so far.
#[derive(Debug)]
struct Tally<'a> {
    progress: &'a Progress,
    good: usize,
    failed: usize,
}

impl Tally<'_> {
    /// Takes note of a run, and keeps its folder if it has failed.
    fn add(&mut self, run: Outcome<bool>, folder: TempDir, again: &str) {
        if let Err(error) = &run {
            self.progress.line(&format!("FAILED: {error}"));
        }
        if run.unwrap_or(false) {
            self.good += 1;
            return;
        }
        self.failed += 1;
        self.progress.line(&format!("  logs and journals are in {}", folder.keep().display()));
        self.progress.line(&format!("  again: kafka-chaos {again}"));
    }

    fn add_verdict(&mut self, run: Outcome<Verdict>, folder: TempDir, again: &str) {
        let run = run.map(|verdict| self.progress.verdict(&verdict));
        self.add(run, folder, again);
    }
}

/// Runs all there is; `false` when something was not right.
pub(super) fn run_plan(plan: &Plan) -> Outcome<bool> {
    let began = Instant::now();
    let progress = Progress::new();
    progress.say("building the source");
    let program = match &plan.server {
        Some(path) => path.clone(),
        None => program::build(plan.seeded)?,
    };
    progress.say("starting the broker");
    let mut tally = Tally { progress: &progress, good: 0, failed: 0 };
    // It is a minute of waiting, which is time enough for the other scenarios.
    let outage = if plan.scenarios.contains(&Scenario::Outage) {
        let folder = folder()?;
        Some((Outage::begin(&program, folder.path())?, folder))
    } else {
        None
    };
    // What is removed is to leave the disk soon.
    let mut broker = Broker::start(Options::new().with_property("log.segment.delete.delay.ms", "1000"))?;
    for scenario in &plan.scenarios {
        let folder = folder()?;
        progress.say(&format!("{scenario:?}"));
        match scenario {
            Scenario::Outage => {}
            Scenario::Stall => {
                tally.add_verdict(stall::run(&broker, &program, folder.path()), folder, "--only stall");
            }
            Scenario::Restart => {
                tally.add_verdict(restart::run(&broker, &program, folder.path()), folder, "--only restart");
            }
            Scenario::Memory => {
                let is_good = memory::run(&broker, &program, folder.path(), plan.backlog, &progress);
                tally.add(is_good, folder, &format!("--only memory --backlog {}", plan.backlog >> 20));
            }
        }
    }
    if let Some((outage, folder)) = outage {
        tally.add_verdict(outage.finish(), folder, "--only outage");
    }
    for seed in plan.seeds.clone() {
        let folder = folder()?;
        let Plan { records, faults, .. } = *plan;
        let run = Run { seed, records, faults, program: &program, folder: folder.path() };
        let verdict = run.run(&mut broker, &progress);
        let fault = if plan.seeded.is_some() { " --fault commit-maximum" } else { "" };
        tally.add_verdict(verdict, folder, &format!("--seed {seed} --records {records} --faults {faults}{fault}"));
    }
    let Tally { good, failed, .. } = tally;
    progress.line(&format!("{good} of {} runs ok, {:.0} s", good + failed, began.elapsed().as_secs_f64()));
    Ok(failed == 0)
}

/// Where the logs and journals of a run go.
fn folder() -> Outcome<TempDir> {
    Ok(tempfile::Builder::new().prefix("kafka-chaos-").tempdir()?)
}
