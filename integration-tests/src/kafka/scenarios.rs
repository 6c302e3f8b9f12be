//! Runs of one thing each, which a seed would hit by chance only.

use clap::ValueEnum;

use super::faults::{Breakage, Fault, Peers};
use super::stage::Replication;

pub(super) mod certificate;
pub(super) mod grown;
pub(super) mod login;
pub(super) mod memory;
pub(super) mod outage;
pub(super) mod recreated;
pub(super) mod refused;
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
    /// On a cluster: the leaders of partitions are killed, one after the other
    LeaderKilled,
    /// On a cluster: a node is cut off from the others, from clients, from both; by resets, by silence, half-open
    CutOff,
    /// On a cluster: a leader dies with records that only it has, and another one cuts the logs, those of the group's
    /// offsets included
    Unclean,
    /// On a cluster: a leader dies that alone is in sync, and its partitions have no leader until it is back
    Leaderless,
    /// On a cluster: the topic is deleted and made again, at once and after a while
    Recreated,
    /// On a cluster: a topic beside another one grows beyond the ids that there are for its partitions
    Grown,
    /// On a cluster: the dead-letter topic takes no record of the size of a letter, until it does again
    LettersTooLarge,
    /// On a cluster: the dead-letter topic is deleted, and made again
    LettersGone,
    /// On a cluster: the right to write dead letters is missing, and given
    LettersForbidden,
    /// On a cluster: the rights to read the topic and to be in the group are taken and given back
    Rights,
    /// On a cluster: the password is changed at the brokers, and a little later in its file
    Password,
    /// On a node behind links: the client's certificate is renewed, at the broker and a little later in its file
    Certificate,
    /// On a cluster: records are removed while they are in flight, and before they are read
    Retention,
    /// On a cluster: one follower is slow and one is gone, and two replicas have to have each record
    SlowFollower,
}

impl Scenario {
    /// What happens, and how the topic is kept, where it is a scenario of a cluster that consists of faults of a seed.
    pub(super) fn cluster_faults(self) -> Option<(Replication, Vec<Fault>)> {
        let cut_off = |node, from, how| Fault::CutOff { node, from, how };
        Some(match self {
            Self::Outage
            | Self::Stall
            | Self::Restart
            | Self::Memory
            | Self::Recreated
            | Self::Grown
            | Self::LettersTooLarge
            | Self::LettersGone
            | Self::LettersForbidden
            | Self::Rights
            | Self::Password
            | Self::Certificate => return None,
            Self::LeaderKilled => (
                Replication::Safe,
                vec![Fault::KillNode(1), Fault::KillNode(2), Fault::KillSource(0), Fault::KillNode(3)],
            ),
            Self::CutOff => {
                let faults = vec![
                    cut_off(1, Peers::All, Breakage::Cut),
                    cut_off(2, Peers::Nodes, Breakage::Stall),
                    cut_off(3, Peers::Clients, Breakage::HalfOpen),
                    cut_off(1, Peers::Clients, Breakage::Stall),
                ];
                (Replication::Safe, faults)
            }
            Self::Unclean => {
                (Replication::Unclean, vec![Fault::LoneLeader(1), Fault::KillSource(1), Fault::LoneLeader(2)])
            }
            Self::Leaderless => {
                (Replication::Patient, vec![Fault::LoneLeader(1), Fault::KillSource(1), Fault::LoneLeader(2)])
            }
            Self::Retention => {
                (Replication::Safe, vec![Fault::Retention, Fault::KillSource(1), Fault::Retention, Fault::Retention])
            }
            Self::SlowFollower => {
                let faults = vec![
                    Fault::SlowFollower { slow: 1, gone: 2 },
                    Fault::KillSource(1),
                    Fault::SlowFollower { slow: 2, gone: 3 },
                ];
                (Replication::Safe, faults)
            }
        })
    }

    /// Whether it needs a cluster.
    pub(super) fn is_of_cluster(self) -> bool {
        !matches!(self, Self::Outage | Self::Stall | Self::Restart | Self::Memory)
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
