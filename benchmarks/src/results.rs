//! What was measured: everything that tables, charts and goals are made from, as it is written to `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// What one run of the program measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The command that runs it again.
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    /// How long each subject was measured in each round; `None` where that was for so many records.
    pub(crate) seconds: Option<f64>,
    /// Whether it was long enough, and built for speed, so that its figures mean something.
    pub(crate) serious: bool,
    pub(crate) comparisons: Vec<Comparison>,
}

/// Above this part of the wall time the load client's thread counts as busy: what it then sees of the server's speed is its
/// own.
pub(crate) const BUSY: f64 = 0.9;

/// What is measured of a subject in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// User and system time of the server's process over messages, in microseconds.
    CpuMicroseconds,
    /// The same of the Kafka broker's process.
    BrokerMicroseconds,
    /// Messages a second.
    Rate,
    /// Latencies in microseconds.
    P50Microseconds,
    P99Microseconds,
    /// The most memory resident, in MiB.
    PeakMib,
    /// Memory resident of a server that only listens, in MiB.
    IdleMib,
    /// From the start of the process until it listens, in milliseconds.
    StartMilliseconds,
    /// The part of the wall time in which the load client's thread ran.
    ClientBusy,
    /// How many cores ran something else than the server and the load client, on average.
    OthersCores,
}

impl Metric {
    pub(crate) const ALL: [Self; 10] = [
        Self::CpuMicroseconds,
        Self::BrokerMicroseconds,
        Self::Rate,
        Self::P50Microseconds,
        Self::P99Microseconds,
        Self::PeakMib,
        Self::IdleMib,
        Self::StartMilliseconds,
        Self::ClientBusy,
        Self::OthersCores,
    ];

    /// Whether it says nothing when the client had no time to spare.
    fn needs_idle_client(self) -> bool {
        match self {
            Self::Rate | Self::P50Microseconds | Self::P99Microseconds => true,
            Self::CpuMicroseconds
            | Self::BrokerMicroseconds
            | Self::PeakMib
            | Self::IdleMib
            | Self::StartMilliseconds
            | Self::ClientBusy
            | Self::OthersCores => false,
        }
    }
}

/// One subject in one round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample(pub(crate) BTreeMap<Metric, f64>);

impl Sample {
    /// The metric, unless it was not measured or is void.
    pub(crate) fn get(&self, metric: Metric) -> Option<f64> {
        let value = self.0.get(&metric).copied();
        if metric.needs_idle_client() && self.is_void() { None } else { value }
    }

    /// Whether the client was itself the bottleneck.
    pub(crate) fn is_void(&self) -> bool {
        self.0.get(&Metric::ClientBusy).is_some_and(|busy| *busy > BUSY)
    }
}

/// Subjects measured in turn, over some rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// By which goals and ratios find it.
    pub(crate) id: String,
    pub(crate) title: String,
    /// How it was measured, where that is not as always.
    pub(crate) note: Option<String>,
    /// What the figures are for one of: message or record.
    pub(crate) unit: String,
    /// In the order of their columns.
    pub(crate) subjects: Vec<String>,
    pub(crate) rounds: Vec<BTreeMap<String, Sample>>,
}

/// The middle of some values, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len().is_multiple_of(2) { values[middle - 1].midpoint(values[middle]) } else { values[middle] };
        Some(Self { median, least, most })
    }
}

impl Comparison {
    /// A metric of a subject over the rounds; `None` when it was not measured, or is void in every round.
    pub(crate) fn spread(&self, subject: &str, metric: Metric) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.get(subject)?.get(metric)))
    }

    /// A metric of one subject over another's, each within a round: the machine's pace is the same then.
    pub(crate) fn ratio(&self, metric: Metric, over: &str, under: &str) -> Option<Spread> {
        self.within_rounds(metric, over, under, |over, under| over / under)
    }

    /// How much a metric of one subject is above another's, each within a round.
    pub(crate) fn difference(&self, metric: Metric, of: &str, from: &str) -> Option<Spread> {
        self.within_rounds(metric, of, from, |of, from| of - from)
    }

    fn within_rounds(&self, metric: Metric, one: &str, other: &str, by: fn(f64, f64) -> f64) -> Option<Spread> {
        Spread::of(self.rounds_of(metric, one, other).map(|(one, other)| by(one, other)).filter(|it| it.is_finite()))
    }

    /// A metric of two subjects in every round in which both have it.
    pub(crate) fn rounds_of(&self, metric: Metric, one: &str, other: &str) -> impl Iterator<Item = (f64, f64)> {
        let in_round = move |round: &BTreeMap<String, Sample>| {
            Some((round.get(one)?.get(metric)?, round.get(other)?.get(metric)?))
        };
        self.rounds.iter().filter_map(in_round)
    }

    /// Whether a metric was measured and is void in every round.
    pub(crate) fn is_void(&self, subject: &str, metric: Metric) -> bool {
        self.spread(subject, metric).is_none()
            && self.rounds.iter().filter_map(|round| round.get(subject)).any(|sample| sample.0.contains_key(&metric))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(values: &[(&str, f64, f64)]) -> BTreeMap<String, Sample> {
        let sample = |rate, busy| Sample(BTreeMap::from([(Metric::Rate, rate), (Metric::ClientBusy, busy)]));
        values.iter().map(|&(subject, rate, busy)| (subject.to_owned(), sample(rate, busy))).collect()
    }

    fn comparison(rounds: Vec<BTreeMap<String, Sample>>) -> Comparison {
        Comparison {
            id: "id".to_owned(),
            title: String::new(),
            note: None,
            unit: "message".to_owned(),
            subjects: vec!["a".to_owned(), "b".to_owned()],
            rounds,
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_own_ratios() {
        let rounds = [(10.0, 1.0), (30.0, 10.0), (4.0, 1.0)].map(|(a, b)| round(&[("a", a, 0.1), ("b", b, 0.1)]));
        let ratio = comparison(rounds.to_vec()).ratio(Metric::Rate, "a", "b").unwrap();
        assert_eq!(ratio, Spread { median: 4.0, least: 3.0, most: 10.0 });
    }

    #[test]
    fn what_a_busy_client_saw_is_void() {
        let busy = comparison(vec![round(&[("a", 5.0, 0.95)]), round(&[("a", 7.0, 0.5)])]);
        assert_eq!(busy.spread("a", Metric::Rate).unwrap().median, 7.0);
        assert!(!busy.is_void("a", Metric::Rate));
        let always = comparison(vec![round(&[("a", 5.0, 0.95)])]);
        assert!(always.is_void("a", Metric::Rate));
        assert!(!always.is_void("b", Metric::Rate));
        assert_eq!(always.spread("a", Metric::ClientBusy).unwrap().median, 0.95);
    }
}
