//! Logs that the cluster itself has cut: what was in them is lost, and not by the source.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::clock::{Micros, micros};
use super::super::journal::Place;
use super::super::truth::Numbered;

/// How long the source may take, once the fault is over, until it has noticed and the group has committed anew.
const NOTICING: Duration = Duration::from_secs(15);

/// Which log was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Log {
    /// That of a partition of the topic: the records from an offset on are gone, and others may follow at their places.
    Partition {
        /// The partition.
        partition: i32,
        /// The first offset that was cut off.
        from: i64,
    },
    /// That of a partition of the topic, at its beginning, as records become too old: the offsets go on as before.
    Beginning,
    /// That of the group's offsets: the last commits may be gone.
    Offsets,
}

/// A log that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Cut {
    pub(in super::super) log: Log,
    /// What was in it, and no longer is.
    pub(in super::super) lost: BTreeSet<Numbered>,
    /// A time before it was cut.
    pub(in super::super) from: Micros,
    /// When the fault that did it was over.
    pub(in super::super) to: Micros,
}

/// The cuts of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuts<'a>(pub(super) &'a [Cut]);

impl Cuts<'_> {
    /// Whether the cluster has lost this record.
    pub(super) fn have_lost(self, record: Numbered) -> bool {
        self.0.iter().any(|cut| cut.lost.contains(&record))
    }

    /// Whether there was another record at this place, which the cluster has lost.
    pub(super) fn have_lost_one_at(self, place: Place) -> bool {
        self.0.iter().any(|cut| cut.lost.range((place, 0)..=(place, u64::MAX)).next().is_some())
    }

    /// How many records the cluster has lost.
    pub(super) fn lost(self) -> usize {
        self.0.iter().map(|cut| cut.lost.len()).sum()
    }

    /// Up to which offset of a partition a commit at some time can be judged. What was committed of a log before it was cut
    /// says nothing about the records that came to these places later.
    pub(super) fn judged(self, partition: i32, at: Micros) -> i64 {
        let cut = |cut: &Cut| match cut.log {
            Log::Partition { partition: of, from } if of == partition && at <= cut.to + micros(NOTICING) => Some(from),
            Log::Partition { .. } | Log::Beginning | Log::Offsets => None,
        };
        self.0.iter().filter_map(cut).min().unwrap_or(i64::MAX)
    }

    /// Whether what is committed of a partition may be less at some time than it was before: its own log was cut by then, or
    /// that of the group's offsets was just before.
    pub(super) fn allow_less(self, partition: i32, at: Micros) -> bool {
        self.0.iter().any(|cut| match cut.log {
            Log::Partition { partition: of, .. } => of == partition && at >= cut.from,
            Log::Beginning => false,
            Log::Offsets => (cut.from..=cut.to + micros(NOTICING)).contains(&at),
        })
    }
}
