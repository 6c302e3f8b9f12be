//! `udf-server check-config`: every mistake at once, then what would be used, then whether the brokers can be reached.

use std::path::PathBuf;

use clap::Args;
use numaflow_sdk::Environment;
use serde::Serialize;

use crate::config::Layers;
use crate::error::Failure;
use crate::kafka::{KafkaConfig, Outcome, Tried, try_connection, works};
use crate::kafka_source::{self, SourceFlags};
use crate::runtime::{self, Runtime};
use crate::used::{self, Used};

/// Checks the settings of a Kafka source, which are given as to kafka-source itself, and starts nothing.
///
/// Every mistake is told at once. Without one the settings that would be used are printed, each with the place it comes
/// from; secrets are not. Exit codes: 0 fine, 64 mistakes, 1 --connect has failed.
#[derive(Debug, Args)]
pub(crate) struct CheckConfigArgs {
    /// The YAML file with the settings, as --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// Try the way to the brokers too: resolve, connect, TLS, SASL, metadata, group
    #[arg(long)]
    connect: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: SourceFlags,
}

/// What the check comes to.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runtime: Vec<Used>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kafka: Vec<Used>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    server: Vec<Used>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Used>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connection: Vec<Tried>,
}

/// Checks, prints, and fails where something is not as it should be.
pub(crate) fn command(args: &CheckConfigArgs, environment: &dyn Environment) -> Result<(), Failure> {
    let result = check(args, environment);
    let (mut report, config) = match result {
        Ok(checked) => checked,
        Err(Failure::Configuration(mistakes)) => {
            if args.json {
                print(&Report { mistakes: mistakes.clone(), ..Report::default() }, true)?;
            }
            return Err(Failure::Configuration(mistakes));
        }
        Err(other) => return Err(other),
    };
    if args.connect {
        report.connection = try_connection(&config);
        report.ok = works(&report.connection);
    }
    print(&report, args.json)?;
    if report.ok { Ok(()) } else { Err(Failure::Run("the brokers cannot be used as configured".to_owned())) }
}

fn check(args: &CheckConfigArgs, environment: &dyn Environment) -> Result<(Report, KafkaConfig), Failure> {
    let file = args.file.as_deref().or(args.flags.server.config.as_deref());
    let mut layers = Layers::new(environment, file)?;
    let runtimes = kafka_source::runtimes(&mut layers);
    let runtime = Runtime::choose(environment, &runtimes).map_err(|failure| note(failure, &mut layers)).ok();
    let settings = args.flags.server.settings(&mut layers);
    // Only to find its mistakes.
    args.flags.server.log_format(&mut layers);
    let config = args.flags.kafka.config(&mut layers, &settings);
    if let Some(config) = &config
        && layers.problems() == 0
        && let Err(problem) = config.accepted()
    {
        layers.problem(problem);
    }
    let report = config.as_ref().zip(runtime).map(|(config, runtime)| Report {
        ok: true,
        runtime: vec![used_runtime(&runtime)],
        kafka: config.used(&layers),
        server: args.flags.server.used(&layers),
        properties: config.used_properties(),
        ..Report::default()
    });
    layers.finish()?;
    report.zip(config).ok_or_else(|| Failure::configuration("a setting is missing"))
}

/// Keeps the mistakes of a failure among the others.
fn note(failure: Failure, layers: &mut Layers<'_>) {
    match failure {
        Failure::Configuration(mistakes) => mistakes.into_iter().for_each(|mistake| layers.problem(mistake)),
        other @ (Failure::Run(_) | Failure::Usage(_)) => layers.problem(other.to_string()),
    }
}

fn used_runtime(runtime: &Runtime) -> Used {
    let (value, from) = match runtime {
        Runtime::Rust => ("rust".to_owned(), format!("this program ({})", runtime::VARIABLE)),
        Runtime::External(command) => {
            (command.join(" "), format!("{}, which takes its own settings", runtime::VARIABLE))
        }
    };
    Used { name: "runtime".to_owned(), value: Some(value), from }
}

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(report).map_err(|error| Failure::run(&error))?;
        println!("{text}");
        return Ok(());
    }
    let sections = [
        ("Runtime", &report.runtime),
        ("Kafka source", &report.kafka),
        ("Server", &report.server),
        ("librdkafka", &report.properties),
    ];
    for (title, settings) in sections {
        println!("{title}\n{}", used::table(settings));
    }
    if !report.connection.is_empty() {
        println!("Connection");
        for tried in &report.connection {
            println!("{}", line(tried));
        }
    }
    Ok(())
}

fn line(tried: &Tried) -> String {
    let outcome = match tried.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "-",
    };
    let step = format!("{:?}", tried.step).to_lowercase();
    let advice = tried.advice.as_deref().map(|advice| format!("\n                    what to do: {advice}"));
    format!("  {step:8}  {outcome:6}  {}{}", tried.detail, advice.unwrap_or_default())
}
