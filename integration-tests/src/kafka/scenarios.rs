//! Runs of one thing each, which a seed would hit by chance only.

use clap::ValueEnum;

pub(super) mod memory;
pub(super) mod outage;
pub(super) mod restart;
pub(super) mod stall;

/// The runs of one thing each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// The broker is away for a minute: no process ends, acks are taken, nothing is lost
    Outage,
    /// A platform that is stopped past max.poll.interval.ms: no rebalance, nothing twice
    Stall,
    /// The main container starts again and again while the sidecar lives
    Restart,
    /// 48 partitions, a backlog, a budget of 128 MiB and a platform that does not read: resident memory stays below the
    /// budget and 64 MiB
    Memory,
}
