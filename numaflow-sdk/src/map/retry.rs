//! How often and how soon a failed message is tried again before it becomes somebody else's.

use std::fmt;
use std::time::Duration;

/// How a message whose handler failed is tried again in this process, before the [`FailurePolicy`](super::FailurePolicy)
/// applies. By default it is not.
///
/// Before each further try passes a random part of a time that grows with the tries: all messages that one fault made
/// fail come back spread out, and not at once. A panic is tried again like an error. Not tried again is what returned a
/// [terminal](crate::HandlerError::terminal) error, and in stream mode what has an output that left.
///
/// A message that waits for its next try counts as in flight.
///
/// ```
/// use std::time::Duration;
/// use numaflow_sdk::map::Retry;
///
/// let retry = Retry::attempts(5).initial_delay(Duration::from_millis(50)).deadline(Duration::from_secs(30));
/// assert_ne!(retry, Retry::none());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    attempts: u32,
    initial_delay: Duration,
    factor: f64,
    max_delay: Duration,
    deadline: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self::none()
    }
}

impl Retry {
    /// A message is tried once.
    #[must_use]
    pub const fn none() -> Self {
        Self::attempts(1)
    }

    /// A message is tried this many times in all, the first one included.
    #[must_use]
    pub const fn attempts(attempts: u32) -> Self {
        Self {
            attempts,
            initial_delay: Duration::from_millis(100),
            factor: 2.0,
            max_delay: Duration::from_secs(10),
            deadline: None,
        }
    }

