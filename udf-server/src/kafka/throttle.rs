//! Which lines of the log are written, where the same trouble may come up a thousand times a second. Pure: no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two lines on the same subject.
pub(super) const QUIET: Duration = Duration::from_secs(30);
/// The most subjects that are remembered: as many as a source may have partitions. There are fewer error codes and facilities
/// of the client library.
const SUBJECTS: usize = 1 << 16;

/// Lets one line on each subject through in [`QUIET`], and counts the others.
#[derive(Debug)]
pub(super) struct Throttle<K> {
    told: BTreeMap<K, Told>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Lines that were held back since then.
    held_back: usize,
}

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Self { told: BTreeMap::new() }
    }
}

impl<K: Ord> Throttle<K> {
    /// Whether to write a line on this subject now: how many were held back since the last one; `None` if it is to be held
    /// back too.
    pub(super) fn admit(&mut self, subject: K, now: Instant) -> Option<usize> {
        if let Some(told) = self.told.get_mut(&subject) {
            if now.duration_since(told.at) < QUIET {
                told.held_back += 1;
                return None;
            }
            let held_back = std::mem::take(&mut told.held_back);
            told.at = now;
            return Some(held_back);
        }
        if self.told.len() >= SUBJECTS {
            self.told.retain(|_, told| now.duration_since(told.at) < QUIET);
        }
        // With that many subjects at once the newest ones are not told.
        if self.told.len() >= SUBJECTS {
            return None;
        }
        self.told.insert(subject, Told { at: now, held_back: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_is_told_once_in_a_while_also_where_two_take_turns() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        for round in 0..10 {
            let told = (round == 0).then_some(0);
            assert_eq!(throttle.admit("refused", now), told);
            assert_eq!(throttle.admit("reset", now + QUIET / 2), told);
        }
        assert_eq!(throttle.admit("refused", now + QUIET), Some(9));
        assert_eq!(throttle.admit("reset", now + QUIET), None);
        assert_eq!(throttle.admit("reset", now + QUIET + QUIET / 2), Some(10));
        assert_eq!(throttle.admit("refused", now + QUIET * 3), Some(0), "the count began anew");
    }

    #[test]
    fn it_remembers_no_more_than_so_many_subjects() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let told = (0..SUBJECTS + 10).filter(|subject| throttle.admit(*subject, now).is_some()).count();
        assert_eq!(told, SUBJECTS);
        assert_eq!(throttle.admit(SUBJECTS + 20, now + QUIET), Some(0), "old ones make room");
        assert_eq!(throttle.told.len(), 1);
    }
}
