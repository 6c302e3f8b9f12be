//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, Subcommand};
use kafka_broker::{Broker, Options};

use super::Outcome;
use super::chaos::Run;
use super::driver::{self, DriverArgs};
use super::process;
use super::program::{self, Seeded};
use super::report::{Progress, line};

/// Runs three Kafka sources against a real broker while processes are killed and stopped, and checks that nothing is lost,
/// and nothing committed that was not acked.
#[derive(Debug, Parser)]
#[command(name = "kafka-chaos", max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    /// How many seeds to run, from 1 on
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Run this seed alone
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How many records are produced in a run, those of aborted transactions included
    #[arg(long, default_value_t = 20_000, value_name = "M")]
    records: u64,
    /// Run a source with this fault in it; the run has to fail
    #[arg(long, value_name = "FAULT")]
    fault: Option<Seeded>,
    /// The udf-server to run [default: built now, in the profile of this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
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
        None => cli.run(),
    }
}

impl Cli {
    fn run(&self) -> Outcome<bool> {
        let progress = Progress::new();
        progress.say("building the source");
        let program = match &self.server {
            Some(path) => path.clone(),
            None => program::build(self.fault)?,
        };
        progress.say("starting the broker");
        let began = Instant::now();
        let mut broker = Broker::start(Options::new())?;
        let mut failed = Vec::new();
        let seeds = self.seed.map_or(1..=self.seeds, |seed| seed..=seed);
        let count = seeds.clone().count();
        for seed in seeds {
            let folder = tempfile::Builder::new().prefix(&format!("kafka-chaos-{seed}-")).tempdir()?;
            let run = Run { seed, records: self.records, program: &program, folder: folder.path() };
            let verdict = run.run(&mut broker, &progress)?;
            progress.clear();
            verdict.tell();
            if !verdict.is_good() {
                failed.push(seed);
                line(&format!("  logs and journals are in {}", folder.keep().display()));
                line(&format!("  again: kafka-chaos --seed {seed} --records {}", self.records));
            }
        }
        let good = count - failed.len();
        line(&format!("{good} of {count} seeds ok, {:.0} s", began.elapsed().as_secs_f64()));
        Ok(failed.is_empty())
    }
}
