//! The lines of `examples/data`, and what the README says becomes of them.

use std::collections::HashSet;

use flights::Outcome;

use crate::flight;

const FLIGHTS: &[u8] = include_bytes!("../../../data/flights-20k.jsonl");
pub(crate) const AWKWARD: &[u8] = include_bytes!("../../../data/awkward.jsonl");

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    read: usize,
    mapped: usize,
    dropped: usize,
    dead_letters: usize,
}

pub(crate) fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.strip_suffix(b"\n").expect("the last line ends").split(|byte| *byte == b'\n')
}

fn count(data: &[u8]) -> Counts {
    let mut counts = Counts::default();
    for line in lines(data) {
        counts.read += 1;
        match flight(line.strip_suffix(b"\r").unwrap_or(line)) {
            Outcome::Mapped { .. } => counts.mapped += 1,
            Outcome::Dropped => counts.dropped += 1,
            Outcome::DeadLetter { .. } => counts.dead_letters += 1,
        }
    }
    counts
}

#[test]
fn every_real_flight_is_mapped() {
    assert_eq!(count(FLIGHTS), Counts { read: 20_000, mapped: 20_000, dropped: 0, dead_letters: 0 });
}

#[test]
fn the_awkward_lines_are_answered_as_the_readme_says() {
    assert_eq!(count(AWKWARD), Counts { read: 200, mapped: 76, dropped: 45, dead_letters: 79 });
}

#[test]
fn no_awkward_line_is_there_twice_or_too_long_for_a_broker() {
    let distinct: HashSet<_> = lines(AWKWARD).collect();
    assert_eq!(distinct.len(), 200);
    assert!(!distinct.contains(&b""[..]));
    assert_eq!(lines(AWKWARD).map(<[u8]>::len).max(), Some(900_000), "git must not touch the line ends");
}
