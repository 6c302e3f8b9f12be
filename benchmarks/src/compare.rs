//! Subjects in turn: one round after the other, each subject once a round, its process a new one each time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::child::Child;
use crate::client::{Connection, open_map};
use crate::load::{Load, Window};
use crate::measure::{Used, thread_cpu};
use crate::progress::Progress;
use crate::results::{Comparison, Metric, Sample};
use crate::serve::ServeArgs;

/// How long and how often everything is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// A comparison to be measured; the subjects are told from their names by whoever measures them.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) note: Option<String>,
    pub(crate) unit: &'static str,
    pub(crate) subjects: Vec<String>,
}

impl Plan {
    /// Measures every subject once a round. Who goes first changes from round to round: what a subject leaves behind, a
    /// warm core or a full cache, then comes to all alike.
    pub(crate) async fn run(
        self,
        rounds: usize,
        progress: &Progress,
        measure: impl AsyncFn(usize) -> Outcome<Sample>,
    ) -> Outcome<Comparison> {
        let Self { id, title, note, unit, subjects } = self;
        let mut comparison = Comparison { id, title, note, unit: unit.to_owned(), subjects, rounds: Vec::new() };
        for round in 0..rounds {
            let count = comparison.subjects.len();
            let mut samples = BTreeMap::new();
            for turn in 0..count {
                let index = (turn + round) % count;
                let subject = &comparison.subjects[index];
                progress.begin(&comparison.title, round, rounds, subject);
                let sample = measure(index)
                    .await
                    .map_err(|error| format!("{}, {subject}, round {}: {error}", comparison.title, round + 1))?;
                progress.end(subject, &sample);
                samples.insert(subject.clone(), sample);
            }
            comparison.rounds.push(samples);
        }
        Ok(comparison)
    }
}

/// Measures a map under constant load.
pub(crate) async fn map_under_load(server: &ServeArgs, size: usize, in_flight: usize, pace: Pace) -> Outcome<Sample> {
    let mut child = Child::start(server)?;
    let mut connection = Connection::new(child.connect().await?).await?;
    let mut load = Load::new(open_map(&mut connection).await?, size, in_flight)?;
    load.run(pace.warm_up).await?;
    let before = Moment::now(&mut child).await?;
    let window = load.run(pace.measured).await.map_err(|error| child.complaint(&format!("failed ({error})")))?;
    let after = Moment::now(&mut child).await?;
    Ok(after.since(&before, &window))
}

/// A state of server and client between two whiles of load: nothing is in flight, so that whatever is used in a while
/// belongs to the messages of that while.
pub(crate) struct Moment {
    server: Used,
    client: Duration,
    at: Instant,
}

impl Moment {
    pub(crate) async fn now(child: &mut Child) -> Outcome<Self> {
        Ok(Self { server: child.used().await?, client: thread_cpu(), at: Instant::now() })
    }

    pub(crate) fn since(&self, before: &Self, window: &Window) -> Sample {
        let messages = window.messages as f64;
        let microseconds = |percentile| window.latency.value_at_quantile(percentile) as f64 / 1e3;
        Sample(BTreeMap::from([
            (Metric::CpuMicroseconds, (self.server.cpu - before.server.cpu).as_secs_f64() * 1e6 / messages),
            (Metric::Rate, messages / window.time.as_secs_f64()),
            (Metric::P50Microseconds, microseconds(0.5)),
            (Metric::P99Microseconds, microseconds(0.99)),
            (Metric::PeakMib, self.server.peak_rss as f64 / f64::from(1 << 20)),
            (Metric::ClientBusy, (self.client - before.client).as_secs_f64() / (self.at - before.at).as_secs_f64()),
        ]))
    }
}
