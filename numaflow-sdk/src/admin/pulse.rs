//! Whether the server's runtime still runs its tasks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long a runtime may be silent. Far above what a busy machine makes a task wait, so that a restart, which drops all
/// that is in flight, happens only where nothing else helps.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// The last sign of life of a runtime.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    last_beat_millis: AtomicU64,
}

impl Pulse {
    /// Counts as a beat.
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, last_beat_millis: AtomicU64::new(0) }
    }

    pub(super) fn beat(&self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        self.last_beat_millis.store(millis, Ordering::Relaxed);
    }

    /// How long it has been silent, if that is too long.
    pub(super) fn lost_for(&self, now: Instant) -> Option<Duration> {
        let last_beat = Duration::from_millis(self.last_beat_millis.load(Ordering::Relaxed));
        let silence = now.saturating_duration_since(self.start).saturating_sub(last_beat);
        (silence > LONGEST_SILENCE).then_some(silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_of_more_than_a_minute_is_a_loss_until_the_next_beat() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let pulse = Pulse::new(start);
        assert_eq!(pulse.lost_for(second(60)), None);
        assert_eq!(pulse.lost_for(second(61)), Some(Duration::from_secs(61)));
        pulse.beat(second(100));
        assert_eq!(pulse.lost_for(second(160)), None);
        assert_eq!(pulse.lost_for(second(170)), Some(Duration::from_secs(70)));
        // Whoever looks may have taken the time before the beat did.
        pulse.beat(second(200));
        assert_eq!(pulse.lost_for(second(199)), None);
    }
}
