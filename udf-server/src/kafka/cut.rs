//! Logs that were cut: the offsets of a partition go back.
//!
//! After an unclean leader election the brokers have no more than the records before some offset, and other records take
//! the offsets from there on. A topic that was deleted and created anew looks the same. What the tracker keeps is decided
//! in `tracker`; here is what else knew of the former records.

use std::time::Duration;

use tokio::time::Instant;

use super::lane::Lane;
use super::native::position::positions;
use super::thread::Worker;
use super::tracker::Cut;
use super::validation::{seek, seek_all};

impl Worker {
    /// Reads partitions again whose offsets have gone back, to find where their logs were cut: see `course`. What the
    /// client library does not take note of is tried again in the next turn.
    pub(super) fn go_back(&mut self) {
        let sought = seek_all(&self.consumer, self.lanes.iter().filter_map(|lane| Some((lane, lane.back?))));
        for lane in self.lanes.iter_mut().filter(|lane| sought.contains(&lane.id)) {
            lane.has_gone_back();
        }
    }

    /// Tells of logs that were cut, and forgets what was known of them.
    pub(super) fn meet_cuts(&mut self) {
        let is_cut = |lane: &&Lane| lane.cut.is_some();
        if !self.lanes.iter().any(|lane| is_cut(&lane)) {
            return;
        }
        let read = positions(&self.consumer, self.lanes.iter().filter(is_cut));
        for lane in &mut self.lanes {
            let Some((offset, Cut { position, dropped, in_flight })) = lane.cut.take() else { continue };
            self.shared.counters.rewinds.add(1);
            if offset == 0 {
                self.identities.note_begun(lane.id, Instant::now());
            }
            tracing::warn!(
                topic = lane.topic,
                partition = lane.partition,
                offset,
                position,
                dropped,
                in_flight,
                "the offsets of the partition go back: the brokers have cut its log, which loses records, or the topic was \
                 created anew; the records from this offset on are read again. Look whether unclean leader elections are \
                 allowed"
            );
            // What is committed of the former records says nothing of the new ones.
            self.shared.committed.send_modify(|committed| _ = committed.remove(&lane.id));
            let next = self.shared.lock().tracker(lane.id).and_then(|tracker| tracker.position());
            let stale = read.iter().find(|(id, _)| *id == lane.id).map(|(_, position)| *position);
            // The library itself has gone back where it found the log cut.
            lane.outdated = stale.filter(|stale| next.is_none_or(|next| next < *stale));
            // As records are fetched in batches, the library does not move its position back, and would go on from there
            // after the next rebalance. A seek makes it forget the position.
            if let (Some(next), Some(stale)) = (next, stale)
                && next < stale
                && let Err(error) = seek(&self.consumer, lane, next, Duration::ZERO)
            {
                tracing::info!(%error, topic = lane.topic, partition = lane.partition, next, "the client does not go back");
            }
        }
    }
}
