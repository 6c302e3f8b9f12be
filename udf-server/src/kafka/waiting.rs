//! Assigned partitions that are not read: those of which it is not known yet where to begin, and those that cannot be read.
//!
//! The client library wants every partition of an assignment to be taken. So partitions that wait are taken and paused, and
//! the brokers are asked again where to begin with them; the others are read meanwhile. Nothing is ever committed of a
//! partition that is not read.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;
use serde::Serialize;
use tokio::time::Instant;

use super::asker::Answer;
use super::positions::Beginning;
use super::rebalance::Rebalancing;
use super::thread::Worker;
use super::validation::{SEEK, seek, seek_oldest};

/// How often the brokers are asked again.
const PERIOD: Duration = Duration::from_secs(2);

/// Where the client library takes a partition that waits. Nothing is read there, because the partition is paused. Without an
/// offset the library asks a broker where to begin, and its answer may come after the seek and undo it.
pub(super) const UNREAD: i64 = 0;

/// An assigned partition that cannot be read as long as this member has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Unread {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) reason: &'static str,
}

/// What is remembered of partitions that are not read, beside their lanes.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) unread: Vec<Unread>,
    asked: Option<Instant>,
}

impl Worker {
    /// Pauses partitions that wait, and those whose commits are to be validated. The library has not begun with them.
    pub(super) fn pause_waiting(&mut self) {
        let mut waiting = TopicPartitionList::new();
        for lane in self.lanes.iter().filter(|lane| !lane.has_begun()) {
            waiting.add_partition(&lane.topic, lane.partition);
        }
        self.pause_all(&waiting);
    }

    /// Pauses partitions that cannot be read. The library has taken them: it does not know those that have no lane before.
    pub(super) fn pause_unread(&mut self) {
        let mut unread = TopicPartitionList::new();
        for it in &self.waiting.unread {
            unread.add_partition(&it.topic, it.partition);
        }
        self.pause_all(&unread);
        self.show_waiting();
    }

    fn pause_all(&self, partitions: &TopicPartitionList) {
        if partitions.count() > 0
            && let Err(error) = self.consumer.pause(partitions)
        {
            tracing::error!(%error, "partitions that are not read cannot be paused");
        }
    }

    /// Asks again where to begin with partitions that wait, and begins with those of which it is known now.
    pub(super) fn look_after_waiting(&mut self, now: Instant) {
        if !matches!(self.rebalancing, Rebalancing::No) {
            return;
        }
        if let Some(Answer { beginnings }) = self.asker.answer() {
            for beginning in &beginnings {
                self.begin(beginning);
            }
            self.show_waiting();
        }
        if self.asker.is_busy() || self.waiting.asked.is_some_and(|asked| now.duration_since(asked) < PERIOD) {
            return;
        }
        let waiting = self.lanes.iter().filter(|lane| lane.waits.is_some());
        let waiting: Vec<_> = waiting.map(|lane| (lane.topic.clone(), lane.partition)).collect();
        if !waiting.is_empty() {
            self.waiting.asked = Some(now);
            self.asker.ask(waiting);
        }
    }

    /// Begins with a partition that has waited.
    fn begin(&mut self, beginning: &Beginning) {
        let Beginning { topic, partition, place, metadata } = beginning;
        let lane = self.lanes.iter_mut().find(|lane| lane.waits.is_some() && lane.is(topic, *partition));
        let Some(lane) = lane else { return };
        let place = match place {
            Ok(place) => place,
            Err(reason) => {
                lane.waits = Some(*reason);
                return;
            }
        };
        lane.begin_at(place);
        let first = place.offset();
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, *partition);
        let sought = match first {
            Some(first) => seek(&self.consumer, lane, first, SEEK),
            None => seek_oldest(&self.consumer, lane, SEEK),
        };
        if let Err(error) = sought.and_then(|()| self.consumer.resume(&list)) {
            tracing::debug!(%error, topic, partition, "the partition does not begin yet");
            return;
        }
        self.shared.lock().assign(lane.id, place.start());
        lane.metadata = Some(metadata.clone());
        // The seek has had the commit validated.
        (lane.waits, lane.unvalidated, lane.paused) = (None, None, false);
        tracing::info!(topic, partition, first, "the partition is read from here on");
    }

    /// Forgets the partitions that cannot be read, of all or of these.
    pub(super) fn forget_unread(&mut self, partitions: Option<&TopicPartitionList>) {
        let goes = |it: &Unread| partitions.is_none_or(|list| list.find_partition(&it.topic, it.partition).is_some());
        self.waiting.unread.retain(|it| !goes(it));
        self.show_waiting();
    }

    /// Shows which partitions are not read, and why.
    fn show_waiting(&self) {
        let mut trouble = self.shared.progress.trouble();
        trouble.unread.clone_from(&self.waiting.unread);
        trouble.waiting = self.lanes.iter().filter_map(|lane| Some((lane.id, lane.waits?))).collect();
    }
}
