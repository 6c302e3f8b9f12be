//! What goes wrong in a run, and when, drawn from the seed.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// How many members there are.
pub(super) const MEMBERS: usize = 3;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9 of a source.
    KillSource(usize),
    /// SIGTERM of a source.
    TerminateSource(usize),
    /// SIGSTOP of a source.
    StopSource(usize),
    /// kill -9 of a driver, as when the main container restarts.
    KillDriver(usize),
    /// SIGSTOP of a driver.
    StopDriver(usize),
    /// kill -9 of the broker.
    CrashBroker,
    /// SIGSTOP of the broker.
    PauseBroker,
    /// All members but one go, in order, and come back.
    Scale,
    /// The topic gets two more partitions; this has no end.
    Grow,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillSource(member) => write!(f, "kill -9 of source {member}"),
            Self::TerminateSource(member) => write!(f, "SIGTERM of source {member}"),
            Self::StopSource(member) => write!(f, "SIGSTOP of source {member}"),
            Self::KillDriver(member) => write!(f, "kill -9 of driver {member}"),
            Self::StopDriver(member) => write!(f, "SIGSTOP of driver {member}"),
            Self::CrashBroker => f.write_str("kill -9 of the broker"),
            Self::PauseBroker => f.write_str("SIGSTOP of the broker"),
            Self::Scale => f.write_str("scale 3-1-3"),
            Self::Grow => f.write_str("two more partitions"),
        }
    }
}

/// A fault, when it begins, counted from the start of the run, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    pub(super) at: Duration,
    pub(super) lasts: Duration,
}

/// When the first fault comes: by then the group has formed, or not quite.
const QUIET: Duration = Duration::from_secs(6);
/// The pause between the beginnings of two faults.
const PAUSES: std::ops::Range<u64> = 400..3_500;

/// The faults of a seed: every kind once, and as many again of those that may overlap, in any order.
///
/// `session` is how long the broker waits for a member: some are stopped for less, some for more.
pub(super) fn plan(seed: u64, session: Duration) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let mut faults: Vec<Fault> = (0..9).map(|kind| draw(kind, &mut rng)).collect();
    for _ in 0..6 {
        let kind = rng.u32(0..5);
        faults.push(draw(kind, &mut rng));
    }
    rng.shuffle(&mut faults);
    let mut at = QUIET;
    let mut plan = Vec::new();
    for fault in faults {
        let lasts = match fault {
            Fault::KillSource(_) | Fault::KillDriver(_) => Duration::from_millis(rng.u64(0..3_000)),
            Fault::TerminateSource(_) => Duration::from_millis(rng.u64(0..1_000)),
            Fault::StopSource(_) | Fault::StopDriver(_) if rng.bool() => session + Duration::from_secs(2),
            Fault::StopSource(_) | Fault::StopDriver(_) | Fault::PauseBroker => {
                Duration::from_millis(rng.u64(300..4_000))
            }
            Fault::CrashBroker => Duration::from_millis(rng.u64(0..2_000)),
            Fault::Scale => Duration::from_millis(rng.u64(4_000..8_000)),
            Fault::Grow => Duration::ZERO,
        };
        plan.push(Planned { fault, at, lasts });
        at += Duration::from_millis(rng.u64(PAUSES));
    }
    plan
}

fn draw(kind: u32, rng: &mut Rng) -> Fault {
    let member = rng.usize(0..MEMBERS);
    match kind {
        0 => Fault::KillSource(member),
        1 => Fault::TerminateSource(member),
        2 => Fault::StopSource(member),
        3 => Fault::KillDriver(member),
        4 => Fault::StopDriver(member),
        5 => Fault::CrashBroker,
        6 => Fault::PauseBroker,
        7 => Fault::Scale,
        _ => Fault::Grow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        let session = Duration::from_secs(6);
        assert_eq!(plan(7, session), plan(7, session));
        assert_ne!(plan(7, session), plan(8, session));
        for seed in 0..100 {
            let plan = plan(seed, session);
            assert!(plan.iter().any(|planned| planned.fault == Fault::Scale), "{plan:?}");
            assert!(plan.is_sorted_by_key(|planned| planned.at), "{plan:?}");
        }
    }
}
