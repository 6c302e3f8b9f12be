//! What the thread that reads from Kafka lets others see of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::context::Refusal;
use super::lookup::Unanswered;
use super::rights::Denial;
use super::statistics::BrokerFigures;
use super::waiting::Unread;

/// Signs of life of the thread, and where it stands in its group.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    /// When the thread last polled, in microseconds since `start`.
    polled: AtomicU64,
    /// The longest time between two polls, in microseconds.
    longest_gap: AtomicU64,
    assigned: AtomicBool,
    /// There is a change of the assignment to be answered: [`Trouble::rebalancing`] says more.
    is_rebalancing: AtomicBool,
    broker_error: Mutex<Option<BrokerError>>,
    trouble: Mutex<Trouble>,
    refusal: Mutex<Option<Refusal>>,
}

/// What does not go on.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    /// A right that the brokers deny.
    pub(super) denied: Option<Denial>,
    /// What the answer to a change of the assignment waits for, and since when there is a change to be answered.
    pub(super) rebalancing: Option<(&'static str, Instant)>,
    /// Why files of secrets cannot be used.
    pub(super) unusable_secrets: Option<String>,
    /// Since when commits fail, with none that succeeded.
    pub(super) commits_fail_since: Option<Instant>,
    /// Since when partitions have records that do not come, by the partitions' ids.
    pub(super) starving: BTreeMap<u16, Instant>,
    /// Why it is not known where to begin with partitions, by the partitions' ids.
    pub(super) waiting: BTreeMap<u16, Unanswered>,
    /// Assigned partitions that cannot be read.
    pub(super) unread: Vec<Unread>,
    /// Topics that are read and whose ids the brokers do not tell.
    pub(super) unidentified: BTreeSet<String>,
    /// What the client library measures of the brokers.
    pub(super) brokers: Vec<BrokerFigures>,
}

/// What went wrong with a broker last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BrokerError {
    pub(super) reason: String,
    /// At most a round of the thread after it happened.
    pub(super) noted: Instant,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            start: now,
            polled: AtomicU64::new(0),
            longest_gap: AtomicU64::new(0),
            assigned: AtomicBool::new(false),
            is_rebalancing: AtomicBool::new(false),
            broker_error: Mutex::default(),
            trouble: Mutex::default(),
            refusal: Mutex::default(),
        }
    }

    /// The thread polls now.
    pub(super) fn poll(&self, now: Instant) {
        let polled = self.since_start(now);
        let before = self.polled.swap(polled, Ordering::Relaxed);
        self.longest_gap.fetch_max(polled.saturating_sub(before), Ordering::Relaxed);
    }

    /// The thread has a new client from now on: there was none to poll before.
    pub(super) fn begin_anew(&self, now: Instant) {
        self.polled.store(self.since_start(now), Ordering::Relaxed);
    }

    /// The longest time that the thread has ever gone without a poll, up to its last one.
    pub(super) fn longest_gap(&self) -> Duration {
        Duration::from_micros(self.longest_gap.load(Ordering::Relaxed))
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// For how long the thread has not polled.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let polled = Duration::from_micros(self.polled.load(Ordering::Relaxed));
        now.saturating_duration_since(self.start).saturating_sub(polled)
    }

    /// Whether the group has said which partitions are this member's, possibly none, and has not taken that back.
    pub(super) fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Relaxed)
    }

    pub(super) fn set_assigned(&self, assigned: bool) {
        self.assigned.store(assigned, Ordering::Relaxed);
    }

    /// Takes note of what the answer to a change of the assignment waits for.
    pub(super) fn set_rebalancing(&self, waits_for: Option<&'static str>, now: Instant) {
        let was_rebalancing = self.is_rebalancing.swap(waits_for.is_some(), Ordering::Relaxed);
        if waits_for.is_none() && !was_rebalancing {
            return;
        }
        let rebalancing = &mut self.trouble().rebalancing;
        let since = rebalancing.map_or(now, |(_, since)| since);
        *rebalancing = waits_for.map(|waits_for| (waits_for, since));
    }

    pub(super) fn note_broker_error(&self, reason: String, now: Instant) {
        *self.error() = Some(BrokerError { reason, noted: now });
    }

    pub(super) fn broker_error(&self) -> Option<BrokerError> {
        self.error().clone()
    }

    /// What does not go on, to be read or changed at once.
    pub(super) fn trouble(&self) -> MutexGuard<'_, Trouble> {
        // Nothing panics while it holds the lock.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_refusal(&self, refusal: Option<Refusal>) {
        // Nothing panics while it holds the lock.
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// Why the brokers refuse this source, if they do now.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn error(&self) -> MutexGuard<'_, Option<BrokerError>> {
        // Nothing panics while it holds the lock.
        self.broker_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_since_the_last_poll() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let progress = Progress::new(start);
        assert_eq!(progress.silence(second(3)), Duration::from_secs(3));
        progress.poll(second(10));
        assert_eq!(progress.silence(second(14)), Duration::from_secs(4));
        // Whoever looks may have taken the time before the thread did.
        assert_eq!(progress.silence(second(9)), Duration::ZERO);
    }

    #[test]
    fn the_longest_gap_is_between_two_polls_of_one_client() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let progress = Progress::new(start);
        for number in [1, 4, 5] {
            progress.poll(second(number));
        }
        assert_eq!(progress.longest_gap(), Duration::from_secs(3));
        progress.begin_anew(second(20));
        progress.poll(second(22));
        assert_eq!(progress.longest_gap(), Duration::from_secs(3));
    }
}