    /// The same, but for the number of attempts.
    pub(crate) const fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The longest wait before the second try. 100 ms by default, which is past most hiccups of a peer in the cluster.
    #[must_use]
    pub const fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// By how much the longest wait grows from one try to the next; 1 keeps it. 2 by default.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// What the longest wait grows to. 10 s by default: a fault that lasts has ended for that long at most before it is
    /// noticed.
    #[must_use]
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// No try starts later than this after the first one did. By default there is no such time.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What is wrong with the values, in the words of [`ServeError::Option`](crate::ServeError::Option).
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.attempts == 0 {
            Err("0 attempts would never run a handler; give 1 for no retry".to_owned())
        } else if self.initial_delay.is_zero() {
            Err("an initial delay of zero would try again without a pause; give 1 ms or more".to_owned())
        } else if self.max_delay < self.initial_delay {
            Err(format!(
                "the maximal delay of {:?} is below the initial one of {:?}; raise it",
                self.max_delay, self.initial_delay
            ))
        } else if !(self.factor >= 1.0 && self.factor.is_finite()) {
            Err(format!("the factor {} would shorten the delays; give 1 or more", self.factor))
        } else if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            Err("a deadline of zero leaves no time to try again; use no retry instead".to_owned())
        } else {
            Ok(())
        }
    }

    /// Whether anything is tried again at all.
    pub(crate) const fn is_some(&self) -> bool {
        self.attempts > 1
    }

    /// How long to wait before the next try, when the `attempt`th one (from 1) has failed `elapsed` after the first one
    /// started; `None` to give up. `random` is from 0 to 1 and evenly spread.
    pub(crate) fn delay(&self, attempt: u32, elapsed: Duration, random: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let steps = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.initial_delay.as_secs_f64() * self.factor.powi(steps);
        // A number that no duration can hold, infinity included, is above the longest wait there is.
        let longest = Duration::try_from_secs_f64(longest).map_or(self.max_delay, |delay| delay.min(self.max_delay));
        let delay = longest.mul_f64(random.clamp(0.0, 1.0));
        match self.deadline {
            Some(deadline) if elapsed.saturating_add(delay) > deadline => None,
            _ => Some(delay),
        }
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, initial_delay, factor, max_delay, deadline } = self;
        write!(f, "{attempts} attempts, up to {initial_delay:?} apart, times {factor} up to {max_delay:?}")?;
        match deadline {
            Some(deadline) => write!(f, ", within {deadline:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_defaults_double_from_100_ms_to_10_s() {
        let retry = Retry::attempts(100);
        let longest = |attempt| retry.delay(attempt, Duration::ZERO, 1.0).unwrap();
        assert_eq!([1, 2, 3].map(longest), [100 * MS, 200 * MS, 400 * MS]);
        assert_eq!([7, 8, 99].map(longest), [6400 * MS, 10_000 * MS, 10_000 * MS]);
        assert_eq!(retry.delay(2, Duration::ZERO, 0.25), Some(50 * MS));
        assert_eq!(retry.delay(2, Duration::ZERO, 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_count_the_first_try() {
        assert_eq!(Retry::none().delay(1, Duration::ZERO, 0.0), None);
        assert!(!Retry::none().is_some());
        let thrice = Retry::attempts(3);
        assert!(thrice.is_some());
        assert!(thrice.delay(1, Duration::ZERO, 1.0).is_some());
        assert!(thrice.delay(2, Duration::ZERO, 1.0).is_some());
        assert_eq!(thrice.delay(3, Duration::ZERO, 0.0), None);
    }

    #[test]
    fn no_try_starts_past_the_deadline() {
        let retry = Retry::attempts(9).deadline(1000 * MS);
        assert_eq!(retry.delay(1, 900 * MS, 1.0), Some(100 * MS));
        assert_eq!(retry.delay(1, 901 * MS, 1.0), None);
        assert_eq!(retry.delay(1, 901 * MS, 0.5), Some(50 * MS));
        assert_eq!(retry.delay(1, Duration::MAX, 0.0), None);
    }

    #[test]
    fn values_that_make_no_sense_are_told() {
        assert_eq!(Retry::none().check(), Ok(()));
        assert_eq!(Retry::attempts(3).factor(1.0).deadline(MS).check(), Ok(()));
        for (retry, word) in [
            (Retry::attempts(0), "0 attempts"),
            (Retry::attempts(2).initial_delay(Duration::ZERO), "initial delay"),
            (Retry::attempts(2).max_delay(MS), "maximal delay of 1ms"),
            (Retry::attempts(2).factor(0.9), "factor 0.9"),
            (Retry::attempts(2).factor(f64::NAN), "factor NaN"),
            (Retry::attempts(2).factor(f64::INFINITY), "factor inf"),
            (Retry::attempts(2).deadline(Duration::ZERO), "deadline"),
        ] {
            let problem = retry.check().unwrap_err();
            assert!(problem.contains(word), "{word} is missing from: {problem}");
        }
    }

    proptest! {
        #[test]
        fn a_delay_is_within_its_bounds(
            (attempts, attempt) in (1..u32::MAX, 0..u32::MAX),
            (initial, max) in (0..u64::MAX, 0..u64::MAX),
            factor in proptest::num::f64::ANY,
            (elapsed, deadline) in (0..u64::MAX, proptest::option::of(0..u64::MAX)),
            random in 0.0..=1.0,
        ) {
            let [initial, max, elapsed] = [initial, max, elapsed].map(Duration::from_nanos);
            let deadline = deadline.map(Duration::from_nanos);
            let retry = Retry { attempts, initial_delay: initial, factor, max_delay: max, deadline };
            match retry.delay(attempt, elapsed, random) {
                Some(delay) => {
                    prop_assert!(attempt < attempts);
                    prop_assert!(delay <= max);
                    prop_assert!(deadline.is_none_or(|deadline| elapsed + delay <= deadline));
                }
                None => prop_assert!(attempt >= attempts || deadline.is_some()),
            }
        }

        #[test]
        fn the_longest_wait_never_shrinks(attempt in 1..1000_u32, factor in 1.0..10.0, initial in 1..100_000_u64) {
            let retry = Retry::attempts(2000).initial_delay(Duration::from_micros(initial)).factor(factor);
            let longest = |attempt| retry.delay(attempt, Duration::ZERO, 1.0).unwrap();
            prop_assert!(longest(attempt) <= longest(attempt + 1));
        }
    }
}
