//! How long the platform takes from a delivery to the ack.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use numaflow_sdk::MetricsText;

/// The upper bounds of the buckets, from what a pipeline without work takes to what one takes that hangs; each is two to three
/// times the one before.
const BOUNDS: [Duration; 14] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// A histogram, to which every call of ack adds one value.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// By bound, and beyond the last one.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Latency {
    /// Adds a value.
    pub(super) fn add(&self, value: Duration) {
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it holds now.
    pub(super) fn values(&self) -> Values {
        Values {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

/// What a [`Latency`] held at some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Values {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Values {
    /// Writes the metric.
    pub(super) fn write(&self, text: &mut MetricsText, name: &str, help: &str) {
        let buckets = BOUNDS.iter().zip(self.counts).map(|(bound, count)| (bound.as_secs_f64(), count));
        text.histogram(name, help, buckets, self.counts[BOUNDS.len()], self.sum.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for millis in [0, 5, 6, 400_000] {
            latency.add(Duration::from_millis(millis));
        }
        let mut text = MetricsText::default();
        latency.values().write(&mut text, "a_seconds", "A.");
        let text = text.as_str();
        for line in [
            "a_seconds_bucket{le=\"0.005\"} 2",
            "a_seconds_bucket{le=\"0.01\"} 3",
            "a_seconds_bucket{le=\"300\"} 3",
            "a_seconds_bucket{le=\"+Inf\"} 4",
            "a_seconds_sum 400.011",
            "a_seconds_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
        assert!(BOUNDS.is_sorted());
    }
}
