//! Which records hold up their partitions. Pure: no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::lasting::Due;
use super::tracker::Front;

/// How long the first record that is not done may be with the platform before it is named.
const STALLED: Duration = Due::FIRST;

/// The partitions that wait for one record, and when each is named again.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// By partition: the record, and the age at which it is named next.
    named: BTreeMap<u16, (i64, Due)>,
}

impl Stalls {
    /// Looks at a partition, and returns its first record with the time that the platform has had it, if the log tells of it
    /// now: see [`Due`].
    pub(super) fn look(&mut self, id: u16, front: Option<Front>, now: Instant) -> Option<(Front, Duration)> {
        let Some((front, sent)) = front.and_then(|front| Some((front, front.sent?))) else {
            self.named.remove(&id);
            return None;
        };
        let age = now.duration_since(sent);
        let (offset, due) = self.named.entry(id).or_insert((front.offset, Due::default()));
        if *offset != front.offset || age < STALLED {
            (*offset, *due) = (front.offset, Due::default());
        }
        due.is_reached(age).then_some((front, age))
    }

    /// Forgets partitions that are not `there` any more.
    pub(super) fn keep(&mut self, there: impl Fn(u16) -> bool) {
        self.named.retain(|id, _| there(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(offset: i64, sent: Option<Instant>) -> Option<Front> {
        Some(Front { offset, deliveries: 1, sent })
    }

    #[test]
    fn a_record_that_is_never_acked_is_named_once_and_at_doubling_ages() {
        let sent = Instant::now();
        let mut stalls = Stalls::default();
        let named: Vec<u64> = (0..300)
            .filter_map(|second| stalls.look(3, front(7, Some(sent)), sent + Duration::from_secs(second)))
            .map(|(_, age)| age.as_secs())
            .collect();
        assert_eq!(named, [30, 60, 120, 240]);
    }

    #[test]
    fn another_record_and_another_delivery_begin_anew() {
        let sent = Instant::now();
        let later = sent + Duration::from_secs(40);
        let mut stalls = Stalls::default();
        assert!(stalls.look(3, front(7, Some(sent)), later).is_some());
        assert!(stalls.look(3, front(8, Some(sent)), later).is_some(), "another record");
        assert!(stalls.look(3, front(8, Some(later)), later).is_none(), "handed out again");
        assert!(stalls.look(3, front(8, Some(later)), later + STALLED).is_some());
    }

    #[test]
    fn what_is_not_with_the_platform_is_no_stall() {
        let sent = Instant::now();
        let mut stalls = Stalls::default();
        assert!(stalls.look(3, None, sent + STALLED).is_none());
        assert!(stalls.look(3, front(7, None), sent + STALLED).is_none());
        assert!(stalls.look(3, front(7, Some(sent)), sent + STALLED).is_some());
        stalls.keep(|_| false);
        assert!(stalls.named.is_empty());
    }
}
