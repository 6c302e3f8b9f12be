//! Runs made up by hand, each wrong in one way.

use tempfile::TempDir;

use super::super::journal::Journal;
use super::*;

/// A run of two records of one partition, 0 and 1, which have the numbers 10 and 11.
struct Story {
    folder: TempDir,
    journal: Journal,
    samples: Vec<Sample>,
    dead_letters: DeadLetters,
}

impl Story {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("a.journal")).unwrap();
        for offset in 0..2 {
            journal.note((0, offset), Deed::Took { number: 10 + offset.unsigned_abs() }).unwrap();
        }
        Self { folder, journal, samples: Vec::new(), dead_letters: Vec::new() }
    }

    fn note(&mut self, offset: i64, deed: Deed) -> &mut Self {
        self.journal.note((0, offset), deed).unwrap();
        self.journal.write().unwrap();
        self
    }

    fn sample(&mut self, committed: i64) -> &mut Self {
        self.samples.push(Sample {
            at: super::super::clock::now(),
            committed: BTreeMap::from([(0, committed)]),
            journals: journal::extent(self.folder.path()).unwrap(),
            dead_letters: self.dead_letters.len().try_into().unwrap(),
        });
        self
    }

    fn give_up(&mut self, offset: i64) -> &mut Self {
        self.dead_letters.push((self.dead_letters.len().try_into().unwrap(), (0, offset)));
        self
    }

    /// The rules that were broken, and by which record where one is named.
    fn broken(&self) -> Vec<(&'static str, bool)> {
        let truth = Truth { records: BTreeMap::from([((0, 0), 10), ((0, 1), 11)]), ends: BTreeMap::from([(0, 2)]) };
        let evidence = Evidence {
            topic: "t",
            truth: &truth,
            dead_letters: &self.dead_letters,
            samples: &self.samples,
            folder: self.folder.path(),
            faults: &[],
        };
        let (_, violations) = evidence.judge().unwrap();
        violations.iter().map(|violation| (violation.invariant, violation.what.contains("t:0:0"))).collect()
    }
}

#[test]
fn a_run_that_was_right() {
    let mut story = Story::new();
    story.sample(0).note(1, Deed::Acks).sample(0).note(0, Deed::Acks).sample(2).sample(2);
    assert_eq!(story.broken(), []);
}

#[test]
fn a_commit_past_a_record_that_is_never_acked() {
    let mut story = Story::new();
    story.note(1, Deed::Acks).sample(2);
    assert_eq!(story.broken(), [("I1", true), ("I2", true)]);
}

#[test]
fn a_commit_that_comes_before_the_ack() {
    let mut story = Story::new();
    story.note(1, Deed::Acks).sample(1).note(0, Deed::Acks).sample(2);
    assert_eq!(story.broken(), [("I1", true)]);
}

#[test]
fn a_dead_letter_is_done_from_when_it_is_there() {
    let mut story = Story::new();
    story.note(1, Deed::Acks).give_up(0).sample(2);
    assert_eq!(story.broken(), []);
    let mut story = Story::new();
    story.note(1, Deed::Acks).sample(2).give_up(0);
    assert_eq!(story.broken(), [("I1", true)]);
}

#[test]
fn a_commit_that_goes_back() {
    let mut story = Story::new();
    story.note(0, Deed::Acks).note(1, Deed::Acks).sample(2).sample(1);
    assert_eq!(story.broken(), [("I3", false)]);
}

#[test]
fn a_record_that_is_not_in_the_topic_or_another_one() {
    let mut story = Story::new();
    story.note(0, Deed::Acks).note(1, Deed::Acks);
    story.note(7, Deed::Took { number: 17 }).note(7, Deed::Acks).note(0, Deed::Took { number: 99 });
    assert_eq!(story.broken(), [("I8", false), ("I8", true), ("I2", false)]);
}

#[test]
fn duplicates_that_nothing_explains() {
    let mut story = Story::new();
    story.note(0, Deed::Acks).note(1, Deed::Acks).note(1, Deed::Acks);
    assert_eq!(story.broken(), [("duplicates", false)]);
}
