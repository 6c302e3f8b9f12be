//! `udf-server check-config`: every mistake at once, then what would be used, then whether the brokers can be reached.

use std::path::PathBuf;

use clap::Args;
use numaflow_sdk::Environment;
use serde::Serialize;

use crate::config::Layers;
use crate::error::Failure;
use crate::kafka::{KafkaConfig, Outcome, Tried, explain_aborts, try_connection, works};
use crate::kafka_source::{self, SourceFlags};
use crate::print::{line, note};
use crate::runtime::{self, Runtime};
use crate::used::{self, Used};
use crate::variables;

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
    warnings: Vec<String>,
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
    let warnings = variables::unknown(environment);
    for warning in &warnings {
        note(format_args!("warning: {warning}"));
    }
    let result = check(args, environment);
    let (mut report, config) = match result {
        Ok((report, config)) => (Report { warnings, ..report }, config),
        Err(Failure::Configuration(mistakes)) => {
            if args.json {
                print(&Report { mistakes: mistakes.clone(), warnings, ..Report::default() }, true)?;
            }
            return Err(Failure::Configuration(mistakes));
        }
        Err(other) => return Err(other),
    };
    if args.connect {
        explain_aborts();
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
    let runtime = Runtime::choose(environment, &runtimes).map_err(|failure| add_mistakes(failure, &mut layers)).ok();
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
fn add_mistakes(failure: Failure, layers: &mut Layers<'_>) {
    match failure {
        Failure::Configuration(mistakes) => mistakes.into_iter().for_each(|mistake| layers.problem(mistake)),
        other @ (Failure::Run(_) | Failure::Usage(_)) => layers.problem(other.to_string()),
    }
}

fn used_runtime(runtime: &Runtime) -> Used {
    let (value, from) = match runtime {
        Runtime::Rust => ("rust".to_owned(), format!("this program ({})", runtime::VARIABLE)),
        // Its arguments may be secrets.
        Runtime::External(command) => (
            command.first().cloned().unwrap_or_default(),
            format!("{}, which takes its own settings", runtime::VARIABLE),
        ),
    };
    Used { name: "runtime".to_owned(), value: Some(value), from }
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(report).map_err(|error| Failure::run(&error))?;
        return line(text);
    }
    let sections = [
        ("Runtime", &report.runtime),
        ("Kafka source", &report.kafka),
        ("Server", &report.server),
        ("librdkafka", &report.properties),
    ];
    for (title, settings) in sections {
        line(format_args!("{title}\n{}", used::table(settings)))?;
    }
    if !report.connection.is_empty() {
        line("Connection")?;
        for tried in &report.connection {
            line(step(tried))?;
        }
    }
    Ok(())
}

