//! What the source counts, for whoever looks on.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, shared by the threads of the source.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        if count > 0 {
            self.0.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a source.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Records taken from the brokers.
    pub(super) fetched: Counter,
    /// Records handed out, each time they are.
    pub(super) delivered: Counter,
    /// Of these, those that were handed out before.
    pub(super) redelivered: Counter,
    /// Records acked.
    pub(super) acked: Counter,
    /// Records nacked, each time they are.
    pub(super) nacked: Counter,
    /// Records delivered again because they were with the platform for too long.
    pub(super) expired: Counter,
    /// Records that the dead-letter topic has.
    pub(super) dead_letters: Counter,
    /// Records that were passed over, because the platform could not take them.
    pub(super) skipped: Counter,
    /// Acks and nacks of records that are not ours (any more), or not in flight: they succeed without effect.
    pub(super) unknown_acks: Counter,
    /// Partitions that came.
    pub(super) assigned: Counter,
    /// Partitions that were given back in good order.
    pub(super) revoked: Counter,
    /// Partitions that were lost: another member has them already.
    pub(super) lost: Counter,
    /// Commits that the brokers took.
    pub(super) commits: Counter,
    /// Commits that they did not take.
    pub(super) failed_commits: Counter,
    /// Errors of brokers that the client told of.
    pub(super) broker_errors: Counter,
    /// How often a partition had to be read from another place, because what came next is gone.
    pub(super) resets: Counter,
    /// Clients made anew, because one could not go on.
    pub(super) restarts: Counter,
}
