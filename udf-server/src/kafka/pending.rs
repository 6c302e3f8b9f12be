//! How much is left to read, asked in the background so that the platform's question is answered from memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::group::{Group, PartitionOffsets};
use super::shared::Shared;

/// How often the brokers are asked. The platform asks about as often.
const PERIOD: Duration = Duration::from_secs(5);
/// How many rounds go by before the numbers of partitions are asked for again.
const ROUNDS: u32 = 6;

/// The last answer of the brokers.
#[derive(Debug, Default)]
pub(super) struct Pending {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    offsets: Option<Vec<PartitionOffsets>>,
    total: Option<u32>,
}

impl Pending {
    /// How many records the whole group has left; `None` before the first answer of the brokers. While they do not
    /// answer, the last one holds: the platform would take "unknown" for a number.
    pub(super) fn count(&self, shared: &Shared) -> Option<u64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let assignment = shared.lock();
        let lag = |offsets: &PartitionOffsets| {
            let id = shared.topics.partition_id(&offsets.topic, offsets.partition);
            let tracker = id.and_then(|id| assignment.tracker(id));
            offsets.lag(tracker.and_then(|tracker| tracker.commit_point()))
        };
        Some(known.offsets.as_ref()?.iter().map(lag).sum())
    }

    /// How many partitions all topics have together.
    pub(super) fn total(&self) -> Option<u32> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Asks the brokers again and again until the source stops.
    pub(super) fn keep(&self, mut group: Group, shared: &Arc<Shared>) {
        for round in 0_u32.. {
            if shared.stopped() {
                return;
            }
            if round % ROUNDS == ROUNDS - 1 {
                group.refresh();
            }
            match group.offsets() {
                Ok(offsets) => {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.offsets = Some(offsets);
                    known.total = Some(group.total());
                }
                Err(error) => tracing::debug!(%error, "pending is not known anew; the last answer holds"),
            }
            if shared.stopped() {
                return;
            }
            thread::park_timeout(PERIOD);
        }
    }
}
