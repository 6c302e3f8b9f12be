//! The command line.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::Outcome;
use super::driver::{self, DriverArgs};
use super::faults::{self, KINDS};
use super::process;
use super::program::Seeded;
use super::scenarios::Scenario;
use super::suite::{Plan, run_plan};

/// The records of a seed in the suite of CI, its faults, and the backlog of its memory check.
const CI_RECORDS: u64 = 15_000;
const CI_SEEDS: u64 = 2;
const CI_BACKLOG: u64 = 600;
/// The seeds on a cluster in the suite of CI, with the faults of nodes alone, their records, and the scenarios of what no seed
/// has.
const CI_CLUSTER_SEEDS: u64 = 3;
const CI_CLUSTER_RECORDS: u64 = 6_000;
const CI_CLUSTER_SCENARIOS: [Scenario; 3] = [Scenario::Recreated, Scenario::LettersGone, Scenario::Rights];

/// Runs Kafka sources against a real broker while processes are killed and stopped, and checks that nothing is lost, and
/// nothing committed that was not acked.
///
/// A seed: three sources and the platform of each, twelve partitions, plain and transactional producers; kill -9, SIGTERM
/// and SIGSTOP, broker outages, scaling, more partitions; nacks, forgotten records, broken streams. An onlooker reads what
/// the group commits all along.
///
/// With --cluster three brokers, each behind links that can be cut, stalled, slowed down and left half-open: leaders are killed,
/// nodes cut off from each other and from clients, followers slow, partitions without a leader, and logs cut by a leader that
/// was not in sync. A seed without a remainder by 3 keeps a record on two nodes; the next one has logs cut; the one after
/// that, partitions without a leader. Records that the cluster itself has lost are counted and not laid to the source.
///
/// Exit codes: 0 all was right, 1 something wasn't, 2 a mistake in the flags.
#[derive(Debug, Parser)]
#[command(name = "kafka-chaos", max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Run the seeds on a cluster of three brokers
    #[arg(long)]
    cluster: bool,
    /// How many seeds to run
    #[arg(long, default_value = "3", value_name = "N")]
    seeds: NonZeroU64,
    /// The first seed, to go on with a long run
    #[arg(long, default_value_t = 1, value_name = "S", conflicts_with = "seed")]
    from: u64,
    /// Run this seed alone
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How many records are produced for a seed, those of aborted transactions included
    #[arg(long, default_value_t = 40_000, value_name = "M")]
    records: u64,
    /// How many faults a seed has; the first nine are one of each kind, on a cluster the first twelve
    #[arg(long, default_value_t = 15, value_name = "N")]
    faults: u32,
    /// Run a scenario and no seeds; may be given several times
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Run what CI runs: two short seeds and all scenarios of one broker; on a cluster three short seeds and three scenarios
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seeds", "seed", "records", "faults", "only", "backlog", "from"])]
    suite: Option<Suite>,
    /// The backlog of the scenario memory, in MiB
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    backlog: u64,
    /// Run a source with this fault in it; the run has to fail
    #[arg(long, value_name = "FAULT", conflicts_with = "server")]
    fault: Option<Seeded>,
    /// The udf-server to run [default: built now, in the profile of this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What is run by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// What CI runs
    Ci,
}

/// What this program does as one of the processes of a run.
#[derive(Debug, Subcommand)]
enum Role {
    /// Play the platform for one source
    #[command(hide = true)]
    Driver(DriverArgs),
    /// Become a command that does not outlive its parent
    #[command(hide = true)]
    WithParent {
        parent: u32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// Does what the command line says; `false` when a run was not right.
pub(super) fn run() -> Outcome<bool> {
    let cli = Cli::parse();
    match cli.role {
        Some(Role::Driver(args)) => driver::run(args).map(|()| true),
        Some(Role::WithParent { parent, command }) => Err(process::become_with_parent(parent, &command).into()),
        None => run_plan(&cli.plan()),
    }
}

impl Cli {
    fn plan(self) -> Plan {
        let plan = Plan {
            is_on_cluster: self.cluster,
            seeds: match self.seed {
                Some(seed) => seed..seed.saturating_add(1),
                None => self.from..self.from.saturating_add(self.seeds.get()),
            },
            records: self.records,
            faults: self.faults,
            scenarios: self.only,
            backlog: self.backlog << 20,
            seeded: self.fault,
            server: self.server,
        };
        match self.suite {
            Some(Suite::Ci) if plan.is_on_cluster => Plan {
                seeds: 1..CI_CLUSTER_SEEDS + 1,
                records: CI_CLUSTER_RECORDS,
                faults: faults::cluster::OF_CLUSTER,
                scenarios: CI_CLUSTER_SCENARIOS.into(),
                ..plan
            },
            Some(Suite::Ci) => Plan {
                seeds: 1..CI_SEEDS + 1,
                records: CI_RECORDS,
                faults: KINDS,
                scenarios: Scenario::value_variants()
                    .iter()
                    .copied()
                    .filter(|scenario| !scenario.is_of_cluster())
                    .collect(),
                backlog: CI_BACKLOG << 20,
                ..plan
            },
            // One or the other: a scenario asked for by name is wanted soon.
            None if !plan.scenarios.is_empty() => Plan { seeds: 0..0, ..plan },
            None => plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Cli::command().debug_assert();
        let plan = |flags: &[&str]| Cli::try_parse_from([&["kafka-chaos"], flags].concat()).unwrap().plan();
        assert_eq!(plan(&["--seed", "7"]).seeds, 7..8);
        assert_eq!(plan(&["--seeds", "30", "--from", "100"]).seeds, 100..130);
        let of_cluster = plan(&["--cluster", "--suite", "ci"]);
        assert!(of_cluster.is_on_cluster && of_cluster.scenarios.iter().all(|scenario| scenario.is_of_cluster()));
        assert!(plan(&["--only", "memory"]).seeds.is_empty());
        assert_eq!(plan(&["--suite", "ci"]).scenarios.len(), 4);
        // What would run nothing, or something else than was asked for.
        for flags in [&["--seeds", "0"][..], &["--fault", "commit-maximum", "--server", "udf-server"]] {
            assert!(Cli::try_parse_from([&["kafka-chaos"], flags].concat()).is_err(), "{flags:?}");
        }
    }
}
