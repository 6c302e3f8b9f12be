//! Sources of Kafka's records side by side: all read the same topics of the same broker, which is there for one run.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use kafka_broker::VERSION;

use crate::Outcome;
use crate::beside::{BESIDE, Beside};
use crate::client::Connection;
use crate::compare::{Moment, Plan};
use crate::progress::Progress;
use crate::reading::{Numbered, Reading};
use crate::results::{Comparison, Metric, Sample};
use crate::serve::{Peer, Service, Setting, Spec, Topic};
use crate::subject::{Count, READ, source_of_records, with_server};

mod cluster;
mod positions;
mod tool;
mod trickle;

use cluster::Cluster;
use positions::Positions;
use trickle::Trickle;

/// The size of values where only one is measured.
const VALUE: usize = 100;
/// Records a second where latency is measured.
const RATE: u32 = 100;
/// The records of a topic, and the most bytes in their values: enough for some seconds of reading at full speed.
const RECORDS: u64 = 4_000_000;
const BYTES: u64 = 1_000_000_000;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// udf-server's Kafka source
    Ours,
    /// a source on the crate numaflow 0.6.0, in the shape of the one that is built into the platform
    Published,
    /// numaflow-sdk with generated records: ours without Kafka
    Generated,
    /// a plain tonic source of generated records: what the way to the client allows
    Tonic,
    /// Kafka's own ConsumerPerformance: what the broker allows
    Java,
}

impl Subject {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Who serves it, where that is a source at all.
    fn server(self) -> Option<(Peer, Service)> {
        match self {
            Self::Ours => Some((Peer::Ours, Service::Kafka)),
            Self::Published => Some((Peer::Published, Service::Kafka)),
            Self::Generated => Some((Peer::Ours, Service::Source)),
            Self::Tonic => Some((Peer::Tonic, Service::Source)),
            Self::Java => None,
        }
    }

    fn reads_kafka(self) -> bool {
        self.server().is_some_and(|(_, service)| service == Service::Kafka)
    }
}

/// What `kafka` is told.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) sizes: Vec<usize>,
    pub(crate) partitions: u16,
    /// Of each topic; `None` for what the size of the values allows.
    pub(crate) records: Option<u64>,
    pub(crate) rounds: usize,
    /// How long latency is measured.
    pub(crate) trickle: Duration,
    pub(crate) progress: Progress,
    /// Another build of this program, whose Kafka source is measured in place of the other subjects.
    pub(crate) beside: Option<Beside>,
}

/// A subject, and the program that serves it; `None` for this one.
type Contender = (Subject, Option<PathBuf>);

impl Bench {
    pub(crate) async fn run(&self) -> Outcome<Vec<Comparison>> {
        self.progress.prepare("starting Kafka");
        let cluster = Cluster::start(self.partitions).await?;
        let mut comparisons = Vec::new();
        for &size in &self.sizes {
            comparisons.push(self.throughput(&cluster, size).await?);
        }
        // Fifty pairs of a trickle would take twenty minutes, and tell nothing of what a record costs.
        if self.beside.is_none() {
            comparisons.push(self.latency(&cluster).await?);
        }
        Ok(comparisons)
    }

