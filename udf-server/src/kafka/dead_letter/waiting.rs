//! The letters that wait for their next attempt. Pure: no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long to wait after the first failure that may pass; the wait doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest wait after a failure that may pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Letters by the time of their next attempt, and those that are due at the same time in the order in which they were posted.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    letters: BTreeMap<(Instant, u64), T>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { letters: BTreeMap::new() }
    }
}

impl<T> Waiting<T> {
    /// Adds a letter, which has a number of its own.
    pub(super) fn add(&mut self, number: u64, due: Instant, letter: T) {
        self.letters.insert((due, number), letter);
    }

    /// Takes the next letter that is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<T> {
        let (due, _) = self.letters.first_key_value()?.0;
        if *due > now {
            return None;
        }
        self.letters.pop_first().map(|(_, letter)| letter)
    }

    /// Removes the letters that nobody waits for any more.
    pub(super) fn remove(&mut self, mut is_over: impl FnMut(&T) -> bool) -> Vec<T> {
        self.letters.extract_if(.., |_, letter| is_over(letter)).map(|(_, letter)| letter).collect()
    }
}

/// How long to wait before the next attempt after so many that failed and may succeed by themselves.
pub(super) fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_waits_does_not_delay_the_others() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.add(0, now + PAUSE, "failed");
        waiting.add(2, now, "third");
        waiting.add(1, now, "second");
        assert_eq!([waiting.next(now), waiting.next(now), waiting.next(now)], [Some("second"), Some("third"), None]);
        assert_eq!(waiting.next(now + PAUSE), Some("failed"));
    }

    #[test]
    fn those_that_nobody_waits_for_go() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for number in 0..4 {
            waiting.add(number, now, number);
        }
        assert_eq!(waiting.remove(|letter| letter % 2 == 0), [0, 2]);
        assert_eq!([waiting.next(now), waiting.next(now), waiting.next(now)], [Some(1), Some(3), None]);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> = [1, 2, 3, 5, 6, 1000].map(|failures| pause(failures).as_secs()).into();
        assert_eq!(pauses, [1, 2, 4, 16, 30, 30]);
    }
}
