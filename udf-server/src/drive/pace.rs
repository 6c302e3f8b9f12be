//! How fast messages are read.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Lets so many messages a second through. What was not taken in time can be taken later, up to a second's worth, so that
/// a pause of the servers is made up for and a long one doesn't end in a flood.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    /// How many messages may be taken at `at`; below zero where more came than were asked for.
    credit: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(rate: NonZeroU32) -> Self {
        Self { rate: f64::from(rate.get()), credit: 1.0, at: Instant::now() }
    }

    /// Waits until a message may be taken, and tells how many may be. Safe to cancel.
    pub(super) async fn ready(&mut self, most: usize) -> usize {
        loop {
            let now = Instant::now();
            self.credit = (self.credit + (now - self.at).as_secs_f64() * self.rate).min(self.rate.max(1.0));
            self.at = now;
            if self.credit >= 1.0 {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at least 1, at most a rate"
                )]
                return (self.credit as usize).min(most);
            }
            // Rounded up to what the clock can tell, so that it is not woken too early for ever.
            sleep(Duration::from_secs_f64((1.0 - self.credit) / self.rate) + Duration::from_millis(1)).await;
        }
    }

    /// Counts what was taken.
    pub(super) fn took(&mut self, messages: usize) {
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let messages = messages as f64;
        self.credit -= messages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_and_a_pause_is_made_up_for_within_a_second() {
        let mut pace = Pace::new(NonZeroU32::new(100).unwrap());
        let begun = Instant::now();
        let mut taken = 0;
        while taken < 500 {
            let ready = pace.ready(7).await;
            assert!((1..=7).contains(&ready));
            pace.took(ready);
            taken += ready;
        }
        let took = begun.elapsed().as_secs_f64();
        assert!((4.8..5.2).contains(&took), "{took}");
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(pace.ready(1000).await, 100);
        pace.took(300);
        let begun = Instant::now();
        pace.ready(1).await;
        assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
