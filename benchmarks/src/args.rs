//! The command line.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use crate::Outcome;
use crate::beside::{self, Beside};
use crate::compare::Pace;
use crate::kafka::{self, Subject};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::reading::NUMBER;
use crate::report;
use crate::results::{Comparison, Run};
use crate::scenario::{Bench, Scenario};
use crate::serve::{self, Peer, Serving, Setting};

/// Numaflow servers side by side, in one run: what a message costs each of them, and how they compare.
///
/// The peers take turns, each in a fresh process, under the same load. The pace of a machine changes from minute to minute,
/// so a ratio, taken within a round, is a result, and a time is not. Latency and rate are void where the load client was
/// itself the bottleneck.
#[derive(Debug, Parser)]
#[command(name = "benchmarks", max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples (each after `cargo run --release -p benchmarks --`):
  map                                            everything on maps, about a quarter of an hour
  map --only ours,tonic --size 256 --rounds 3    one comparison, half a minute
  map --scenario wait,compute                    only these parts
  map --quick                                    everything shortly: does it work?
  kafka                                          everything on Kafka sources, some minutes
  map --beside ../before/benchmarks              50 pairs of this build and another one: did it get slower?
  map --json map.json && source --json source.json && kafka --json kafka.json
  report --json map.json,source.json,kafka.json --out docs
                                                 the figures of the documentation";

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare maps: ours, the published SDK, a plain tonic echo and an echo on h2 alone
    Map(MapArgs),
    /// Compare sources of generated records: ours, the published SDK and a plain tonic source
    Source(SourceArgs),
    /// Compare sources of Kafka's records: ours, one on the published SDK, Kafka's own reader, and sources without Kafka;
    /// needs Java, and Maven the first time
    Kafka(KafkaArgs),
    /// Write performance.md and its chart from what runs have measured
    Report(ReportArgs),
    /// Be one of the servers
    #[command(hide = true)]
    Serve(Serving),
}

#[derive(Debug, Args)]
struct MapArgs {
    /// Which parts to run [default: all; only throughput where --only, --size or --setting is given]
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    scenario: Vec<Scenario>,
    /// The sizes of values, in bytes; only throughput looks at it [default: 100,256,4096,65536]
    #[arg(long, value_delimiter = ',', value_name = "BYTES")]
    size: Vec<usize>,
    /// Messages in flight, or in a batch
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u16).range(1..))]
    in_flight: u16,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// The sizes of values, in bytes [default: 256]
    #[arg(long, value_delimiter = ',', value_name = "BYTES")]
    size: Vec<usize>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct KafkaArgs {
    /// The sizes of values, in bytes; latency is measured with 100 [default: 100,1024]
    #[arg(long, value_delimiter = ',', value_name = "BYTES", value_parser = kafka_size)]
    size: Vec<usize>,
    /// The partitions of every topic
    #[arg(long, default_value_t = 12, value_parser = value_parser!(u16).range(1..=1000))]
    partitions: u16,
    /// The records of a topic: a quarter of them is the warm-up, half of them are measured [default: 4000000, at most 1 GB
    /// of values; with --quick 40000]
    #[arg(long, value_parser = value_parser!(u64).range(4000..=100_000_000))]
    records: Option<u64>,
    /// Only these [default: all]
    #[arg(long, value_delimiter = ',', value_name = "SUBJECT")]
    only: Vec<Subject>,
    /// How long latency is measured each time [default: 10, with --quick 1]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Only these peers [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    only: Vec<Peer>,
    /// How the servers are set up [default: both; equal where --only or --size is given]
    #[arg(long, value_delimiter = ',')]
    setting: Vec<Setting>,
    /// How long each peer is measured each time, after a warm-up of a quarter of it [default: 2, with --quick 0.2]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// How often each peer is measured [default: 5, with --beside 50, with --quick 1]
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measure our own server beside the one of another build of this program, in alternating pairs; the ratio is
    /// this build over the other [default: 50 rounds, one size, throughput]
    #[arg(long, value_name = "PROGRAM", value_parser = beside::find, conflicts_with = "only")]
    beside: Option<Beside>,
    /// Run everything shortly; fails only if something does not work
    #[arg(long)]
    quick: bool,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// What runs have written
    #[arg(long, value_delimiter = ',', value_name = "FILE", required = true)]
    json: Vec<PathBuf>,
    /// Where to write performance.md and performance.svg
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("is not a number between 0.05 and 3600".to_owned()),
    }
}

fn kafka_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (NUMBER..=900_000).contains(&size) => Ok(size),
        _ => Err(format!(
            "is not a number between {NUMBER}, which is room for a time, and 900000, below what Kafka takes"
        )),
    }
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> Outcome<()> {
    match Cli::parse().command {
        Command::Map(args) => interruptible(map(args)),
        Command::Source(args) => interruptible(source(args)),
        Command::Kafka(args) => interruptible(kafka(args)),
        Command::Report(args) => report::write(&args.json, &args.out),
        Command::Serve(serving) => serve::run(serving),
    }
}

