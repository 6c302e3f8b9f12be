//! Records that were gone before they were read: by retention, or because the topic was cut.
//!
//! The client library goes on with the oldest record that is there, and says so in its log and nowhere else.

use rdkafka::consumer::Consumer;

use super::thread::Worker;

/// A partition is read on with its oldest record, because the next one is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The offset of the record that would have been next.
    pub(super) from: i64,
    /// What the library says of it.
    pub(super) message: String,
}

impl Reset {
    /// Reads it in what the library logs, `[thread]: topic [partition]: offset reset (at offset N (leader epoch ..`: it says so
    /// nowhere else.
    pub(super) fn parse(message: &str) -> Option<Self> {
        let (place, rest) = message.split_once("]: offset reset (at offset ")?;
        let (topic, partition) = place.rsplit_once(" [")?;
        let topic = topic.rsplit(' ').next()?;
        let from = rest.split(' ').next()?.parse().ok()?;
        let partition = partition.parse().ok()?;
        Some(Self { topic: topic.to_owned(), partition, from, message: message.to_owned() })
    }
}

impl Worker {
    /// Counts what was gone before it was read: from where the partition should have been read on to where it is.
    pub(super) fn count_gone(&mut self) {
        for reset in self.consumer.context().take_resets() {
            let mut lane = self.lanes.iter_mut().find(|lane| lane.is(&reset.topic, reset.partition));
            // Behind what is damaged the library fetches from anywhere, until it is told where to read on.
            if lane.as_ref().is_some_and(|lane| lane.broken.is_some()) {
                tracing::debug!("damaged records: {}", reset.message);
                continue;
            }
            // A record that was read before, and was to be read again, may be gone: nothing is lost by that.
            if let Some(lane) = &mut lane
                && let Some(next) = lane.next_while_compared()
                && reset.from < next
            {
                tracing::debug!(next, "records that were read before are gone: {}", reset.message);
                lane.reset_from = Some(next);
                continue;
            }
            self.shared.counters.resets.add(1);
            self.consumer.context().tell_gone(&reset);
            if let Some(lane) = &mut lane {
                lane.reset_from = Some(reset.from);
            }
        }
        for lane in &mut self.lanes {
            let Some(from) = lane.reset_from else { continue };
            // Of a topic that was made anew all offsets come once more, also this one.
            if let Some((next, _)) = lane.fetched.iter().find(|(offset, _)| *offset >= from) {
                lane.reset_from = None;
                self.shared.counters.gone.add(usize::try_from(next - from).unwrap_or(0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_logs_of_records_that_are_gone_is_read() {
        let message = "[thrd:main]: flights.a [3]: offset reset (at offset 17 (leader epoch 2), broker 1) to cached BEGINNING \
                       offset 20 (leader epoch -1): fetch failed due to requested offset not available on the broker";
        let place = |message| Reset::parse(message).map(|reset| (reset.topic, reset.partition, reset.from));
        assert_eq!(place(message), Some(("flights.a".to_owned(), 3, 17)));
        assert_eq!(place(&message[13..]), place(message), "threads may be left out");
        assert_eq!(Reset::parse("[thrd:main]: offset reset is what this is about"), None);
    }
}
