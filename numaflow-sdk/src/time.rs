//! Wire time to ours and back, in one place, and times that a clock can hold.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// A century: longer than any server runs, and short enough to be added to any time of a clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A time that a user has set, for a deadline: with one that is too long (`Duration::MAX` is meant as "for ever") the
/// addition would panic.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(LONGEST)
}

/// The time a wire timestamp means; `None` where it is out of range (nanoseconds outside a second, or seconds that this
/// system's clock cannot hold), so that no timestamp a peer sends can do harm.
pub(crate) fn from_wire(wire: Timestamp) -> Option<SystemTime> {
    let nanos = u32::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let seconds = Duration::from_secs(wire.seconds.unsigned_abs());
    let whole = if wire.seconds < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole?.checked_add(Duration::from_nanos(nanos.into()))
}

/// The first and the last second of a valid timestamp, from 0001-01-01 to 9999-12-31 (`google.protobuf.Timestamp`). The
/// platform cannot convert others.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

/// The wire form of a time: nanoseconds count forwards also before the epoch. A time beyond the range of timestamps becomes
/// the nearest valid one.
pub(crate) fn to_wire(time: SystemTime) -> Timestamp {
    let (seconds, nanos) = to_parts(time);
    Timestamp { seconds, nanos }
}

fn to_parts(time: SystemTime) -> (i64, i32) {
    match unclamped(time) {
        (..FIRST, _) => (FIRST, 0),
        (seconds, _) if seconds > LAST => (LAST, 999_999_999),
        valid => valid,
    }
}

fn unclamped(time: SystemTime) -> (i64, i32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos().cast_signed()),
        Err(error) => {
            let before = error.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos().cast_signed() {
                0 => (seconds, 0),
                nanos => (seconds.saturating_sub(1), 1_000_000_000 - nanos),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_millisecond_before_the_epoch() {
        let time = UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(to_wire(time), Timestamp { seconds: -1, nanos: 999_000_000 });
        assert_eq!(from_wire(Timestamp { seconds: -1, nanos: 999_000_000 }), Some(time));
    }

    #[test]
    fn any_time_can_be_waited_for() {
        assert_eq!(bounded(Duration::from_secs(25)), Duration::from_secs(25));
        assert!(std::time::Instant::now().checked_add(2 * bounded(Duration::MAX)).is_some());
        assert!(tokio::time::Instant::now().checked_add(2 * bounded(Duration::MAX)).is_some());
    }

    #[test]
    fn what_no_clock_can_hold_is_none() {
        assert_eq!(from_wire(Timestamp { seconds: 0, nanos: -1 }), None);
        assert_eq!(from_wire(Timestamp { seconds: 0, nanos: 1_000_000_000 }), None);
    }

    #[test]
    fn times_beyond_the_range_become_the_nearest_timestamp() {
        let wire = |seconds, nanos| to_wire(from_wire(Timestamp { seconds, nanos }).unwrap());
        let (first, last) = (Timestamp { seconds: FIRST, nanos: 0 }, Timestamp { seconds: LAST, nanos: 999_999_999 });
        assert_eq!((wire(FIRST, 0), wire(LAST, 999_999_999)), (first, last));
        assert_eq!((wire(FIRST - 1, 999_999_999), wire(LAST + 1, 0)), (first, last));
        assert_eq!((wire(i64::MIN / 2, 0), wire(i64::MAX / 2, 0)), (first, last));
    }

    proptest! {
        #[test]
        fn round_trip(seconds in FIRST..=LAST, nanos in 0i32..1_000_000_000) {
            let wire = Timestamp { seconds, nanos };
            prop_assert_eq!(from_wire(wire).map(to_wire), Some(wire));
        }

        #[test]
        fn no_timestamp_panics(seconds: i64, nanos: i32) {
            let _ = from_wire(Timestamp { seconds, nanos }).map(to_wire);
        }
    }
}
