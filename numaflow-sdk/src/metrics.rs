//! What a server counts, whether somebody looks or not.
//!
//! One struct of atomics a server. Streams count in a [`Tally`] of their own, in plain numbers, and add it up once a poll:
//! an atomic of all streams for every message would be the one place where they all meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(feature = "admin")]
pub(crate) mod page;
pub(crate) mod text;

/// What became of a message that was read. Every message comes to exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered with one message or more.
    Answered,
    /// Answered with no message.
    Empty,
    /// Answered with the mark that discards it, by its handler or by the policy for failures.
    Dropped,
    /// Handed back to the platform to be delivered again, by its handler or by the policy for failures.
    Nacked,
    /// Its handler failed, and it was answered with itself, tagged as a dead letter.
    DeadLetter,
    /// Its handler failed, and it was answered with the tag by which the platform knows failures.
    FailTag,
    /// Its handler returned an error, which ends the stream; the platform sends it again.
    FailedError,
    /// Its handler panicked, which ends the stream; the platform sends it again.
    FailedPanic,
    /// Its stream ended before it was answered: the peer went away, another message failed, or the drain's time was over.
    Cancelled,
    /// It could not be decoded, or lacked a part without which it is none.
    BadFrame,
}

impl Outcome {
    pub(crate) const ALL: [Self; 10] = [
        Self::Answered,
        Self::Empty,
        Self::Dropped,
        Self::Nacked,
        Self::DeadLetter,
        Self::FailTag,
        Self::FailedError,
        Self::FailedPanic,
        Self::Cancelled,
        Self::BadFrame,
    ];

    /// Its value of the label `outcome`.
    #[cfg(feature = "admin")]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Empty => "empty",
            Self::Dropped => "dropped",
            Self::Nacked => "nacked",
            Self::DeadLetter => "dead_letter",
            Self::FailTag => "fail_tag",
            Self::FailedError => "failed_error",
            Self::FailedPanic => "failed_panic",
            Self::Cancelled => "cancelled",
            Self::BadFrame => "bad_frame",
        }
    }
}

/// How a handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Error,
    Panic,
}

impl Failure {
    pub(crate) const ALL: [Self; 2] = [Self::Error, Self::Panic];

    /// Its value of the label `failure`.
    #[cfg(feature = "admin")]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
        }
    }
}

impl From<Failure> for Outcome {
    /// What a failure is that ends the stream.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error => Self::FailedError,
            Failure::Panic => Self::FailedPanic,
        }
    }
}

/// The upper bounds of the histogram of handler times: from what a handler without any waiting takes to what a service
/// that hangs does, each two to two and a half times the one before. Beyond the last one nobody needs to know closer.
pub(crate) const BOUNDS: [Duration; 19] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
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
];

/// What is counted for every message, as plain numbers in a stream and as atomics in the server.
#[derive(Debug, Default)]
pub(crate) struct Counts<C> {
    pub(crate) messages_read: C,
    pub(crate) bytes_read: C,
    pub(crate) messages_sent: C,
    pub(crate) bytes_sent: C,
    /// In the order of [`Outcome::ALL`].
    pub(crate) finished: [C; Outcome::ALL.len()],
    /// How many handlers took at most so long, in the order of [`BOUNDS`]; the last one is for those that took longer.
    pub(crate) durations: [C; BOUNDS.len() + 1],
    pub(crate) duration_nanos: C,
}

/// The counters of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) counts: Counts<AtomicU64>,
    /// In the order of [`Failure::ALL`].
    pub(crate) handler_failures: [AtomicU64; Failure::ALL.len()],
    pub(crate) handler_retries: AtomicU64,
    pub(crate) blocking_polls: AtomicU64,
    pub(crate) refused_batches: AtomicU64,
    pub(crate) connections_opened: AtomicU64,
    pub(crate) requests_refused: AtomicU64,
    pub(crate) streams_opened: AtomicU64,
    pub(crate) limit_reached: AtomicU64,
    pub(crate) slow_messages: AtomicU64,
    pub(crate) source: SourceCounts,
}

/// What only a source counts.
#[derive(Debug, Default)]
pub(crate) struct SourceCounts {
    pub(crate) reads: AtomicU64,
    /// Offsets, not requests.
    pub(crate) acks: AtomicU64,
    /// Offsets, not requests.
    pub(crate) nacks: AtomicU64,
    pub(crate) pending_calls: AtomicU64,
    pub(crate) partitions_calls: AtomicU64,
}

