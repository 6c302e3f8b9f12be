//! Lines of the log that would be many, and of which one now and then is enough.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// After a line, as long as this none of the same kind is written.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets one line of the log through in ten seconds, and counts those that it keeps back.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When the last line was written, and how many were kept back since.
    last: Mutex<Option<(Instant, u64)>>,
}

impl Throttle {
    /// Whether a line is to be written now; if so, how many were kept back since the last one.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        // Nothing panics while it holds the lock.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((at, kept_back)) if now.saturating_duration_since(*at) < PAUSE => {
                *kept_back += 1;
                None
            }
            last => Some(last.replace((now, 0)).map_or(0, |(_, kept_back)| kept_back)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_tells_of_those_kept_back() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let at = |seconds| throttle.pass(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 19, 20].map(at), [Some(0), None, None, Some(2), None, Some(1)]);
        // Threads may take the time in one order and come here in another.
        assert_eq!(at(15), None);
    }
}
