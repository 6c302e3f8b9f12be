//! The command line.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::Outcome;
use super::driver::{self, DriverArgs};
use super::faults::KINDS;
use super::process;
use super::program::Seeded;
use super::scenarios::Scenario;
use super::suite::{Plan, run_plan};

/// The records of a seed in the suite of CI, its faults, and the backlog of its memory check.
const CI_RECORDS: u64 = 15_000;
const CI_SEEDS: u64 = 2;
const CI_BACKLOG: u64 = 600;

/// Runs Kafka sources against a real broker while processes are killed and stopped, and checks that nothing is lost, and
/// nothing committed that was not acked.
///
/// A seed: three sources and the platform of each, twelve partitions, plain and transactional producers; kill -9, SIGTERM
/// and SIGSTOP, broker outages, scaling, more partitions; nacks, forgotten records, broken streams. An onlooker reads what
/// the group commits all along.
///
/// Exit codes: 0 all was right, 1 something wasn't, 2 a mistake in the flags.
#[derive(Debug, Parser)]
#[command(name = "kafka-chaos", max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    /// How many seeds to run, from 1 on
    #[arg(long, default_value = "3", value_name = "N")]
    seeds: NonZeroU64,
    /// Run this seed alone
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How many records are produced for a seed, those of aborted transactions included
    #[arg(long, default_value_t = 40_000, value_name = "M")]
    records: u64,
    /// How many faults a seed has; the first nine are one of each kind
    #[arg(long, default_value_t = 15, value_name = "N")]
    faults: u32,
    /// Run a scenario and no seeds; may be given several times
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Run what CI runs: two short seeds and all scenarios
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seeds", "seed", "records", "faults", "only", "backlog"])]
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
            seeds: self.seed.map_or(1..self.seeds.get().saturating_add(1), |seed| seed..seed.saturating_add(1)),
            records: self.records,
            faults: self.faults,
            scenarios: self.only,
            backlog: self.backlog << 20,
            seeded: self.fault,
            server: self.server,
        };
        match self.suite {
            Some(Suite::Ci) => Plan {
                seeds: 1..CI_SEEDS + 1,
                records: CI_RECORDS,
                faults: KINDS,
                scenarios: Scenario::value_variants().to_vec(),
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
        assert!(plan(&["--only", "memory"]).seeds.is_empty());
        assert_eq!(plan(&["--suite", "ci"]).scenarios.len(), 4);
        // What would run nothing, or something else than was asked for.
        for flags in [&["--seeds", "0"][..], &["--fault", "commit-maximum", "--server", "udf-server"]] {
            assert!(Cli::try_parse_from([&["kafka-chaos"], flags].concat()).is_err(), "{flags:?}");
        }
    }
}