/// Adds to a counter. Counters say nothing about each other, so their order means nothing either.
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Metrics {
    /// A handler failed, whether it is called again or not.
    pub(crate) fn handler_failed(&self, failure: Failure) {
        add(&self.handler_failures[failure as usize], 1);
    }
}

/// What one stream has counted and not yet added to its server's counters; dropping it adds the rest.
#[derive(Debug)]
pub(crate) struct Tally {
    metrics: Arc<Metrics>,
    counts: Counts<u64>,
    counted: bool,
}

impl Tally {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, counts: Counts::default(), counted: false }
    }

    /// A message was read, of this size on the wire.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.counted = true;
        self.counts.messages_read += 1;
        self.counts.bytes_read += bytes as u64;
    }

    /// So many messages that were read came to this outcome.
    pub(crate) fn finished(&mut self, outcome: Outcome, messages: usize) {
        self.counted = true;
        self.counts.finished[outcome as usize] += messages as u64;
    }

    /// So many messages were sent, in one response of this size.
    pub(crate) fn sent(&mut self, messages: usize, bytes: usize) {
        self.counted = true;
        self.counts.messages_sent += messages as u64;
        self.counts.bytes_sent += bytes as u64;
    }

    /// A handler took so long, from its first call to its outcome, further attempts and the pauses between them included.
    pub(crate) fn took(&mut self, duration: Duration) {
        self.counted = true;
        // From below: most handlers are quick.
        let bucket = BOUNDS.iter().position(|bound| duration <= *bound).unwrap_or(BOUNDS.len());
        self.counts.durations[bucket] += 1;
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts.duration_nanos = self.counts.duration_nanos.saturating_add(nanos);
    }

    /// Adds what was counted to the counters of the server. Once a poll is enough.
    pub(crate) fn flush(&mut self) {
        if !std::mem::take(&mut self.counted) {
            return;
        }
        let (counts, shared) = (std::mem::take(&mut self.counts), &self.metrics.counts);
        let move_to = |counter: &AtomicU64, count: u64| {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        };
        move_to(&shared.messages_read, counts.messages_read);
        move_to(&shared.bytes_read, counts.bytes_read);
        move_to(&shared.messages_sent, counts.messages_sent);
        move_to(&shared.bytes_sent, counts.bytes_sent);
        move_to(&shared.duration_nanos, counts.duration_nanos);
        for (counter, count) in shared.finished.iter().zip(counts.finished) {
            move_to(counter, count);
        }
        for (counter, count) in shared.durations.iter().zip(counts.durations) {
            move_to(counter, count);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| index == *outcome as usize));
        assert!(Failure::ALL.iter().enumerate().all(|(index, failure)| index == *failure as usize));
    }

    #[test]
    fn a_tally_is_added_once() {
        let metrics = Arc::new(Metrics::default());
        let mut tally = Tally::new(metrics.clone());
        tally.read(100);
        tally.finished(Outcome::Nacked, 1);
        tally.sent(3, 70);
        assert_eq!(value(&metrics.counts.messages_read), 0);
        for _ in 0..2 {
            tally.flush();
            let counts = &metrics.counts;
            let figures = [&counts.messages_read, &counts.bytes_read, &counts.messages_sent, &counts.bytes_sent];
            assert_eq!(figures.map(value), [1, 100, 3, 70]);
            assert_eq!(counts.finished.each_ref().map(value), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_stream_that_goes_leaves_its_figures() {
        let metrics = Arc::new(Metrics::default());
        let mut tally = Tally::new(metrics.clone());
        tally.finished(Outcome::Cancelled, 5);
        drop(tally);
        assert_eq!(value(&metrics.counts.finished[Outcome::Cancelled as usize]), 5);
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let metrics = Arc::new(Metrics::default());
        let mut tally = Tally::new(metrics.clone());
        let nano = Duration::from_nanos(1);
        for duration in [Duration::ZERO, BOUNDS[0], BOUNDS[0] + nano, BOUNDS[18], BOUNDS[18] + nano, Duration::MAX] {
            tally.took(duration);
            tally.flush();
        }
        let durations = metrics.counts.durations.each_ref().map(value);
        assert_eq!((durations[0], durations[1], durations[18], durations[19]), (2, 1, 1, 2));
        assert_eq!(durations.iter().sum::<u64>(), 6);
    }

    #[test]
    fn bounds_ascend() {
        assert!(BOUNDS.is_sorted());
    }
}