fn step(tried: &Tried) -> String {
    let outcome = match tried.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Warning => "WARN",
        Outcome::Skipped => "-",
    };
    let step = format!("{:?}", tried.step).to_lowercase();
    let advice = tried.advice.as_deref().map(|advice| format!("\n                    what to do: {advice}"));
    format!("  {step:8}  {outcome:6}  {}{}", tried.detail, advice.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::config::tests::Variables;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: CheckConfigArgs,
    }

    /// What values are made of: any piece of one that is long enough to tell is found in what is printed.
    const VALUE: &str = "Zqjx";
    /// The same for values that are printed by no command, whatever the file is like.
    const SECRET: &str = "Sqjx";

    /// Files with a mark for each value, which are fine before they are broken; `{folder}` has the files that they name.
    static FILES: [&str; 4] = [
        "brokers: VALUE:9092\ntopics: VALUE\ngroup: VALUE\nproperties:\n  client.id: VALUE\n  security.protocol: sasl_plaintext\n  \
         sasl.mechanism: PLAIN\n  sasl.username: VALUE\n  sasl.password: SECRET\n  ssl.key.password: SECRET\n",
        "group: 'VALUE'\nproperties: {client.id: \"VALUE\", sasl.username: 'VALUE', sasl.password: \"SECRET\", \
         security.protocol: sasl_plaintext, sasl.mechanism: PLAIN}\nbrokers: [VALUE:9092, 'VALUE:9093']\ntopics:\n- VALUE\n- '^VALUE'\n\
         partition-ids: replica\n",
        "properties-from-files:\n  sasl.password: {folder}/SECRET\n  client.rack: {folder}/SECRET\nproperties:\n  \
         security.protocol: sasl_plaintext\n  sasl.mechanism: SCRAM-SHA-512\n  sasl.username: VALUE\nbrokers: VALUE\n\
         topics: VALUE,VALUEVALUE\ngroup: VALUE\ndead-letter-topic: VALUE.VALUE\n",
        "brokers: VALUE:9092\ntopics: VALUE\ngroup: VALUE\nruntimes:\n  java: [java, -jar, SECRET]\nproperties: &all\n  \
         sasl.password: |\n    SECRET\n  security.protocol: sasl_plaintext\n  sasl.mechanism: PLAIN\n  sasl.username: VALUE\n\
         socket: /VALUE/s\nserver-info: /VALUE/i\n",
    ];

    /// Settings with a value that they do not take, to be added.
    const WRONG: [&str; 26] = [
        "linger: VALUE",
        "start: VALUE",
        "on-exhausted: VALUE",
        "max-record-bytes: VALUE",
        "max-deliveries: VALUE",
        "ack-durability: VALUE",
        "static-member: VALUE",
        "revoke-timeout: VALUE",
        "drain-timeout: VALUE",
        "socket-mode: VALUE",
        "max-in-flight-bytes: VALUE",
        "admin: VALUE",
        "log-format: VALUE",
        "connect-timeout: {VALUE: VALUE}",
        "dead-letter-topic: [VALUE, VALUE VALUE]",
        "group-protocol: \"VALUE\\nVALUE\"",
        "record-metadata: &VALUE VALUE",
        "on-oversize: !VALUE VALUE",
        "inflight-timeout: *VALUE",
        "VALUE: VALUE",
        "{VALUE, sasl.password: VALUE}: VALUE",
        "properties-from-files: {VALUE: VALUE, sasl.password: VALUE, ssl.key.pem: /dev/zero}",
        "properties: {fetch.min.bytes: VALUE, check.crcs: VALUE, security.protocol: VALUE, VALUE: VALUE}",
        "properties: {sasl.mechanism: VALUE, security.protocol: sasl_ssl, ssl.ca.location: /VALUE}",
        "properties: {ssl.key.pem: VALUE, ssl.cipher.suites: VALUE, security.protocol: ssl}",
        "runtimes: VALUE",
    ];

    /// Signs that mean something to YAML.
    const SIGNS: &[u8] = b":{}[],\"'#&*!|>%@`-?= \n\t~<\\$";

    #[derive(Debug, Clone)]
    enum Mutation {
        Insert(usize, u8),
        Delete(usize),
        Replace(usize, u8),
        RepeatLine(usize),
        Indent(usize),
        /// A sign before a value.
        Before(usize, u8),
        /// A line more.
        Add(usize),
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        let sign = || proptest::sample::select(SIGNS);
        prop_oneof![
            (any::<usize>(), sign()).prop_map(|(at, sign)| Mutation::Insert(at, sign)),
            any::<usize>().prop_map(Mutation::Delete),
            (any::<usize>(), sign()).prop_map(|(at, sign)| Mutation::Replace(at, sign)),
            any::<usize>().prop_map(Mutation::RepeatLine),
            any::<usize>().prop_map(Mutation::Indent),
            (any::<usize>(), sign()).prop_map(|(at, sign)| Mutation::Before(at, sign)),
            (0..WRONG.len()).prop_map(Mutation::Add),
        ]
    }

    fn mutate(text: &mut String, mutation: &Mutation) {
        let lines = text.lines().count().max(1);
        let line_start = |text: &str, line: usize| text.split_inclusive('\n').take(line).map(str::len).sum::<usize>();
        match *mutation {
            Mutation::Insert(at, sign) => text.insert(at % (text.len() + 1), sign.into()),
            Mutation::Delete(at) if !text.is_empty() => {
                text.remove(at % text.len());
            }
            Mutation::Replace(at, sign) if !text.is_empty() => {
                let at = at % text.len();
                text.replace_range(at..=at, str::from_utf8(&[sign]).unwrap());
            }
            Mutation::Delete(_) | Mutation::Replace(..) => {}
            Mutation::RepeatLine(line) => {
                let line = line % lines;
                let repeated = text.split_inclusive('\n').nth(line).unwrap_or_default().to_owned();
                text.insert_str(line_start(text, line), &repeated);
            }
            Mutation::Indent(line) => text.insert(line_start(text, line % lines), ' '),
            Mutation::Before(at, sign) => {
                let places: Vec<usize> = text.match_indices(": ").map(|(place, _)| place + 2).collect();
                if !places.is_empty() {
                    text.insert(places[at % places.len()], sign.into());
                }
            }
            Mutation::Add(line) => {
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(WRONG[line]);
                text.push('\n');
            }
        }
    }

    /// More files, and others: YAML_CASES=100000 YAML_SEED=2.
    fn of_environment(name: &str) -> Option<u64> {
        std::env::var(name).ok()?.parse().ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: of_environment("YAML_CASES").map_or(400, |cases| u32::try_from(cases).unwrap()),
            rng_seed: RngSeed::Fixed(of_environment("YAML_SEED").unwrap_or(1)),
            ..ProptestConfig::default()
        })]
        #[test]
        fn no_mistake_quotes_a_value(
            file in proptest::sample::select(&FILES[..]),
            mutations in proptest::collection::vec(mutation(), 0..5),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let secret = SECRET.repeat(3);
            std::fs::write(folder.path().join(&secret), &secret).unwrap();
            let mut text = file.replace("{folder}", folder.path().to_str().unwrap());
            for mutation in &mutations {
                mutate(&mut text, mutation);
            }
            let text = text.replace("VALUE", &VALUE.repeat(3)).replace("SECRET", &secret);
            let yaml = folder.path().join("settings.yaml");
            std::fs::write(&yaml, &text).unwrap();
            let Command { args } = Command::try_parse_from(["check", yaml.to_str().unwrap()]).unwrap();
            match check(&args, &Variables::from([("NUMAFLOW_REPLICA", "0")])) {
                Err(failure) => {
                    let told = failure.to_string();
                    prop_assert!(!told.contains(VALUE) && !told.contains(SECRET), "{told}\n{text}");
                }
                Ok((report, config)) => {
                    let told = serde_json::to_string(&report).unwrap() + &format!("{config:?}");
                    // Where a secret was read from is told, and here that has its name.
                    let told = told.replace(&format!("{}/{secret}", folder.path().display()), "");
                    prop_assert!(!told.contains(SECRET), "{told}\n{text}");
                }
            }
        }
    }
}