/// Runs on this one thread, whose processor time is the load client's, until it is done or Ctrl-C is pressed: dropping what
/// was begun ends the servers and removes their folders.
fn interruptible(work: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = work => result,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}

async fn map(args: MapArgs) -> Outcome<()> {
    let MapArgs { scenario, size, in_flight, common } = args;
    let narrowed = !size.is_empty() || !common.only.is_empty() || common.run.beside.is_some();
    let settings = common.settings(narrowed);
    let scenarios = match &scenario[..] {
        [] if narrowed || !common.setting.is_empty() => vec![Scenario::Throughput],
        [] => Scenario::value_variants().to_vec(),
        _ => scenario,
    };
    let sizes = match &size[..] {
        [] if common.run.beside.is_some() => vec![256],
        [] => vec![100, 256, 4096, 65536],
        _ => size,
    };
    let bench = common.bench(sizes, in_flight.into());
    let mut comparisons = Vec::new();
    for scenario in scenarios {
        comparisons.extend(bench.map(scenario, &settings).await?);
    }
    common.finish(bench, comparisons)
}

async fn source(args: SourceArgs) -> Outcome<()> {
    let SourceArgs { size, common } = args;
    let settings = common.settings(!size.is_empty() || !common.only.is_empty() || common.run.beside.is_some());
    let bench = common.bench(if size.is_empty() { vec![256] } else { size }, 0);
    let comparisons = bench.source(&settings).await?;
    common.finish(bench, comparisons)
}

async fn kafka(args: KafkaArgs) -> Outcome<()> {
    let KafkaArgs { size, partitions, records, only, seconds, run } = args;
    let bench = kafka::Bench {
        subjects: if only.is_empty() { Subject::value_variants().to_vec() } else { only },
        sizes: match &size[..] {
            [] if run.beside.is_some() => vec![100],
            [] => vec![100, 1024],
            _ => size,
        },
        partitions,
        records: records.or(run.quick.then_some(40_000)),
        rounds: run.rounds(),
        trickle: Duration::from_secs_f64(seconds.unwrap_or(if run.quick { 1.0 } else { 10.0 })),
        progress: Progress::new(),
        beside: run.beside.clone(),
    };
    let comparisons = bench.run().await?;
    run.finish(bench.progress, None, comparisons)
}

impl CommonArgs {
    fn settings(&self, narrowed: bool) -> Vec<Setting> {
        match &self.setting[..] {
            [] if narrowed => vec![Setting::Equal],
            [] => Setting::value_variants().to_vec(),
            settings => settings.to_vec(),
        }
    }

    fn pace(&self) -> Pace {
        let seconds = if self.run.quick { 0.2 } else { 2.0 };
        let measured = Duration::from_secs_f64(self.seconds.unwrap_or(seconds));
        Pace { rounds: self.run.rounds(), warm_up: measured / 4, measured }
    }

    fn bench(&self, sizes: Vec<usize>, in_flight: usize) -> Bench {
        let mut peers = if self.only.is_empty() { Peer::value_variants().to_vec() } else { self.only.clone() };
        if peers.contains(&Peer::Ours) {
            // Beside which ours is measured in some scenarios.
            peers.push(Peer::Bare);
        }
        let beside = self.run.beside.clone();
        Bench { peers, sizes, in_flight, pace: self.pace(), progress: Progress::new(), beside }
    }

    fn finish(&self, bench: Bench, comparisons: Vec<Comparison>) -> Outcome<()> {
        let Bench { pace, progress, .. } = bench;
        self.run.finish(progress, Some(pace.measured), comparisons)
    }
}

impl RunArgs {
    fn rounds(&self) -> usize {
        let rounds = match (self.quick, &self.beside) {
            (true, _) => 1,
            (false, Some(_)) => beside::PAIRS,
            (false, None) => 5,
        };
        self.rounds.map_or(rounds, usize::from)
    }

    /// Says what was measured, for so long each time, and writes it down.
    fn finish(&self, progress: Progress, measured: Option<Duration>, mut comparisons: Vec<Comparison>) -> Outcome<()> {
        comparisons.retain(|comparison| !comparison.subjects.is_empty());
        if comparisons.is_empty() {
            return Err(
                "there is nothing to compare: none of the peers of --only takes part in what was asked for".into()
            );
        }
        // Clears its line before anything else is written.
        drop(progress);
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let run = Run {
            command: format!("cargo run --release -p benchmarks -- {}", arguments.join(" ")),
            machine: Machine::this(),
            rounds: self.rounds(),
            seconds: measured.map(|measured| measured.as_secs_f64()),
            serious: !self.quick && !cfg!(debug_assertions),
            comparisons,
        };
        match std::io::stdout().write_all(report::text(&run).as_bytes()) {
            // A reader that closed the pipe is no error: it has read enough.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(format!("standard output cannot be written: {error}").into());
            }
            Ok(()) | Err(_) => {}
        }
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(&run)?;
            std::fs::write(path, json).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        }
        Ok(())
    }
}
