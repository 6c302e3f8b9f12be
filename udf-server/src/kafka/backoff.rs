//! When a partition is fetched again whose records come in answers that cannot be read. Pure: no clock.
//!
//! The client library waits after an answer that says itself that it is an error. After one that it cannot read it fetches
//! again at once, hundreds of times a second: its `fetch.error.backoff.ms` does not hold for those.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause; each further one takes twice as long.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause, which is also the longest time that a broker may be well again before the partition is read on.
const LONGEST: Duration = Duration::from_secs(30);

/// The pauses of one partition.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<(Duration, Instant)>,
}

impl Backoff {
    /// Begins the next pause.
    pub(super) fn begin(&mut self, now: Instant) {
        let pause = self.last.map_or(FIRST, |(pause, _)| (pause * 2).min(LONGEST));
        self.last = Some((pause, now + pause));
    }

    /// Whether it is to be waited.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.last.is_some_and(|(_, until)| now < until)
    }

    /// Takes note that records come.
    pub(super) fn end(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_records_come() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert!(!backoff.holds(start));
        for seconds in [5, 10, 20, 30, 30] {
            backoff.begin(start);
            let end = start + Duration::from_secs(seconds);
            assert!(backoff.holds(end - Duration::from_millis(1)) && !backoff.holds(end), "{seconds} s");
        }
        backoff.end();
        assert!(!backoff.holds(start));
        backoff.begin(start);
        assert!(!backoff.holds(start + FIRST), "it begins anew");
    }
}
