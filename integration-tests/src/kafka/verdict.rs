//! Whether a run was right: samples, journals and dead letters held against the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Outcome;
use super::clock::{Micros, micros};
use super::faults::Fault;
use super::journal::{self, Deed, Line, Place, Reading};
use super::sampler::Sample;
use super::truth::{DeadLetters, Truth};
use window::Window;

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
}

impl Evidence<'_> {
    /// Judges the run.
    pub(super) fn judge(&self) -> Outcome<(Figures, Vec<Violation>)> {
        let lines = journal::read_all(self.folder)?;
        let mut violations = Vec::from_iter(self.committed_too_much()?);
        violations.extend(self.went_back());
        violations.extend(self.lost_or_invented(&lines));
        let figures = self.figures(&lines);
        if figures.duplicates > figures.explained {
            let what = format!("{} duplicates, and the faults explain {}", figures.duplicates, figures.explained);
            violations.push(Violation { invariant: "duplicates", what });
        }
        Ok((figures, violations))
    }

    fn name(&self, (partition, offset): Place) -> String {
        format!("{}:{partition}:{offset}", self.topic)
    }

    /// I1: no sample shows more than what was done by then.
    fn committed_too_much(&self) -> Outcome<Option<Violation>> {
        let mut journals: HashMap<PathBuf, Reading> = HashMap::new();
        let mut letters = self.dead_letters.iter().peekable();
        let mut undone: BTreeSet<Place> = self.truth.records.keys().copied().collect();
        for sample in self.samples {
            for (path, length) in &sample.journals {
                if !journals.contains_key(path) {
                    journals.insert(path.clone(), Reading::open(path)?);
                }
                let Some(reading) = journals.get_mut(path) else { continue };
                for line in reading.lines_to(*length).filter(|line| line.deed == Deed::Acks) {
                    undone.remove(&line.place);
                }
            }
            while let Some((_, place)) = letters.next_if(|(at, _)| *at < sample.dead_letters) {
                undone.remove(place);
            }
            for (partition, committed) in &sample.committed {
                let passed = undone.range((*partition, 0)..(*partition, *committed)).next();
                if let Some(place) = passed {
                    let what = format!(
                        "the group has committed {committed} of partition {partition}, and {} (number {}) was neither acked \
                         nor dead-lettered by then ({} us)",
                        self.name(*place),
                        self.truth.records.get(place).copied().unwrap_or_default(),
                        sample.at
                    );
                    return Ok(Some(Violation { invariant: "I1", what }));
                }
            }
        }
        Ok(None)
    }

    /// I3: what is committed never becomes less.
    fn went_back(&self) -> Option<Violation> {
        self.samples.windows(2).find_map(|pair| {
            let [before, after] = pair else { return None };
            before.committed.iter().find_map(|(partition, committed)| {
                let now = after.committed.get(partition);
                if now.is_some_and(|now| now >= committed) {
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
    fn lost_or_invented(&self, lines: &[Line]) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut done: BTreeSet<Place> = self.dead_letters.iter().map(|(_, place)| *place).collect();
        for line in lines {
            match line.deed {
                Deed::Acks => _ = done.insert(line.place),
                Deed::Took { number }
                    if self.truth.records.get(&line.place).is_none_or(|true_one| *true_one != number) =>
                {
                    let place = self.name(line.place);
                    let what = match self.truth.records.get(&line.place) {
                        Some(other) => {
                            format!("{place} came with the number {number}, and in the topic it has {other}")
                        }
                        None => format!("{place} (number {number}) came, and no reader of committed records finds it"),
                    };
                    violations.push(Violation { invariant: "I8", what });
                }
                Deed::Took { .. } | Deed::Acked | Deed::Nacked | Deed::LetGo | Deed::Broke | Deed::Connected => {}
            }
        }
        let last = self.samples.last();
        let committed = |partition| last.and_then(|sample| sample.committed.get(&partition)).copied();
        for (place, number) in &self.truth.records {
            if !done.contains(place) {
                let what = format!(
                    "{} (number {number}) was neither acked nor dead-lettered; committed of its partition is {}",
                    self.name(*place),
                    committed(place.0).map_or_else(|| "nothing".to_owned(), |offset| offset.to_string())
                );
                violations.push(Violation { invariant: "I2", what });
            }
        }
        let invented = done.iter().filter(|place| !self.truth.records.contains_key(place));
        violations.extend(invented.map(|place| Violation {
            invariant: "I2",
            what: format!(
                "{} was acked or dead-lettered, and no reader of committed records finds it",
                self.name(*place)
            ),
        }));
        violations
    }

    fn figures(&self, lines: &[Line]) -> Figures {
        let count = |wanted: fn(Deed) -> bool| {
            let deeds = lines.iter().filter(|line| wanted(line.deed));
            let mut times: BTreeMap<Place, usize> = BTreeMap::new();
            for line in deeds {
                *times.entry(line.place).or_default() += 1;
            }
            times.into_values().map(|times| times - 1).sum()
        };
        Figures {
            records: self.truth.records.len(),
            redelivered: count(|deed| matches!(deed, Deed::Took { .. })),
            duplicates: count(|deed| deed == Deed::Acks),
            explained: self.explained(lines),
            dead_letters: self.dead_letters.len(),
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

#[cfg(test)]
mod tests;
