//! When a partition whose fetches fail is fetched again. Pure: no clock.
//!
//! The client library waits between fetches that a broker answers with an error. After an answer that it cannot read it
//! fetches again at once, as often as the broker answers.

use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row are no reason to wait: a leader that moves makes one or two.
const FREE: u32 = 3;
/// The first wait; it doubles with each further failure.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// The failures of one partition.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Takes note of a failure; `true` if the partition is not to be fetched until [`Backoff::is_over`] says so.
    pub(super) fn fail(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures <= FREE || self.until.is_some() {
            return false;
        }
        let pause = PAUSE.saturating_mul(1 << (self.failures - FREE - 1).min(10)).min(LONGEST);
        self.until = Some(now + pause);
        true
    }

    /// Takes note that records came.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Whether a wait is over, which it is once.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_failures_and_end_with_records() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!([1, 2, 3].map(|_| backoff.fail(now)), [false; 3], "some are free");
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(backoff.fail(now));
            assert!(!backoff.is_over(now));
            let mut waited = Duration::ZERO;
            while !backoff.is_over(now + waited) {
                waited += PAUSE;
            }
            pauses.push(waited.as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert!(!backoff.is_over(now + LONGEST), "once");
        backoff.succeed();
        assert!(!backoff.fail(now), "they begin anew");
        backoff.succeed();
        for _ in 0..4 {
            backoff.fail(now);
        }
        assert!(!backoff.fail(now), "one that waits already");
    }
}
