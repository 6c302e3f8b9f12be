//! Whether a run was right: samples, journals and dead letters held against the truth.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Outcome;
use super::clock::{Micros, micros};
use super::faults::Fault;
use super::journal::{self, Deed, Line, Place, Reading};
use super::sampler::Sample;
use super::truth::{DeadLetters, Numbered, Truth};
use cut::Cuts;
pub(super) use cut::{Cut, Log};
use done::Held;
use window::Window;

mod cut;
mod done;
mod window;

/// How long the broker waits for a member of the group.
pub(super) const SESSION: Duration = Duration::from_secs(6);
/// The time between two commits of the client library, whose default the run leaves alone.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// A fault as it happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Happened {
    pub(super) fault: Fault,
    pub(super) from: Micros,
    /// When it was made good.
    pub(super) to: Micros,
}

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// The name that the design knows the rule by.
    pub(super) invariant: &'static str,
    pub(super) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// What a run has come to, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Committed records of the topic.
    pub(super) records: usize,
    /// Deliveries that drivers took beyond the first of each record.
    pub(super) redelivered: usize,
    /// Acks beyond the first of each record.
    pub(super) duplicates: usize,
    /// The most duplicates that the faults explain.
    pub(super) explained: usize,
    pub(super) dead_letters: usize,
    /// Records that the cluster itself has lost.
    pub(super) lost: usize,
    /// Records that a driver took for one of these, which it had in flight under the same name.
    pub(super) mistaken: usize,
    pub(super) samples: usize,
}

/// All that is known of a run when it is over.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) topic: &'a str,
    pub(super) truth: &'a Truth,
    pub(super) dead_letters: &'a DeadLetters,
    pub(super) samples: &'a [Sample],
    /// Where the journals are.
    pub(super) folder: &'a Path,
    pub(super) faults: &'a [Happened],
    pub(super) cuts: &'a [Cut],
}

