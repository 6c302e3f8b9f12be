//! Subjects in turn: one round after the other, each subject once a round, its process a new one each time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_broker::Broker;

use crate::Outcome;
use crate::child::Child;
use crate::flight::Window;
use crate::measure::{MIB, Process, Used, machine_cpu, process_cpu, thread_cpu};
use crate::progress::Progress;
use crate::results::{Comparison, Metric, Sample};

/// How long and how often everything is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// A comparison to be measured.
#[derive(Debug)]
pub(crate) struct Plan {
    id: String,
    title: String,
    note: Option<String>,
    unit: &'static str,
}

impl Plan {
    /// A comparison of what messages cost. `note` says what is not as everywhere.
    pub(crate) fn new(id: String, title: String, note: Option<&str>) -> Self {
        Self { id, title, note: note.map(str::to_owned), unit: "message" }
    }

    /// What is counted are records.
    pub(crate) fn of_records(self) -> Self {
        Self { unit: "record", ..self }
    }

    /// Measures every subject once a round. Who goes first changes from round to round: what a subject leaves behind, a
    /// warm core or a full cache, then comes to all alike.
    pub(crate) async fn run<S>(
        self,
        subjects: Vec<(String, S)>,
        rounds: usize,
        progress: &Progress,
        measure: impl AsyncFn(&S) -> Outcome<Sample>,
    ) -> Outcome<Comparison> {
        let Self { id, title, note, unit } = self;
        let names = subjects.iter().map(|(name, _)| name.clone()).collect();
        let mut comparison = Comparison { id, title, note, unit: unit.to_owned(), subjects: names, rounds: Vec::new() };
        let count = subjects.len();
        for round in 0..rounds {
            let mut samples = BTreeMap::new();
            for index in (0..count).map(|turn| (turn + round) % count) {
                let (name, subject) = &subjects[index];
                progress.begin(&comparison.title, round, rounds, name);
                let sample = measure(subject)
                    .await
                    .map_err(|error| format!("{}, round {}, {name}: {error}", comparison.title, round + 1))?;
                progress.end(name, &sample);
                samples.insert(name.clone(), sample);
            }
            comparison.rounds.push(samples);
        }
        Ok(comparison)
    }
}

/// A state of server, client and machine between two whiles of load: nothing is in flight, so that whatever the server uses
/// in a while belongs to the messages of that while.
#[derive(Debug)]
pub(crate) struct Moment {
    server: Used,
    client: Duration,
    this_process: Duration,
    machine: Duration,
    /// Of the broker that the server reads from.
    broker: Option<Duration>,
    at: Instant,
}

impl Moment {
    pub(crate) async fn now(child: &mut Child) -> Outcome<Self> {
        let server = child.used().await?;
        let at = Instant::now();
        Ok(Self {
            server,
            client: thread_cpu(),
            this_process: process_cpu(),
            machine: machine_cpu()?,
            broker: None,
            at,
        })
    }

    /// With what a broker has used beside the server.
    pub(crate) fn beside(self, broker: &Broker) -> Outcome<Self> {
        let process = Process::of(broker.pid().ok_or("the broker does not run")?);
        Ok(Self { broker: Some(process.cpu()?), ..self })
    }

    /// What one while of load showed, this moment being after it.
    pub(crate) fn since(&self, before: &Self, window: &Window) -> Sample {
        let messages = window.messages as f64;
        let microseconds = |quantile| window.latency.value_at_quantile(quantile) as f64 / 1e3;
        let time = (self.at - before.at).as_secs_f64();
        let mut sample = self.cost(before, messages);
        sample.0.extend([
            (Metric::Rate, messages / window.time.as_secs_f64()),
            (Metric::P50Microseconds, microseconds(0.5)),
            (Metric::P99Microseconds, microseconds(0.99)),
            (Metric::PeakMib, self.server.peak_rss as f64 / MIB),
            (Metric::ClientBusy, (self.client - before.client).as_secs_f64() / time),
        ]);
        sample
    }

    /// What work showed that had no client, and was counted by who did it.
    pub(crate) fn since_alone(&self, before: &Self) -> Sample {
        let done = (self.server.done - before.server.done) as f64;
        let mut sample = self.cost(before, done);
        sample.0.insert(Metric::Rate, done / (self.at - before.at).as_secs_f64());
        sample
    }

    fn cost(&self, before: &Self, messages: f64) -> Sample {
        let server = self.server.cpu - before.server.cpu;
        let ours = server + (self.this_process - before.this_process);
        let broker = self.broker.zip(before.broker).map(|(after, before)| after - before);
        let others = (self.machine - before.machine).saturating_sub(ours + broker.unwrap_or_default());
        let mut sample = BTreeMap::from([
            (Metric::CpuMicroseconds, server.as_secs_f64() * 1e6 / messages),
            (Metric::OthersCores, others.as_secs_f64() / (self.at - before.at).as_secs_f64()),
        ]);
        if let Some(broker) = broker {
            sample.insert(Metric::BrokerMicroseconds, broker.as_secs_f64() * 1e6 / messages);
        }
        Sample(sample)
    }
}
