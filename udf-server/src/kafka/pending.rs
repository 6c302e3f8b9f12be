//! How much is left to read, asked in the background so that the platform's question is answered from memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::group::{Group, PartitionOffsets};
use super::shared::Shared;

/// The last answer of the brokers.
#[derive(Debug, Default)]
pub(super) struct Pending {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    offsets: Option<Vec<PartitionOffsets>>,
    /// When that was asked.
    asked: Option<Instant>,
    total: Option<u32>,
}

impl Pending {
    /// How many records the whole group has left; `None` before the first answer of the brokers. While they do not
    /// answer, the last one holds: the platform would take "unknown" for a number.
    pub(super) fn count(&self, shared: &Shared) -> Option<u64> {
        let known = self.known();
        let assignment = shared.lock();
        let lag = |offsets: &PartitionOffsets| {
            let id = shared.topics.partition_id(&offsets.topic, offsets.partition);
            let tracker = id.and_then(|id| assignment.tracker(id));
            offsets.lag(tracker.and_then(|tracker| tracker.commit_point()))
        };
        Some(known.offsets.as_ref()?.iter().map(lag).sum())
    }

    /// What the brokers answered last, and when; empty before they did.
    pub(super) fn last_answer(&self) -> (Vec<PartitionOffsets>, Option<Instant>) {
        let known = self.known();
        (known.offsets.clone().unwrap_or_default(), known.asked)
    }

    /// How many partitions all topics have together.
    pub(super) fn total(&self) -> Option<u32> {
        self.known().total
    }

    /// Asks the brokers. Now and then it asks for the topics and partitions too, which become more.
    pub(super) fn ask(&self, group: &mut Group, shared: &Shared) {
        if shared.stopped() {
            return;
        }
        let now = Instant::now();
        group.refresh_in_turn(now);
        shared.read(group.topics());
        let offsets = group.offsets();
        let mut known = self.known();
        match offsets {
            Ok(offsets) => {
                known.offsets = Some(offsets);
                known.asked = Some(now);
                known.total = Some(group.total());
            }
            Err(error) => tracing::debug!(%error, "pending is not known anew; the last answer holds"),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
