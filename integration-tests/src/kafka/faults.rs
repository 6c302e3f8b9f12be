//! What goes wrong in a run, and when, drawn from the seed.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::verdict::SESSION;

pub(super) mod cluster;

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
    /// kill -9 of a node of the cluster, and so of the leader of its partitions.
    KillNode(u32),
    /// A node cannot be reached by others, nor they by it.
    CutOff { node: u32, from: Peers, how: Breakage },
    /// One node follows slowly, another not at all.
    SlowFollower { slow: u32, gone: u32 },
    /// The other nodes do not follow one. It gets records that only it has, and is killed. Its partitions have no leader
    /// until it is back, or one that cuts their logs.
    LoneLeader(u32),
    /// All that is in some of the partitions is removed, as when it has become too old, whether it was read or not; this has
    /// no end.
    Retention,
    /// The topic is deleted and made again; of a scenario alone.
    Recreate,
    /// The brokers refuse something to the sources; of scenarios alone.
    Refuse,
}

/// From whom a node is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peers {
    /// The other nodes.
    Nodes,
    /// The sources.
    Clients,
    /// Both.
    All,
}

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breakage {
    /// They are reset, and new ones as well.
    Cut,
    /// Nothing passes and none ends.
    Stall,
    /// They end for one side only; new ones pass.
    HalfOpen,
}

impl Fault {
    /// Whether the broker is away meanwhile.
    pub(super) fn is_of_broker(self) -> bool {
        matches!(self, Self::CrashBroker | Self::PauseBroker) || self.is_of_cluster()
    }

    /// Whether it is one of those of a cluster's run. There is one at a time.
    pub(super) fn is_of_cluster(self) -> bool {
        matches!(
            self,
            Self::KillNode(_)
                | Self::CutOff { .. }
                | Self::SlowFollower { .. }
                | Self::LoneLeader(_)
                | Self::Retention
                | Self::Recreate
                | Self::Refuse
        )
    }
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
            Self::KillNode(node) => write!(f, "kill -9 of node {node}"),
            Self::CutOff { node, from, how } => {
                let from = match from {
                    Peers::Nodes => "the other nodes",
                    Peers::Clients => "the sources",
                    Peers::All => "everybody",
                };
                let how = match how {
                    Breakage::Cut => "cut off",
                    Breakage::Stall => "stalled",
                    Breakage::HalfOpen => "left half-open",
                };
                write!(f, "node {node} {how} from {from}")
            }
            Self::SlowFollower { slow, gone } => write!(f, "node {slow} follows slowly, node {gone} not at all"),
            Self::Refuse => f.write_str("something is refused"),
            Self::Recreate => f.write_str("the topic made again"),
            Self::Retention => f.write_str("removal of records"),
            Self::LoneLeader(node) => write!(f, "kill -9 of node {node}, which alone has all records"),
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

/// How many kinds of faults there are, and how many of them are of a source or a driver.
pub(super) const KINDS: u32 = 9;
const OF_PROCESSES: u32 = 5;
/// Half of the processes that are stopped are so for this much longer than the broker waits for a member.
const LONGER: Duration = Duration::from_secs(2);
/// When the first fault comes: by then the group has formed, or not quite.
const QUIET: Duration = Duration::from_secs(4);
/// The pause between the beginnings of two faults.
const PAUSES: std::ops::Range<u64> = 300..2_500;

/// The faults of a seed, so many of them: every kind once, and beyond that those of processes, in any order.
pub(super) fn plan(seed: u64, count: u32) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let mut faults = Vec::new();
    for kind in 0..count {
        let kind = if kind < KINDS { kind } else { rng.u32(0..OF_PROCESSES) };
        faults.push(draw(kind, &mut rng));
    }
    rng.shuffle(&mut faults);
    schedule(faults, &mut rng)
}

/// Says when each of these faults begins, and how long it lasts.
pub(super) fn schedule(faults: Vec<Fault>, rng: &mut Rng) -> Vec<Planned> {
    let mut at = QUIET;
    let mut plan = Vec::new();
    for fault in faults {
        let lasts = match fault {
            Fault::KillSource(_) | Fault::KillDriver(_) => Duration::from_millis(rng.u64(0..3_000)),
            Fault::TerminateSource(_) => Duration::from_millis(rng.u64(0..1_000)),
            Fault::StopSource(_) | Fault::StopDriver(_) if rng.bool() => SESSION + LONGER,
            Fault::StopSource(_) | Fault::StopDriver(_) | Fault::PauseBroker => {
                Duration::from_millis(rng.u64(300..4_000))
            }
            Fault::CrashBroker => Duration::from_millis(rng.u64(0..2_000)),
            Fault::Scale => Duration::from_millis(rng.u64(4_000..8_000)),
            Fault::Grow | Fault::Retention | Fault::Recreate | Fault::Refuse => Duration::ZERO,
            Fault::KillNode(_) => Duration::from_millis(rng.u64(0..6_000)),
            Fault::CutOff { .. } | Fault::SlowFollower { .. } => Duration::from_millis(rng.u64(1_000..9_000)),
            // How long the node has no followers, beyond what the others take to notice.
            Fault::LoneLeader(_) => Duration::from_millis(rng.u64(1_000..4_000)),
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
        assert_eq!(plan(7, 15), plan(7, 15));
        assert_ne!(plan(7, 15), plan(8, 15));
        for seed in 0..100 {
            let plan = plan(seed, KINDS);
            assert!(plan.iter().any(|planned| planned.fault == Fault::Scale), "{plan:?}");
            assert!(plan.iter().any(|planned| planned.fault == Fault::Grow), "{plan:?}");
            assert!(plan.is_sorted_by_key(|planned| planned.at), "{plan:?}");
        }
    }
}
