//! `udf-server kafka-source reset`: moves what a group has committed, once, and shows first what that comes to.

use std::path::PathBuf;

use clap::Args;
use numaflow_sdk::Environment;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::Layers;
use crate::error::Failure;
use crate::kafka::{
    BrokerArgs, Group, KafkaArgs, KafkaConfig, Membership, Move, PlanError, Selected, Target, carry_out,
    explain_aborts, plan,
};
use crate::kafka_source;
use crate::print::{line, note};
use crate::serve::ServerArgs;
use crate::variables;

/// Moves what a group has committed, so that records are read again or skipped. It is refused while anybody is in the
/// group, because members go on from where they are: scale the vertex to zero first.
///
/// Without --yes it only shows what it would do. Brokers, topics and group are found where kafka-source finds them.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Where the group goes on: earliest, latest, at a time (2026-01-31T12:00:00Z), so far back (6h), or at an offset
    #[arg(long, value_name = "WHERE")]
    to: String,
    /// Only this topic, or one partition of it; may be given several times [default: all that are read]
    #[arg(long = "topic", value_name = "TOPIC[:PARTITION]")]
    only: Vec<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    brokers: BrokerArgs,
    /// The topics that are read, with commas between
    #[arg(long, value_name = "NAME,..")]
    topics: Option<String>,
    /// The consumer group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// A YAML file with settings; flags and environment beat it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Shows the plan, and carries it out if it is told to.
pub(crate) fn command(args: &ResetArgs, environment: &dyn Environment) -> Result<(), Failure> {
    let (config, target, selected) = settings(args, environment)?;
    for unknown in variables::unknown(environment) {
        note(format_args!("warning: {unknown}"));
    }
    explain_aborts();
    let mut group = Group::connect(&config).map_err(|error| Failure::run(&error))?;
    let moves = plan(&group, target, &selected).map_err(|error| match error {
        PlanError::Kafka(error) => Failure::Run(format!("where the group stands is not known: {error}")),
        PlanError::Senseless(problems) => Failure::Configuration(problems),
    })?;
    line(table(&moves))?;
    let members = members(&group, config.group())?;
    if !args.yes {
        if let Some(members) = members {
            line(format_args!("It would be refused now: {members}."))?;
        }
        return line("Nothing was changed: give --yes to do it.");
    }
    if let Some(members) = members {
        return Err(Failure::Run(format!("nothing was changed: {members}")));
    }
    match carry_out(&mut group, &moves) {
        Ok(true) => line(format_args!("Done: the group {} goes on from there.", config.group())),
        Ok(false) => {
            Err(Failure::Run("some partitions are not where they should be: look again without --yes".to_owned()))
        }
        Err(error) => Err(refused(&error, config.group())),
    }
}

/// Brokers, topics and group as the source finds them, and what to do.
fn settings(args: &ResetArgs, environment: &dyn Environment) -> Result<(KafkaConfig, Target, Vec<Selected>), Failure> {
    let mut layers = Layers::new(environment, args.config.as_deref())?;
    let target = Target::parse(&args.to).map_err(|problem| layers.problem(format!("--to {problem}")));
    let selected: Vec<_> = args
        .only
        .iter()
        .filter_map(|text| Selected::parse(text).map_err(|problem| layers.problem(format!("--topic {problem}"))).ok())
        .collect();
    // The file and the environment are the source's, so all that they may hold is known here too.
    drop(kafka_source::runtimes(&mut layers));
    let server = ServerArgs::default();
    let mut settings = server.settings(&mut layers);
    server.log_format(&mut layers);
    // Which replica this would be is of no concern: it does not join.
    settings.replica.get_or_insert(0);
    let kafka = KafkaArgs {
        brokers: args.brokers.clone(),
        topics: args.topics.clone(),
        group: args.group.clone(),
        ..KafkaArgs::default()
    };
    let config = kafka.config(&mut layers, &settings);
    layers.finish()?;
    match (config, target) {
        (Some(config), Ok(target)) => Ok((config.without_instance(), target, selected)),
        _ => Err(Failure::configuration("a setting is missing")),
    }
}

/// Who is in the group, and what to do about it; `None` where it is empty, as far as that is told.
fn members(group: &Group, name: &str) -> Result<Option<String>, Failure> {
    match group.members() {
        Ok(Membership::Members(members)) => {
            let list: Vec<String> = members.iter().map(ToString::to_string).collect();
            return Ok(Some(format!("the group {name} has members ({}): stop them first", list.join("; "))));
        }
        Ok(Membership::Empty) => {}
        // The brokers refuse the commit if there is somebody.
        Ok(Membership::Unknown) => {
            line(
                "Who is in the group is not told (--group-protocol consumer); the brokers refuse the move if anybody is.",
            )?;
        }
        Err(error) => {
            line(format_args!(
                "Who is in the group is not known ({error}); the brokers refuse the move if anybody is."
            ))?;
        }
    }
    Ok(None)
}

fn refused(error: &KafkaError, group: &str) -> Failure {
    Failure::Run(match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::RebalanceInProgress
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::StaleMemberEpoch,
        ) => format!("nothing was changed: the group {group} has members ({error}): stop them first"),
        _ => format!("the offsets are not committed: {error}: look again without --yes"),
    })
}

fn table(moves: &[Move]) -> String {
    let width = moves.iter().map(|one| one.topic.len()).max().unwrap_or(0).max("topic".len());
    let mut text = format!("{:width$}  {:>9}  {:>12}  {:>12}  effect\n", "topic", "partition", "committed", "new");
    let (mut again, mut skipped) = (0_u64, 0_u64);
    for one in moves {
        let committed = one.committed.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
        let count = one.skipped.unsigned_abs();
        let effect = match one.skipped.signum() {
            -1 => {
                again += count;
                format!("{count} read again")
            }
            1 => {
                skipped += count;
                format!("{count} skipped")
            }
            _ => "stays".to_owned(),
        };
        text += &format!("{:width$}  {:>9}  {committed:>12}  {:>12}  {effect}\n", one.topic, one.partition, one.new);
    }
    text + &format!("In all {again} offsets are read again and {skipped} skipped; gaps in the log make fewer records.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_becomes_of_records() {
        let one = |partition, committed, new, skipped| Move {
            topic: "orders".to_owned(),
            partition,
            committed,
            new,
            skipped,
        };
        let table = table(&[one(0, Some(30), 20, -10), one(1, None, 50, 40), one(2, Some(7), 7, 0)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "topic   partition     committed           new  effect");
        assert_eq!(lines[1], "orders          0            30            20  10 read again");
        assert_eq!(lines[2], "orders          1       nothing            50  40 skipped");
        assert_eq!(lines[3], "orders          2             7             7  stays");
        assert!(lines[4].starts_with("In all 10 offsets are read again and 40 skipped"), "{table}");
    }
}
