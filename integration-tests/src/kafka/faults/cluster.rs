//! What goes wrong in a run on a cluster.

use std::time::Duration;

use fastrand::Rng;

use super::{Breakage, Fault, OF_PROCESSES, Peers, Planned, draw, schedule};
use crate::kafka::stage::Replication;

/// The nodes of the cluster.
pub(in super::super) const NODES: u32 = 3;
/// How many kinds of faults there are: those that only a cluster's run has, those of processes, and scaling and more
/// partitions.
#[cfg(test)]
const KINDS: u32 = OF_CLUSTER + OF_PROCESSES + 2;
pub(in super::super) const OF_CLUSTER: u32 = 5;
/// How long the cluster may take, beyond what is planned, until a fault is over and all replicas are in sync again.
const RECOVERY: Duration = Duration::from_secs(12);

/// How the cluster keeps the topic of a seed. Three seeds in a row have it in all ways.
pub(in super::super) fn replication(seed: u64) -> Replication {
    match seed % 3 {
        0 => Replication::Safe,
        1 => Replication::Unclean,
        _ => Replication::Patient,
    }
}

/// The faults of a seed, so many of them: every kind once, and beyond that those of processes, in any order.
pub(in super::super) fn plan(seed: u64, count: u32) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let of_processes = |kind: u32, rng: &mut Rng| match kind {
        kind if kind < OF_PROCESSES => draw(kind, rng),
        5 => Fault::Scale,
        6 => Fault::Grow,
        _ => {
            let kind = rng.u32(0..OF_PROCESSES);
            draw(kind, rng)
        }
    };
    let mut faults = Vec::new();
    for kind in 0..count {
        let node = rng.u32(1..=NODES);
        faults.push(match kind {
            0 => Fault::KillNode(node),
            1 | 2 => Fault::CutOff { node, from: peers(&mut rng), how: breakage(&mut rng) },
            3 if replication(seed) == Replication::Safe => {
                Fault::SlowFollower { slow: node, gone: (node + rng.u32(0..NODES - 1)) % NODES + 1 }
            }
            3 => Fault::LoneLeader(node),
            4 => Fault::Retention,
            kind => of_processes(kind - OF_CLUSTER, &mut rng),
        });
    }
    rng.shuffle(&mut faults);
    schedule(faults, &mut rng)
}

/// How long a plan takes at the most, on a machine that is not too slow: of the cluster's own faults there is one at a time.
pub(in super::super) fn length(plan: &[Planned]) -> Duration {
    let of_cluster = plan.iter().filter(|planned| planned.fault.is_of_cluster());
    let rest = plan.last().map_or(Duration::ZERO, |planned| planned.at + planned.lasts);
    rest + of_cluster.map(|planned| planned.lasts + RECOVERY).sum::<Duration>()
}

fn peers(rng: &mut Rng) -> Peers {
    [Peers::Nodes, Peers::Clients, Peers::All][rng.usize(0..3)]
}

fn breakage(rng: &mut Rng) -> Breakage {
    [Breakage::Cut, Breakage::Stall, Breakage::HalfOpen][rng.usize(0..3)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_with_every_kind_of_its_cluster() {
        for seed in 0..100 {
            let plan_of = |count| plan(seed, count);
            assert_eq!(plan_of(KINDS + 3), plan_of(KINDS + 3));
            let plan = plan_of(KINDS);
            let has = |is: fn(&Fault) -> bool| plan.iter().any(|planned| is(&planned.fault));
            let is_safe = replication(seed) == Replication::Safe;
            assert!(has(|fault| matches!(fault, Fault::KillNode(_))), "{plan:?}");
            assert!(has(|fault| matches!(fault, Fault::CutOff { .. })), "{plan:?}");
            assert!(has(|fault| *fault == Fault::Retention), "{plan:?}");
            assert_eq!(has(|fault| matches!(fault, Fault::LoneLeader(_))), !is_safe, "{plan:?}");
            assert_eq!(has(|fault| matches!(fault, Fault::SlowFollower { .. })), is_safe, "{plan:?}");
            assert!(has(|fault| *fault == Fault::Scale) && has(|fault| *fault == Fault::Grow), "{plan:?}");
            for planned in &plan {
                if let Fault::SlowFollower { slow, gone } = planned.fault {
                    assert!(slow != gone && (1..=NODES).contains(&gone), "{plan:?}");
                }
            }
        }
    }
}
