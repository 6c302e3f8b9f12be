//! Topics that were deleted and created anew, as the ids of the topics tell.
//!
//! The client library does not compare ids. Where the new topic is shorter than the former one it notices that an offset is
//! gone (`gone`, `cut`). Where it is as long, the library goes on in its midst. So the brokers are asked for the ids, all
//! in one request, every time that they are asked how much is left: until the answer is there, records are passed over, and
//! others are delivered too early. `identity` decides which partitions are to begin anew.

use super::lane::Lane;
use super::rebalance::Rebalancing;
use super::thread::Worker;
use super::tracker::Cut;
use super::validation::seek_all;

impl Worker {
    /// Begins anew with the partitions whose topic is another one than they were read from. What the library has read ahead
    /// is dropped, and what is in flight counts for nothing.
    pub(super) fn begin_anew(&mut self) {
        if !matches!(self.rebalancing, Rebalancing::No) {
            return;
        }
        let mut adopted = Vec::new();
        {
            let told = self.shared.topic_ids.borrow();
            // The others are sought somewhere else before they begin.
            for lane in self.lanes.iter().filter(|lane| lane.has_begun()) {
                let Some(told) = told.get(&lane.topic) else { continue };
                if self.identities.tell(lane.id, *told) {
                    adopted.push((lane.id, told.id));
                }
            }
        }
        if adopted.is_empty() {
            return;
        }
        let is_adopted = |lane: &Lane| adopted.iter().any(|(id, _)| *id == lane.id);
        // Not the beginning, whatever that is: first records that are gone already are to be counted.
        let firsts = self.lanes.iter().filter(|lane| is_adopted(lane)).map(|lane| (lane, 0));
        // What the library does not take note of now is tried again in the next round: it would go on where it is.
        let sought = seek_all(&self.consumer, firsts);
        if sought.is_empty() {
            tracing::info!("the client does not go back to the first records of a new topic yet");
            return;
        }
        adopted.retain(|(id, _)| sought.contains(id));
        let mut topics: Vec<&str> = Vec::new();
        let mut assignment = self.shared.lock();
        for lane in self.lanes.iter_mut().filter(|lane| sought.contains(&lane.id)) {
            let cut = assignment.tracker_mut(lane.id).and_then(|tracker| tracker.begin_anew());
            let unread = lane.begin_anew().and_then(|committed| Cut::before(committed, 0));
            lane.cut = cut.or(unread).map(|cut| (0, cut));
            if !topics.contains(&&*lane.topic) {
                topics.push(&lane.topic);
            }
        }
        drop(assignment);
        for topic in topics {
            tracing::warn!(
                topic,
                "the topic was deleted and created anew, as its id says; it is read from its first record"
            );
        }
        self.meet_cuts();
        // After that, which takes note that the offsets have gone back.
        for (partition, id) in adopted {
            self.identities.adopt(partition, id);
        }
        // A partition that stood still may go on.
        self.shared.arrived.notify_one();
    }
}
