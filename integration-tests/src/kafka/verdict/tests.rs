//! Runs made up by hand, each wrong in one way.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::super::journal::Journal;
use super::cut::NOTICING;
use super::*;

/// A run of two records of one partition, 0 and 1, which have the numbers 10 and 11.
struct Story {
    folder: TempDir,
    journal: Journal,
    samples: Vec<Sample>,
    dead_letters: DeadLetters,
    cuts: Vec<Cut>,
}

impl Story {
    fn new() -> Self {
        Self::of(&[10, 11])
    }

    /// A driver took records with these numbers.
    fn of(numbers: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("a.journal")).unwrap();
        for (offset, number) in (0..).zip(numbers) {
            journal.note((0, offset), Deed::Took { number: *number }).unwrap();
        }
        Self { folder, journal, samples: Vec::new(), dead_letters: Vec::new(), cuts: Vec::new() }
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
        });
        self
    }

    /// The cluster loses record 1, which had the number 21 until then.
    fn cut(&mut self) -> &mut Self {
        let now = super::super::clock::now();
        let log = Log::Partition { partition: 0, from: 1 };
        self.cuts.push(Cut { log, lost: BTreeSet::from([((0, 1), 21)]), from: now, to: now });
        self
    }

    fn give_up(&mut self, offset: i64) -> &mut Self {
        let number = 10 + offset.unsigned_abs();
        self.dead_letters.push((super::super::clock::now(), ((0, offset), number)));
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
            cuts: &self.cuts,
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

#[test]
fn what_the_cluster_has_lost_is_not_laid_to_the_source() {
    let mut story = Story::of(&[10, 21]);
    story.note(0, Deed::Acks).note(1, Deed::Acks).sample(2).cut().sample(1);
    story.note(1, Deed::Took { number: 11 }).note(1, Deed::Acks).sample(2);
    assert_eq!(story.broken(), []);
    // Without the cut each of these is wrong.
    story.cuts.clear();
    assert_eq!(story.broken(), [("I1", false), ("I3", false), ("I8", false), ("I2", false)]);
}

#[test]
fn a_record_at_the_place_of_a_lost_one_has_to_be_done_as_well() {
    let mut story = Story::of(&[10, 21]);
    story.note(0, Deed::Acks).note(1, Deed::Acks).cut().sample(2);
    // As long as the record has not come, nobody can know that the commit is of the log before the cut.
    story.samples[0].at += 2 * micros(NOTICING);
    assert_eq!(story.broken(), [("I2", false)]);
    story.note(1, Deed::Took { number: 11 });
    assert_eq!(story.broken(), [("I1", false), ("I2", false)]);
    story.samples[0].at -= 2 * micros(NOTICING);
    assert_eq!(story.broken(), [("I2", false)]);
}

#[test]
fn a_driver_takes_a_record_for_the_lost_one_that_it_has_in_flight() {
    let mut story = Story::of(&[10, 21]);
    story.note(0, Deed::Acks).cut().note(1, Deed::Mistook { number: 11 }).note(1, Deed::Acks).sample(2);
    assert_eq!(story.broken(), []);
    story.cuts.clear();
    assert_eq!(story.broken(), [("I8", false), ("I8", false), ("I2", false)]);
}

#[test]
fn what_was_removed_and_is_back_need_not_be_done() {
    let mut story = Story::new();
    story.note(1, Deed::Acks).sample(2);
    let now = super::super::clock::now();
    story.cuts.push(Cut { log: Log::Beginning, lost: BTreeSet::from([((0, 0), 10)]), from: now, to: now });
    assert_eq!(story.broken(), []);
    // Another record of that place has to be.
    story.cuts[0].lost = BTreeSet::from([((0, 0), 20)]);
    assert_eq!(story.broken(), [("I1", true), ("I2", true)]);
}

#[test]
fn where_the_offsets_were_cut_commits_may_go_back_for_a_while() {
    let mut story = Story::new();
    story.note(0, Deed::Acks).note(1, Deed::Acks).sample(2);
    let now = super::super::clock::now();
    story.cuts.push(Cut { log: Log::Offsets, lost: BTreeSet::new(), from: now, to: now });
    story.sample(1);
    assert_eq!(story.broken(), []);
    (story.cuts[0].from, story.cuts[0].to) = (0, 0);
    assert_eq!(story.broken(), [("I3", false)]);
}
