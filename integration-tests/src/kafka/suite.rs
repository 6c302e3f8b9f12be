//! Seeds and scenarios, one after the other, and what they come to.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use kafka_broker::{Broker, Cluster, Options};
use tempfile::TempDir;

use super::Outcome;
use super::brokers::Brokers;
use super::chaos::Run;
use super::faults;
use super::faults::cluster::NODES;
use super::program::{self, Seeded};
use super::report::{Progress, Verdict};
use super::scenarios::login::Taken;
use super::scenarios::outage::Outage;
use super::scenarios::refused::Refusal;
use super::scenarios::{Scenario, certificate, grown, login, memory, recreated, refused, restart, stall};
use super::stage::{Replication, Site};

/// The most heap of each node of a cluster.
const HEAP: &str = "320m";
/// The seed of scenarios that consist of a seed's faults.
const SCENARIO: u64 = 0;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whether the seeds are for a cluster.
    pub(super) is_on_cluster: bool,
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
    /// Takes note of a run, and keeps its folder if it has failed; `false` then.
    fn add(&mut self, run: Outcome<bool>, folder: TempDir, again: &str) -> bool {
        if let Err(error) = &run {
            self.progress.line(&format!("FAILED: {error}"));
        }
        if run.unwrap_or(false) {
            self.good += 1;
            return true;
        }
        self.failed += 1;
        self.progress.line(&format!("  logs and journals are in {}", folder.keep().display()));
        self.progress.line(&format!("  again: kafka-chaos {again}"));
        false
    }

    /// The same with what a run has come to.
    fn add_verdict(&mut self, run: Outcome<Verdict>, folder: TempDir, again: &str) -> bool {
        let run = run.map(|verdict| self.progress.verdict(&verdict));
        self.add(run, folder, again)
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
    let mut tally = Tally { progress: &progress, good: 0, failed: 0 };
    let (of_cluster, of_broker): (Vec<_>, Vec<_>) =
        plan.scenarios.iter().copied().partition(|scenario| scenario.is_of_cluster());
    if !of_broker.is_empty() || !plan.is_on_cluster && !plan.seeds.is_empty() {
        run_on_broker(plan, &of_broker, &program, &mut tally)?;
    }
    if !of_cluster.is_empty() || plan.is_on_cluster && !plan.seeds.is_empty() {
        run_on_cluster(plan, &of_cluster, &program, &mut tally)?;
    }
    let Tally { good, failed, .. } = tally;
    progress.line(&format!("{good} of {} runs ok, {:.0} s", good + failed, began.elapsed().as_secs_f64()));
    Ok(failed == 0)
}

/// Runs scenarios, and the seeds unless they are for a cluster, on one broker.
fn run_on_broker(plan: &Plan, scenarios: &[Scenario], program: &Path, tally: &mut Tally<'_>) -> Outcome<()> {
    let progress = tally.progress;
    progress.say("starting the broker");
    // It is a minute of waiting, which is time enough for the other scenarios.
    let outage = if scenarios.contains(&Scenario::Outage) {
        let folder = folder()?;
        Some((Outage::begin(program, folder.path())?, folder))
    } else {
        None
    };
    // What is removed is to leave the disk soon.
    let options = Options::new().with_property("log.segment.delete.delay.ms", "1000");
    let mut broker = Broker::start(options.clone())?;
    for scenario in scenarios {
        let folder = folder()?;
        progress.say(&scenario.name());
        match scenario {
            Scenario::Stall => {
                tally.add_verdict(stall::run(&broker, program, folder.path()), folder, "--only stall");
            }
            Scenario::Restart => {
                tally.add_verdict(restart::run(&broker, program, folder.path()), folder, "--only restart");
            }
            Scenario::Memory => {
                let is_good = memory::run(&broker, program, folder.path(), plan.backlog, progress);
                tally.add(is_good, folder, &format!("--only memory --backlog {}", plan.backlog >> 20));
            }
            // Begun above, or not of one broker.
            Scenario::Outage
            | Scenario::LeaderKilled
            | Scenario::CutOff
            | Scenario::Unclean
            | Scenario::Leaderless
            | Scenario::SlowFollower
            | Scenario::Recreated
            | Scenario::Grown
            | Scenario::LettersTooLarge
            | Scenario::LettersGone
            | Scenario::LettersForbidden
            | Scenario::Rights
            | Scenario::Password
            | Scenario::Certificate
            | Scenario::Retention => {}
        }
    }
    if let Some((outage, folder)) = outage {
        tally.add_verdict(outage.finish(), folder, "--only outage");
    }
    let seeds = if plan.is_on_cluster { 0..0 } else { plan.seeds.clone() };
    for seed in seeds {
        let folder = folder()?;
        let Plan { records, faults, .. } = *plan;
        let planned = faults::plan(seed, faults);
        let length = planned.last().map_or(Duration::ZERO, |last| last.at + last.lasts);
        let name = &format!("seed {seed}");
        let run = Run { name, seed, records, plan: &planned, length, program, folder: folder.path() };
        let verdict = run.run(Brokers::one(&mut broker), progress);
        if !tally.add_verdict(verdict, folder, &plan.again(seed)) {
            // What a run has left behind is nothing for the next one.
            broker = Broker::start(options.clone())?;
        }
    }
    Ok(())
}

