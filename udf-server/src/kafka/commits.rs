//! When to commit. Pure: no clock.
//!
//! There is one commit on its way at a time. Of two that are when a connection breaks, both are sent again, and the older
//! one may arrive last: the group's offset would go back. So the commits that the client library sends of itself, as
//! partitions go and as the client leaves the group, wait for the one before too; and a commit stays on its way when its
//! partitions are lost, as the library may send it again in the member's next generation.

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two commits, where one is wanted soon.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an answer is waited for. The client library answers every commit, but not before it has given up: after
/// `socket.timeout.ms` (60 s) for each of three attempts, and `session.timeout.ms` (45 s) of waiting for a coordinator. So
/// this is for answers that never come.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// A commit that has no answer for so long has failed as far as anybody can tell. The client library says so minutes later.
const OVERDUE: Duration = Duration::from_secs(10);

/// What is to be committed, and what is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Commits {
    interval: Duration,
    /// Something was stored since the last commit.
    moved: bool,
    /// It is worth a commit soon: pending and committed should meet, or an ack waits.
    urgent: bool,
    last: Instant,
    /// Since when a commit has no answer.
    open: Option<Instant>,
}

impl Commits {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, moved: false, urgent: false, last: now, open: None }
    }

    /// Takes note that something was stored.
    pub(super) fn moved(&mut self, urgent: bool) {
        self.moved = true;
        self.urgent |= urgent;
    }

    /// Whether to commit now.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        let pause = if self.urgent { PAUSE.min(self.interval) } else { self.interval };
        self.moved && !self.are_open(now) && now.duration_since(self.last) >= pause
    }

    /// Whether a commit is on its way.
    pub(super) fn are_open(&self, now: Instant) -> bool {
        self.open.is_some_and(|since| now.duration_since(since) < PATIENCE)
    }

    /// Since when a commit is on its way whose answer is overdue.
    pub(super) fn overdue_since(&self, now: Instant) -> Option<Instant> {
        self.open.filter(|since| now.duration_since(*since) >= OVERDUE)
    }

    /// Takes note that a commit was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        (self.moved, self.urgent) = (false, false);
        self.last = now;
        self.open = Some(now);
    }

    /// Takes note of an answer; after a failure there is something to commit still.
    pub(super) fn answered(&mut self, failed: bool) {
        self.open = None;
        self.moved |= failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    #[test]
    fn there_is_one_at_a_time() {
        let began = Instant::now();
        let mut commits = Commits::new(INTERVAL, began);
        assert!(!commits.are_due(began + INTERVAL), "nothing was stored");
        commits.moved(false);
        assert!(!commits.are_due(began + INTERVAL / 2));
        let now = began + INTERVAL;
        assert!(commits.are_due(now));
        commits.sent(now);
        commits.moved(true);
        assert!(!commits.are_due(now + 5 * INTERVAL), "one is on its way");
        commits.answered(false);
        assert!(commits.are_due(now + 5 * INTERVAL));
        commits.sent(now + 5 * INTERVAL);
        commits.answered(false);
        assert!(!commits.are_due(now + 10 * INTERVAL), "all is committed");
    }

    #[test]
    fn what_is_urgent_waits_less_and_what_failed_comes_again() {
        let began = Instant::now();
        let mut commits = Commits::new(INTERVAL, began);
        commits.moved(true);
        assert!(!commits.are_due(began + PAUSE / 2));
        assert!(commits.are_due(began + PAUSE));
        commits.sent(began + PAUSE);
        commits.answered(true);
        assert!(!commits.are_due(began + INTERVAL));
        assert!(commits.are_due(began + PAUSE + INTERVAL));
    }

    #[test]
    fn an_answer_that_does_not_come_is_overdue() {
        let began = Instant::now();
        let mut commits = Commits::new(INTERVAL, began);
        commits.sent(began);
        assert_eq!(commits.overdue_since(began + OVERDUE / 2), None);
        assert_eq!(commits.overdue_since(began + OVERDUE), Some(began));
        commits.answered(true);
        assert_eq!(commits.overdue_since(began + OVERDUE), None);
    }

    #[test]
    fn an_answer_that_never_comes_is_not_waited_for_for_ever() {
        let began = Instant::now();
        let mut commits = Commits::new(INTERVAL, began);
        commits.moved(false);
        commits.sent(began);
        commits.moved(false);
        assert!(commits.are_open(began + PATIENCE / 2));
        assert!(commits.are_due(began + PATIENCE));
    }
}
