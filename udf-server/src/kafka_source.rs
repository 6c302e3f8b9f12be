//! `udf-server kafka-source`: the Kafka source as a server.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, Subcommand};
use numaflow_sdk::{Environment, ServeError, run_server_with};

use crate::config::Layers;
use crate::error::Failure;
use crate::kafka::{KafkaArgs, KafkaSource, explain_aborts, give_back_large_buffers};
use crate::kafka_reset::{self, ResetArgs};
use crate::runtime::{self, Runtime};
use crate::serve::{ServerArgs, begin};

/// How long leaving the group may take, after the drain and still within the pod's 30 s.
const LEAVING: Duration = Duration::from_secs(3);

/// The flags of the Kafka source.
#[derive(Debug, Args)]
pub(crate) struct SourceFlags {
    #[command(flatten)]
    pub(crate) kafka: KafkaArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `kafka-source` with its flags, or one of its one-shot commands.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct KafkaSourceArgs {
    #[command(flatten)]
    flags: SourceFlags,
    #[command(subcommand)]
    command: Option<KafkaSourceCommand>,
}

#[derive(Debug, Subcommand)]
enum KafkaSourceCommand {
    /// Move what the group has committed, while nobody is in it: shows what it will do first
    Reset(ResetArgs),
}

/// The commands of other runtimes, by their names; only a file can hold them.
pub(crate) fn runtimes(layers: &mut Layers<'_>) -> BTreeMap<String, Vec<String>> {
    layers.lists("runtimes")
}

/// Runs the one-shot command, where there is one, or serves.
pub(crate) fn run(args: &KafkaSourceArgs, environment: &dyn Environment) -> Result<(), Failure> {
    match &args.command {
        Some(KafkaSourceCommand::Reset(reset)) => kafka_reset::command(reset, environment),
        None => serve(&args.flags, environment),
    }
}

/// Serves until a signal, then leaves the group.
fn serve(args: &SourceFlags, environment: &dyn Environment) -> Result<(), Failure> {
    let mut layers = Layers::new(environment, args.server.config.as_deref())?;
    let runtimes = runtimes(&mut layers);
    if let Runtime::External(command) = Runtime::choose(environment, &runtimes)? {
        return Err(runtime::exec(&command));
    }
    let settings = args.server.settings(&mut layers);
    let log_format = args.server.log_format(&mut layers);
    let config = args.kafka.config(&mut layers, &settings);
    layers.finish()?;
    let Some(config) = config else {
        // What is missing was noted, and has ended the collecting with an error.
        return Ok(());
    };
    begin(log_format, environment);
    give_back_large_buffers();
    explain_aborts();
    let topics: Vec<&str> = config.topics().collect();
    tracing::info!(
        brokers = config.brokers().addresses(),
        topics = topics.join(","),
        group = config.group(),
        start = %config.start(),
        given_up = config.given_up(),
        "Kafka source"
    );

    let started = Arc::new(OnceLock::new());
    let keep = started.clone();
    let served = run_server_with(async move || {
        let set_up = |error: Box<dyn std::error::Error + Send + Sync>| ServeError::SetUp { source: error };
        let start = tokio::task::spawn_blocking(move || KafkaSource::start(config));
        let source = start.await.map_err(|error| set_up(error.into()))?.map_err(|error| set_up(error.into()))?;
        Ok(keep.get_or_init(|| source).server().settings(settings))
    });
    let failure = started.get().and_then(|source| {
        leave(source);
        source.failure()
    });
    served?;
    failure.map_or(Ok(()), |reason| Err(Failure::Run(reason)))
}

/// Commits what may be committed and leaves the group, so that the others need not wait for the session to end.
fn leave(source: &KafkaSource) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    if !runtime.block_on(source.close(LEAVING)) {
        tracing::warn!("the group could not be left in time; it finds out by the session timeout");
    }
}