/// Runs scenarios, and the seeds if they are for a cluster, on three nodes.
fn run_on_cluster(plan: &Plan, scenarios: &[Scenario], program: &Path, tally: &mut Tally<'_>) -> Outcome<()> {
    let progress = tally.progress;
    progress.say("starting the cluster");
    let options = login::options(Options::new().with_heap(HEAP));
    let mut cluster = Cluster::start(NODES, &options)?;
    for scenario in scenarios {
        let (folder, name) = (folder()?, scenario.name());
        progress.say(&name);
        let verdict = match scenario.cluster_faults() {
            Some((replication, faults)) => {
                let planned = faults::schedule(faults, &mut Rng::with_seed(SCENARIO));
                let Plan { records, .. } = *plan;
                let length = faults::cluster::length(&planned);
                let (name, plan, folder) = (&*name, &*planned, folder.path());
                let run = Run { name, seed: SCENARIO, records, plan, length, program, folder };
                Brokers::cluster(&mut cluster, replication).and_then(|brokers| run.run(brokers, progress))
            }
            None => on_cluster(*scenario, &cluster, program, folder.path()),
        };
        if !tally.add_verdict(verdict, folder, &format!("--only {name} --records {}", plan.records)) {
            // What a run has left behind is nothing for the next one.
            cluster = Cluster::start(NODES, &options)?;
        }
    }
    let seeds = if plan.is_on_cluster { plan.seeds.clone() } else { 0..0 };
    for seed in seeds {
        let folder = folder()?;
        let Plan { records, faults, .. } = *plan;
        let planned = faults::cluster::plan(seed, faults);
        let length = faults::cluster::length(&planned);
        let name = &format!("cluster, seed {seed}");
        let run = Run { name, seed, records, plan: &planned, length, program, folder: folder.path() };
        let replication = faults::cluster::replication(seed);
        let verdict = Brokers::cluster(&mut cluster, replication).and_then(|brokers| run.run(brokers, progress));
        if !tally.add_verdict(verdict, folder, &plan.again(seed)) {
            cluster = Cluster::start(NODES, &options)?;
        }
    }
    Ok(())
}

/// Runs a scenario that does not consist of faults of a seed, on a cluster that serves.
fn on_cluster(scenario: Scenario, cluster: &Cluster, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let site = Site::of_cluster(cluster, Replication::Safe);
    match scenario {
        Scenario::Recreated => recreated::run(&site, program, folder),
        Scenario::Grown => grown::run(&site, program, folder),
        Scenario::LettersTooLarge => refused::run(&site, Refusal::TooSmall, program, folder),
        Scenario::LettersGone => refused::run(&site, Refusal::Gone, program, folder),
        Scenario::LettersForbidden => login::run(cluster, Taken::Letters, program, folder),
        Scenario::Rights => login::run(cluster, Taken::Rights, program, folder),
        Scenario::Certificate => certificate::run(HEAP, program, folder),
        Scenario::Password => login::run(cluster, Taken::Password, program, folder),
        Scenario::Outage
        | Scenario::Stall
        | Scenario::Restart
        | Scenario::Memory
        | Scenario::LeaderKilled
        | Scenario::CutOff
        | Scenario::Unclean
        | Scenario::Leaderless
        | Scenario::SlowFollower
        | Scenario::Retention => Err(format!("{} is another kind of scenario", scenario.name()).into()),
    }
}

impl Plan {
    /// The flags that run a seed again.
    fn again(&self, seed: u64) -> String {
        let cluster = if self.is_on_cluster { "--cluster " } else { "" };
        let fault = if self.seeded.is_some() { " --fault commit-maximum" } else { "" };
        format!("{cluster}--seed {seed} --records {} --faults {}{fault}", self.records, self.faults)
    }
}

/// Where the logs and journals of a run go.
fn folder() -> Outcome<TempDir> {
    Ok(tempfile::Builder::new().prefix("kafka-chaos-").tempdir()?)
}