    async fn throughput(&self, cluster: &Cluster, size: usize) -> Outcome<Comparison> {
        let partitions = self.partitions;
        let records = self.records.unwrap_or_else(|| RECORDS.min(BYTES / size.max(1) as u64));
        let name = format!("of-{size}");
        self.progress.prepare(&format!("producing {records} records of {size} B"));
        cluster.fill(&name, size, records).await?;
        // The end of the topic is not measured, where partitions run dry one after the other.
        let count = Count { warm_up: records / 4, measured: records / 2 };
        let note = format!(
            "A topic of Apache Kafka {VERSION}: {records} records in {partitions} partitions, not compressed, read from its beginning by a group \
             that is new each time: the first quarter is the warm-up, half of them are measured. Reads of 500 records, \
             each acked before the next; a record's latency is that of its read and its ack. Java is Kafka's own \
             ConsumerPerformance, which reads all of them for nobody: the start of its virtual machine is in its CPU. Ours \
             is to have 0.8 of tonic's records/s where broker, server and client do not have to share too few cores."
        );
        let plan = Plan::new(
            format!("kafka/{size}"),
            format!("Kafka's records of {size} B, {partitions} partitions, equal settings"),
            Some(&note),
        );
        self.compare(plan, &self.subjects, async |(subject, program)| {
            let topic = cluster.topic(&name);
            match subject.server() {
                None => tool::measure(cluster, &topic, records).await,
                Some(server) if subject.reads_kafka() => {
                    let expected = Positions::new(&name, partitions, size);
                    let spec = Spec { program: program.clone(), ..spec(server, size, Some(topic)) };
                    source_of_records(&spec, expected, count, cluster.broker()).await
                }
                Some(server) => {
                    let spec = spec(server, size, None);
                    source_of_records(&spec, Numbered::new(size), count, cluster.broker()).await
                }
            }
        })
        .await
    }

    async fn latency(&self, cluster: &Cluster) -> Outcome<Comparison> {
        let plan = Plan::new(
            format!("kafka/latency/{RATE}"),
            format!("{RATE} records a second through Kafka, {VALUE} B, equal settings"),
            Some(
                "From when a record is handed to its producer until the read that brings it to the client has ended: only \
                 then does the platform go on with what it has read. The broker's part is in it.",
            ),
        );
        let subjects: Vec<Subject> = self.subjects.iter().copied().filter(|subject| subject.reads_kafka()).collect();
        self.compare(plan, &subjects, async |(subject, _)| match subject.server() {
            Some(server) => self.trickle(cluster, server).await,
            None => Err("it has no server".into()),
        })
        .await
    }

    /// Measures the latency of a source, on a topic of its own.
    async fn trickle(&self, cluster: &Cluster, server: (Peer, Service)) -> Outcome<Sample> {
        let topic = cluster.new_topic("trickle");
        let producer = cluster.create(&topic.topic, "0").await?;
        let expected = Positions::new(&topic.topic, self.partitions, VALUE);
        let records = u64::try_from(self.trickle.as_millis())? * u64::from(RATE) / 1000;
        with_server(&spec(server, VALUE, Some(topic)), async |child| {
            let mut connection = Connection::new(child.connect().await?).await?;
            let reading = Reading::new(&mut connection, READ, expected).await?;
            let mut trickle = Trickle::new(producer, reading, VALUE);
            // Of every partition some: then the group has assigned all of them.
            trickle.run(RATE, u64::from(self.partitions).max(records / 10)).await?;
            let before = Moment::now(child).await?.beside(cluster.broker())?;
            let window = trickle.run(RATE, records).await?;
            let mut sample = Moment::now(child).await?.beside(cluster.broker())?.since(&before, &window);
            // The rate is given, not found.
            sample.0.remove(&Metric::Rate);
            Ok(sample)
        })
        .await
    }

    async fn compare(
        &self,
        plan: Plan,
        subjects: &[Subject],
        measure: impl AsyncFn(&Contender) -> Outcome<Sample>,
    ) -> Outcome<Comparison> {
        let contenders = match &self.beside {
            Some(beside) => vec![
                (Subject::Ours.name(), (Subject::Ours, None)),
                (BESIDE.to_owned(), (Subject::Ours, Some(beside.program().to_owned()))),
            ],
            None => subjects.iter().map(|&subject| (subject.name(), (subject, None))).collect(),
        };
        plan.of_records().run(contenders, self.rounds, &self.progress, measure).await
    }
}

fn spec((peer, service): (Peer, Service), value_size: usize, topic: Option<Topic>) -> Spec {
    Spec { service, value_size, topic, ..Spec::new(peer, Setting::Equal) }
}
