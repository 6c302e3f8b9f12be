//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::Outcome;
use crate::compare::{Pace, Plan, map_under_load};
use crate::handler::Handler;
use crate::progress::Progress;
use crate::results::Metric;
use crate::serve::{self, Peer, ServeArgs, ServeCommand, Setting};
use crate::table;

/// Numaflow servers side by side, in one run: what a message costs each of them, and how they compare.
#[derive(Debug, Parser)]
#[command(name = "benchmarks", max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare maps
    Map(MapArgs),
    #[command(hide = true)]
    Serve(ServeCommand),
}

#[derive(Debug, Args)]
struct MapArgs {
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    only: Vec<Peer>,
    /// The sizes of values, in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [100, 256, 4096, 65536])]
    size: Vec<usize>,
    #[arg(long, default_value_t = 500)]
    in_flight: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each peer is measured in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, value_delimiter = ',', default_value = "equal")]
    setting: Vec<Setting>,
    /// Write everything measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> Outcome<()> {
    match Cli::parse().command {
        Command::Serve(command) => serve::run(command),
        Command::Map(args) => interruptible(map(args)),
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

#[expect(clippy::print_stdout, reason = "a command-line program")]
async fn map(args: MapArgs) -> Outcome<()> {
    let peers = if args.only.is_empty() { vec![Peer::Ours, Peer::Published, Peer::Tonic, Peer::H2] } else { args.only };
    let pace = Pace {
        rounds: args.rounds,
        warm_up: Duration::from_secs_f64(args.seconds / 4.0),
        measured: Duration::from_secs_f64(args.seconds),
    };
    let progress = Progress::new();
    let mut comparisons = Vec::new();
    for setting in args.setting {
        for &size in &args.size {
            let plan = Plan {
                id: format!("map/identity/{setting:?}/{size}"),
                title: format!("map, {setting:?} settings, {size} B"),
                note: None,
                unit: "message",
                subjects: peers.iter().map(|peer| format!("{peer:?}").to_lowercase()).collect(),
            };
            let servers: Vec<ServeArgs> =
                peers.iter().map(|&peer| ServeArgs::new(peer, setting, Handler::Identity)).collect();
            let measure = async |index: usize| map_under_load(&servers[index], size, args.in_flight, pace).await;
            comparisons.push(plan.run(pace.rounds, &progress, measure).await?);
        }
    }
    drop(progress);
    for comparison in &comparisons {
        println!("{}\n{}", comparison.title, table::figures(comparison).to_text());
        for under in ["tonic", "h2", "published"] {
            if let Some(spread) = comparison.ratio(Metric::CpuMicroseconds, "ours", under) {
                println!("CPU a message, ours / {under}: {}", table::ratio(spread));
            }
        }
        println!();
    }
    if let Some(path) = args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&comparisons)?)?;
    }
    Ok(())
}
