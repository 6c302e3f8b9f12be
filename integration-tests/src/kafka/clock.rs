//! The one clock that all processes of a run share.

use std::time::{Duration, SystemTime};

/// Microseconds since 1970.
pub(super) type Micros = u64;

/// The time, comparable between the processes of this machine.
pub(super) fn now() -> Micros {
    micros(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// A length of time in the clock's unit.
pub(super) fn micros(time: Duration) -> Micros {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