impl Evidence<'_> {
    /// Judges the run.
    pub(super) fn judge(&self) -> Outcome<(Figures, Vec<Violation>)> {
        let lines = journal::read_all(self.folder)?;
        let cuts = Cuts::new(self.cuts, &lines);
        let mut violations = Vec::from_iter(self.committed_too_much(&cuts)?);
        violations.extend(self.went_back(&cuts));
        violations.extend(self.lost_or_invented(&lines, &cuts));
        let figures = self.figures(&lines, &cuts);
        if figures.duplicates > figures.explained {
            let what = format!("{} duplicates, and the faults explain {}", figures.duplicates, figures.explained);
            violations.push(Violation { invariant: "duplicates", what });
        }
        Ok((figures, violations))
    }

    fn name(&self, (partition, offset): Place) -> String {
        format!("{}:{partition}:{offset}", self.topic)
    }

    /// The records that have to be done.
    fn wanted<'a>(&'a self, cuts: &'a Cuts<'_>) -> impl Iterator<Item = Numbered> + 'a {
        let records = self.truth.records.iter().map(|(place, number)| (*place, *number));
        records.filter(|record| !cuts.have_removed(*record))
    }

    /// I1: no sample shows more than what was done by then.
    fn committed_too_much(&self, cuts: &Cuts<'_>) -> Outcome<Option<Violation>> {
        let mut journals: HashMap<PathBuf, (Reading, Held)> = HashMap::new();
        let mut letters = self.dead_letters.iter().peekable();
        let mut undone: BTreeSet<Numbered> = self.wanted(cuts).collect();
        for sample in self.samples {
            for (path, length) in &sample.journals {
                if !journals.contains_key(path) {
                    journals.insert(path.clone(), (Reading::open(path)?, Held::default()));
                }
                let Some((reading, held)) = journals.get_mut(path) else { continue };
                for line in reading.lines_to(*length) {
                    held.follow(&line).for_each(|record| _ = undone.remove(&record));
                }
            }
            while let Some((_, record)) = letters.next_if(|(written, _)| *written <= sample.at) {
                undone.remove(record);
            }
            for (partition, committed) in &sample.committed {
                let judged = cuts.judged(*partition, sample.at).min(*committed);
                let passed = undone.range(((*partition, 0), 0)..((*partition, judged), 0)).next();
                if let Some((place, number)) = passed {
                    let what = format!(
                        "the group has committed {committed} of partition {partition}, and {} (number {}) was neither acked \
                         nor dead-lettered by then ({} us)",
                        self.name(*place),
                        number,
                        sample.at
                    );
                    return Ok(Some(Violation { invariant: "I1", what }));
                }
            }
        }
        Ok(None)
    }

    /// I3: what is committed never becomes less, unless the cluster has cut a log.
    fn went_back(&self, cuts: &Cuts<'_>) -> Option<Violation> {
        self.samples.windows(2).find_map(|pair| {
            let [before, after] = pair else { return None };
            before.committed.iter().find_map(|(partition, committed)| {
                let now = after.committed.get(partition);
                if now.is_some_and(|now| now >= committed) || cuts.allow_less(*partition, after.at) {
                    return None;
                }
                let now = now.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                let what = format!(
                    "the group had committed {committed} of {}:{partition}, and then {now} ({} us)",
                    self.topic, after.at
                );
                Some(Violation { invariant: "I3", what })
            })
        })
    }

    /// I2 and I8: every record of the topic is done, nothing else is, and each has its own name.
    fn lost_or_invented(&self, lines: &[Line], cuts: &Cuts<'_>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for line in lines {
            if let Deed::Took { number } | Deed::Mistook { number } = line.deed
                && self.truth.records.get(&line.place).is_none_or(|true_one| *true_one != number)
                && !cuts.have_lost((line.place, number))
            {
                let place = self.name(line.place);
                let what = match self.truth.records.get(&line.place) {
                    Some(other) => format!("{place} came with the number {number}, and in the topic it has {other}"),
                    None => format!("{place} (number {number}) came, and no reader of committed records finds it"),
                };
                violations.push(Violation { invariant: "I8", what });
            }
            if let Deed::Mistook { number } = line.deed
                && !cuts.have_lost_one_at(line.place)
            {
                let place = self.name(line.place);
                let what =
                    format!("{place} came with the number {number} while another record of that name was in flight");
                violations.push(Violation { invariant: "I8", what });
            }
        }
        let mut done: BTreeSet<Numbered> = self.dead_letters.iter().map(|(_, record)| *record).collect();
        done.extend(acks(lines));
        let last = self.samples.last();
        let committed = |partition| last.and_then(|sample| sample.committed.get(&partition)).copied();
        for (place, number) in self.wanted(cuts) {
            if !done.contains(&(place, number)) {
                let what = format!(
                    "{} (number {number}) was neither acked nor dead-lettered; committed of its partition is {}",
                    self.name(place),
                    committed(place.0).map_or_else(|| "nothing".to_owned(), |offset| offset.to_string())
                );
                violations.push(Violation { invariant: "I2", what });
            }
        }
        let is_true = |(place, number): &Numbered| self.truth.records.get(place) == Some(number);
        let invented = done.iter().filter(|record| !is_true(record) && !cuts.have_lost(**record));
        violations.extend(invented.map(|(place, number)| Violation {
            invariant: "I2",
            what: format!(
                "{} (number {number}) was acked or dead-lettered, and no reader of committed records finds it",
                self.name(*place)
            ),
        }));
        violations
    }

    fn figures(&self, lines: &[Line], cuts: &Cuts<'_>) -> Figures {
        let taken = lines
            .iter()
            .filter_map(|line| if let Deed::Took { number } = line.deed { Some((line.place, number)) } else { None });
        Figures {
            records: self.truth.records.len(),
            redelivered: beyond_the_first(taken),
            duplicates: beyond_the_first(acks(lines).into_iter()),
            explained: self.explained(lines),
            dead_letters: self.dead_letters.len(),
            lost: cuts.lost(),
            mistaken: lines.iter().filter(|line| matches!(line.deed, Deed::Mistook { .. })).count(),
            samples: self.samples.len(),
        }
    }

    /// The sum over the faults of what was in flight and of the acks of one commit interval. In flight is also what is
    /// acked and cannot be committed, because it waits behind a record that is not. While the broker is away nothing is
    /// committed, so there it is the acks of all that time, too.
    fn explained(&self, lines: &[Line]) -> usize {
        let interval = micros(COMMIT_INTERVAL);
        let window = Window::of(lines, self.dead_letters);
        let of_fault = |happened: &Happened| {
            let to = if happened.fault.is_of_broker() { happened.to + interval } else { happened.from };
            let acked = happened.from.saturating_sub(interval)..=to;
            let acks = lines.iter().filter(|line| line.deed == Deed::Acks && acked.contains(&line.at)).count();
            // What a fault does to the group is over one session after it at the latest.
            acks + window.most(happened.from, happened.to + micros(SESSION))
        };
        self.faults.iter().map(of_fault).sum()
    }
}

/// The records that were acked, as often as they were.
fn acks(lines: &[Line]) -> Vec<Numbered> {
    let mut drivers: HashMap<usize, Held> = HashMap::new();
    let mut acks = Vec::new();
    for line in lines {
        acks.extend(drivers.entry(line.driver).or_default().follow(line));
    }
    acks
}

/// How many of these are not the first of their record.
fn beyond_the_first(records: impl Iterator<Item = Numbered>) -> usize {
    let mut seen = BTreeSet::new();
    records.filter(|record| !seen.insert(*record)).count()
}

#[cfg(test)]
mod tests;
