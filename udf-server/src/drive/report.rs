//! What a run came to.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::breach::Breached;
use super::journal::{Counts, Journal};

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// How it ended.
    #[serde(flatten)]
    pub ended: Ended,
    /// The numbers at the end.
    #[serde(flatten)]
    pub counts: Counts,
    /// From the first message read to the last one resolved.
    pub seconds: f64,
    /// Messages read in a second of that time.
    pub records_per_second: f64,
    /// From a `ReadRequest` to its EOT, for batches with messages in them.
    pub read_latency: Latency,
    /// From a message sent to the map to its answer.
    pub map_latency: Latency,
    /// Messages that were read and not resolved when the run was cut short; the source still has them.
    pub unresolved: u64,
    /// How servers broke the protocol, where the platform goes on.
    pub breaches: Vec<Breached>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "ended", content = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ended {
    /// By itself: the input was at its end, or what it was told to wait for came.
    Done,
    /// Because it was told to.
    Stopped,
    /// It vanished, as it was told to in its settings.
    Killed,
    /// The platform that is played exits at this.
    Exited(String),
}

/// Times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Half of them were at most this.
    pub p50_ms: f64,
    /// All but one in a hundred were at most this.
    pub p99_ms: f64,
}

impl Report {
    pub(super) fn new(
        ended: Ended,
        journal: &Journal,
        elapsed: Duration,
        reads: &Histogram<u64>,
        maps: Option<&Histogram<u64>>,
        unresolved: u64,
    ) -> Self {
        let counts = journal.counts();
        let seconds = elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let records_per_second = if seconds > 0.0 { counts.read as f64 / seconds } else { 0.0 };
        Self {
            ended,
            counts,
            seconds,
            records_per_second,
            read_latency: Latency::of(reads),
            map_latency: maps.map(Latency::of).unwrap_or_default(),
            unresolved,
            breaches: journal.breached(),
        }
    }
}

impl Latency {
    fn of(micros: &Histogram<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "below an hour")]
        let millis = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50_ms: millis(0.5), p99_ms: millis(0.99) }
    }
}

/// The longest time that is told apart; longer ones count as this long.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// A histogram of microseconds, three digits exact.
#[expect(clippy::expect_used, reason = "the bounds and three digits are in the range of what it takes")]
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, micros(LONGEST), 3).expect("the bounds are in order")
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let pending = counts.pending.map_or_else(|| "unknown".to_owned(), |pending| pending.to_string());
        let always = [
            ("read", counts.read),
            ("= mapped", counts.mapped),
            ("+ dropped", counts.dropped),
            ("+ dead letters", counts.dead_letters),
            ("+ nacked", counts.nacked),
            ("+ redelivered", counts.redelivered),
        ];
        for (name, number) in always {
            writeln!(f, "{name:<22}{number:>12}")?;
        }
        if self.unresolved > 0 {
            writeln!(f, "{:<22}{:>12}", "+ unresolved", self.unresolved)?;
        }
        writeln!(f, "{:<22}{:>12}", "outputs", counts.outputs)?;
        writeln!(f, "{:<22}{:>12}", "acked", counts.acked)?;
        writeln!(f, "{:<22}{pending:>12}", "pending")?;
        let troubles = [
            ("in-flight duplicates", counts.in_flight_duplicates),
            ("redriven", counts.redriven),
            ("retried", counts.retried),
            ("duplicate answers", counts.duplicate_answers),
            ("read reconnects", counts.read_reconnects),
            ("ack reconnects", counts.ack_reconnects),
            ("map reconnects", counts.map_reconnects),
        ];
        for (name, number) in troubles.into_iter().filter(|(_, number)| *number > 0) {
            writeln!(f, "{name:<22}{number:>12}")?;
        }
        writeln!(f, "{:<22}{:>12.0}  in {:.1} s", "records a second", self.records_per_second, self.seconds)?;
        let latency = |latency: Latency| format!("{:>9.2} ms p50, {:.2} ms p99", latency.p50_ms, latency.p99_ms);
        writeln!(f, "{:<22}{}", "read", latency(self.read_latency))?;
        write!(f, "{:<22}{}", "map", latency(self.map_latency))?;
        for breached in &self.breaches {
            write!(f, "\n{breached}: {} times", breached.times)?;
        }
        match &self.ended {
            Ended::Done | Ended::Stopped => Ok(()),
            Ended::Killed => write!(f, "\nvanished, as asked"),
            Ended::Exited(reason) => write!(f, "\nexited: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_apart_up_to_an_hour() {
        let mut times = histogram();
        for seconds in [1, 2, 4000] {
            times.saturating_record(micros(Duration::from_secs(seconds)));
        }
        let Latency { p50_ms, p99_ms } = Latency::of(&times);
        assert!((1990.0..2010.0).contains(&p50_ms), "{p50_ms}");
        assert!(p99_ms >= 3_590_000.0, "{p99_ms}");
    }
}
