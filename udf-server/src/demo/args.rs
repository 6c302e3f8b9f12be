//! What the demo can be told.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::drive::Lines;
use crate::kafka::BrokerArgs;

/// Runs the whole product on real data: a Kafka-compatible broker in this process, the Kafka source and a map in
/// processes of their own, and this process plays the platform between them.
///
/// Without --input, 20,000 real flights and 200 awkward lines are produced; the map converts, filters and enriches
/// them. Exit code 0 means that every record came out once and was committed.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Lines to use instead of the flights: a file, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub(super) input: Option<PathBuf>,
    /// Where the outputs go, one a line; what the map could not use goes to FILE.dead
    #[arg(long, value_name = "FILE", default_value = "flights-out.jsonl")]
    pub(super) out: PathBuf,
    /// The Kafka to use instead of the one in this process
    #[command(flatten)]
    pub(super) brokers: BrokerArgs,
    /// A YAML file with what the brokers ask for, such as TLS and SASL
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The topic to make for this run, with --brokers; there must be none of that name [default: one that no other run has]
    #[arg(long, value_name = "NAME")]
    pub(super) topic: Option<String>,
    /// Keep topic and group after the run, with --brokers
    #[arg(long)]
    pub(super) keep: bool,
    /// How the map is served, and the platform speaks to it
    #[arg(long, value_name = "MODE", default_value = "unary", value_parser = ["unary", "batch", "stream"])]
    pub(super) map_mode: String,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl DemoArgs {
    /// What was said of real brokers, said again to the source.
    pub(super) fn for_the_source(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut set = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        for property in &self.brokers.properties {
            set("--property", property.into());
        }
        if let Some(config) = &self.config {
            set("--config", config.into());
        }
        arguments
    }

    /// The input, unless it is the data that comes with the demo.
    pub(super) fn lines(&self) -> Option<Lines> {
        let path = self.input.as_ref()?;
        Some(if path.as_os_str() == "-" { Lines::Stdin } else { Lines::File(path.clone()) })
    }

    /// Where dead letters go.
    pub(super) fn dead(&self) -> PathBuf {
        with_ending(&self.out, ".dead")
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(ending);
    name.into()
}
