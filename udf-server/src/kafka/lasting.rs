//! Conditions that the log tells of when they last. Pure: no clock.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// The age at which the log tells of a condition next: after thirty seconds, and again whenever that time has doubled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due(Duration);

impl Due {
    /// The first of these ages. A condition that ends by itself is over by then, and an alarm has to come within a minute.
    pub(super) const FIRST: Duration = Duration::from_secs(30);

    /// Whether the log tells of a condition of this age now.
    pub(super) fn is_reached(&mut self, age: Duration) -> bool {
        if age < self.0 {
            return false;
        }
        while self.0 <= age {
            self.0 *= 2;
        }
        true
    }
}

impl Default for Due {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

/// Conditions by their subjects, and when the log tells of each next.
#[derive(Debug)]
pub(super) struct Lasting<K> {
    known: BTreeMap<K, (Instant, Due)>,
}

impl<K> Default for Lasting<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

impl<K: Ord> Lasting<K> {
    /// Looks at a condition, and returns its age if the log tells of it now: see [`Due`].
    pub(super) fn look(&mut self, subject: K, holds: bool, now: Instant) -> Option<Duration> {
        if !holds {
            self.known.remove(&subject);
            return None;
        }
        let (since, due) = self.known.entry(subject).or_insert((now, Due::default()));
        let age = now.duration_since(*since);
        due.is_reached(age).then_some(age)
    }

    /// For how long a condition has lasted; `None` while it does not hold.
    pub(super) fn age<Q: Ord + ?Sized>(&self, subject: &Q, now: Instant) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        self.known.get(subject).map(|(since, _)| now.duration_since(*since))
    }

    /// Forgets subjects that are not `there` any more.
    pub(super) fn keep(&mut self, there: impl Fn(&K) -> bool) {
        self.known.retain(|subject, _| there(subject));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_at_doubling_ages_and_from_anew_after_a_break() {
        let start = Instant::now();
        let second = |second| start + Duration::from_secs(second);
        let mut lasting = Lasting::default();
        let mut told = |from: u64, to: u64| -> Vec<u64> {
            (from..to).filter_map(|at| lasting.look("joining", true, second(at))).map(|age| age.as_secs()).collect()
        };
        assert_eq!(told(0, 200), [30, 60, 120]);
        assert_eq!(lasting.age(&"joining", second(200)), Some(Duration::from_secs(200)));
        assert_eq!(lasting.look("joining", false, second(201)), None);
        assert_eq!(lasting.age(&"joining", second(201)), None);
        assert_eq!(lasting.look("joining", true, second(202)), None);
        assert_eq!(lasting.look("joining", true, second(232)), Some(Duration::from_secs(30)));
        assert_eq!(lasting.look("other", true, second(232)), None, "each by itself");
        lasting.keep(|subject| *subject == "other");
        assert_eq!(lasting.age(&"joining", second(233)), None);
    }
}
