//! Which messages in flight deserve a word in the log, and when.

use std::collections::HashMap;
use std::time::Duration;

use super::Listed;

/// The most messages named by one look. Those beyond it are due at the next one, so that all get named and a server whose
/// database has died does not bury its log.
const MOST_AT_ONCE: usize = 100;

/// Names messages that are in flight for longer than a threshold: once, then whenever their age has doubled again.
#[derive(Debug)]
pub(crate) struct Watchdog {
    threshold: Duration,
    /// The age at which a message that was named is due again. Holds nothing but messages in flight.
    due: HashMap<u64, Duration>,
}

impl Watchdog {
    /// The threshold must be above zero.
    pub(crate) fn new(threshold: Duration) -> Self {
        Self { threshold, due: HashMap::new() }
    }

    /// The messages to be named now, of all that are in flight.
    pub(crate) fn scan<'a>(&mut self, listed: &'a [Listed]) -> Vec<&'a Listed> {
        let mut named = Vec::new();
        let mut due = HashMap::new();
        for message in listed.iter().filter(|message| message.age >= self.threshold) {
            let mut at = self.due.get(&message.sequence).copied().unwrap_or(self.threshold);
            if message.age >= at && named.len() < MOST_AT_ONCE {
                named.push(message);
                // From the threshold on, not from its age: looks that come late make no other pattern.
                while at <= message.age {
                    at = at.saturating_mul(2);
                }
            }
            due.insert(message.sequence, at);
        }
        self.due = due;
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::in_flight::{HeldUp, Stage};

    const THRESHOLD: Duration = Duration::from_secs(30);

    fn listed(sequence: u64, seconds: u64) -> Listed {
        let age = Duration::from_secs(seconds);
        Listed { sequence, id: "x".to_owned(), stage: Stage::Handler, age, bytes: 1, held_up: HeldUp::No }
    }

    /// The ages, in seconds, at which a message looked at every second is named.
    fn named_at(watchdog: &mut Watchdog, seconds: impl Iterator<Item = u64>) -> Vec<u64> {
        seconds.filter(|age| !watchdog.scan(&[listed(1, *age)]).is_empty()).collect()
    }

    #[test]
    fn a_message_is_named_at_the_threshold_and_at_every_doubling() {
        let mut watchdog = Watchdog::new(THRESHOLD);
        assert_eq!(named_at(&mut watchdog, 0..=500), [30, 60, 120, 240, 480]);
    }

    #[test]
    fn a_late_look_names_a_message_once() {
        let mut watchdog = Watchdog::new(THRESHOLD);
        assert_eq!(named_at(&mut watchdog, [250, 251, 479, 480].into_iter()), [250, 480]);
    }

    #[test]
    fn messages_that_are_gone_are_forgotten() {
        let mut watchdog = Watchdog::new(THRESHOLD);
        assert_eq!(watchdog.scan(&[listed(1, 30), listed(2, 31), listed(3, 29)]).len(), 2);
        assert_eq!(watchdog.due.len(), 2);
        assert!(watchdog.scan(&[listed(2, 32)]).is_empty());
        assert_eq!(watchdog.due.len(), 1);
        watchdog.scan(&[]);
        assert_eq!(watchdog.due.len(), 0);
    }

    #[test]
    fn a_crowd_is_named_in_turns() {
        let mut watchdog = Watchdog::new(THRESHOLD);
        let crowd: Vec<_> = (0..250).map(|sequence| listed(sequence, 30)).collect();
        let turns: Vec<_> = (0..4).map(|_| watchdog.scan(&crowd).len()).collect();
        assert_eq!(turns, [100, 100, 50, 0]);
    }
}
