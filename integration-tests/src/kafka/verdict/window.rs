//! How much was not committed, and could not be, at any time of a run: what a fault may make come twice.

use std::collections::{BTreeMap, BTreeSet};

use super::super::clock::Micros;
use super::super::journal::{Deed, Line, Place};
use super::super::truth::DeadLetters;

/// How often it is counted.
const EVERY: Micros = 100_000;

/// The records behind the commit points, over time: those that are with a driver, were nacked or forgotten, and those that
/// are acked and wait behind one of these.
#[derive(Debug)]
pub(super) struct Window(Vec<(Micros, usize)>);

impl Window {
    /// Counts along the journals, whose lines are in the order of time.
    pub(super) fn of(lines: &[Line], dead_letters: &DeadLetters) -> Self {
        // A record that is given up is so after its last nack.
        let given_up: BTreeSet<Place> = dead_letters.iter().map(|(_, (place, _))| *place).collect();
        let nacks = lines.iter().filter(|line| line.deed == Deed::Nacked && given_up.contains(&line.place));
        let last_nacks: BTreeMap<Place, Micros> = nacks.map(|line| (line.place, line.at)).collect();
        let (mut open, mut acked) = (BTreeSet::new(), BTreeSet::new());
        let mut counts = Vec::new();
        let mut due = 0;
        for line in lines {
            if line.at >= due {
                counts.push((line.at, count(&open, &acked)));
                due = line.at + EVERY;
            }
            match line.deed {
                // Also one that was acked before: where it is now it is not committed.
                Deed::Took { .. } => {
                    acked.remove(&line.place);
                    open.insert(line.place);
                }
                Deed::Acks => {
                    open.remove(&line.place);
                    acked.insert(line.place);
                }
                Deed::Nacked if last_nacks.get(&line.place) == Some(&line.at) => {
                    open.remove(&line.place);
                }
                Deed::Nacked | Deed::Mistook { .. } | Deed::Acked | Deed::LetGo | Deed::Broke | Deed::Connected => {}
            }
        }
        counts.extend(lines.last().map(|line| (line.at, count(&open, &acked))));
        Self(counts)
    }

    /// The most there was at any time between two.
    pub(super) fn most(&self, from: Micros, to: Micros) -> usize {
        let first = self.0.partition_point(|(at, _)| *at < from).saturating_sub(1);
        let counts = self.0[first..].iter().take_while(|(at, _)| *at <= to + EVERY);
        counts.map(|(_, count)| *count).max().unwrap_or(0)
    }
}

fn count(open: &BTreeSet<Place>, acked: &BTreeSet<Place>) -> usize {
    let mut behind = 0;
    let mut next = open.first();
    while let Some(first) = next {
        let end = (first.0, i64::MAX);
        behind += acked.range(*first..end).count();
        next = open.range(end..).next();
    }
    open.len() + behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acked_behind_what_is_not_counts() {
        let line = |at, offset, deed| Line { driver: 0, at, place: (3, offset), deed };
        let lines = [
            line(0, 0, Deed::Took { number: 0 }),
            line(1, 1, Deed::Took { number: 1 }),
            line(2, 2, Deed::Took { number: 2 }),
            line(3, 2, Deed::Acks),
            line(4, 1, Deed::Acks),
            line(EVERY, 1, Deed::Acked),
            line(EVERY + 1, 0, Deed::Acks),
            line(EVERY * 2, 0, Deed::Acked),
        ];
        let window = Window::of(&lines, &DeadLetters::new());
        assert_eq!(window.most(0, 10), 3, "one is in flight, two wait for it");
        assert_eq!(window.most(EVERY * 2, EVERY * 2), 3, "the last count before is one of that time");
        assert_eq!(window.0.last(), Some(&(EVERY * 2, 0)));
    }
}
