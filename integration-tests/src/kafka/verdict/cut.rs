//! Logs that the cluster itself has cut: what was in them is lost, and not by the source.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::clock::{Micros, micros};
use super::super::journal::{Deed, Line, Place};
use super::super::truth::Numbered;

/// How long the source may take until the group has committed anew: once the fault is over, and the first record has come
/// that took the place of a lost one. Before that record there is nothing to notice.
pub(super) const NOTICING: Duration = Duration::from_secs(15);

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

impl Cut {
    /// When a driver first got a record from a place at or after the cut that was not in the log before.
    fn succeeded(&self, lines: &[Line]) -> Option<Micros> {
        let Log::Partition { partition, from } = self.log else { return None };
        let is_successor = |line: &&Line| {
            let (Deed::Took { number } | Deed::Mistook { number }) = line.deed else { return false };
            let is_behind = line.place.0 == partition && line.place.1 >= from && line.at >= self.from;
            is_behind && !self.lost.contains(&(line.place, number))
        };
        lines.iter().filter(is_successor).map(|line| line.at).min()
    }
}

/// The cuts of a run.
#[derive(Debug)]
pub(super) struct Cuts<'a> {
    cuts: &'a [Cut],
    /// For each cut, when the group has to have committed anew at the latest.
    recommitted: Vec<Micros>,
}

impl<'a> Cuts<'a> {
    /// The cuts of a run with these journals.
    pub(super) fn new(cuts: &'a [Cut], lines: &[Line]) -> Self {
        let recommitted = |cut: &Cut| {
            let noticed = cut.succeeded(lines).map_or(Micros::MAX, |succeeded| succeeded.max(cut.to));
            noticed.saturating_add(micros(NOTICING))
        };
        Self { cuts, recommitted: cuts.iter().map(recommitted).collect() }
    }

    /// Whether the cluster has lost this record.
    pub(super) fn have_lost(&self, record: Numbered) -> bool {
        self.cuts.iter().any(|cut| cut.lost.contains(&record))
    }

    /// Whether this record was removed from the beginning of its log. Where it is back, nobody has to have it: a broker that is
    /// killed soon after forgets where its log begins.
    pub(super) fn have_removed(&self, record: Numbered) -> bool {
        self.cuts.iter().any(|cut| cut.log == Log::Beginning && cut.lost.contains(&record))
    }

    /// Whether there was another record at this place, which the cluster has lost.
    pub(super) fn have_lost_one_at(&self, place: Place) -> bool {
        self.cuts.iter().any(|cut| cut.lost.range((place, 0)..=(place, u64::MAX)).next().is_some())
    }

    /// How many records the cluster has lost.
    pub(super) fn lost(&self) -> usize {
        self.cuts.iter().map(|cut| cut.lost.len()).sum()
    }

    /// Up to which offset of a partition a commit at some time can be judged. What was committed of a log before it was cut
    /// says nothing about the records that came to these places later.
    pub(super) fn judged(&self, partition: i32, at: Micros) -> i64 {
        let limit = |(cut, recommitted): (&Cut, &Micros)| match cut.log {
            Log::Partition { partition: of, from } if of == partition && at <= *recommitted => Some(from),
            Log::Partition { .. } | Log::Beginning | Log::Offsets => None,
        };
        self.cuts.iter().zip(&self.recommitted).filter_map(limit).min().unwrap_or(i64::MAX)
    }

    /// Whether what is committed of a partition may be less at some time than it was before: its own log was cut by then, or
    /// that of the group's offsets was just before.
    pub(super) fn allow_less(&self, partition: i32, at: Micros) -> bool {
        self.cuts.iter().any(|cut| match cut.log {
            Log::Partition { partition: of, .. } => of == partition && at >= cut.from,
            Log::Beginning => false,
            Log::Offsets => (cut.from..=cut.to + micros(NOTICING)).contains(&at),
        })
    }
}
