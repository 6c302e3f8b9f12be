use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// The naive model: what became of every record that ever entered.
#[derive(Debug, Default)]
struct Model {
    records: BTreeMap<i64, Fate>,
    position: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    New,
    InFlight,
    Again(Instant),
    Done,
}

impl Model {
    fn commit_point(&self) -> Option<i64> {
        self.records.iter().find(|(_, fate)| **fate != Fate::Done).map(|(offset, _)| *offset).or(self.position)
    }

    fn take(&mut self, max: usize, now: Instant) -> Vec<i64> {
        let ready = |fate: &Fate| match fate {
            Fate::New => true,
            Fate::Again(due) => *due <= now,
            Fate::InFlight | Fate::Done => false,
        };
        let taken: Vec<i64> =
            self.records.iter().filter(|(_, fate)| ready(fate)).map(|(offset, _)| *offset).take(max).collect();
        for offset in &taken {
            self.records.insert(*offset, Fate::InFlight);
        }
        taken
    }

    fn ack(&mut self, offset: i64) -> bool {
        match self.records.get_mut(&offset) {
            None | Some(Fate::New | Fate::Done) => false,
            Some(fate) => {
                *fate = Fate::Done;
                true
            }
        }
    }

    fn nack(&mut self, offset: i64, due: Instant) -> bool {
        match self.records.get_mut(&offset) {
            Some(fate @ Fate::InFlight) => {
                *fate = Fate::Again(due);
                true
            }
            _ => false,
        }
    }

    fn requeue_sent(&mut self, now: Instant) {
        for fate in self.records.values_mut().filter(|fate| **fate == Fate::InFlight) {
            *fate = Fate::Again(now);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push { gap: i64 },
    Take { max: usize },
    Ack { offset: i64 },
    Nack { offset: i64, delay: u64 },
    Requeue,
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![9 => Just(0), 1 => 1i64..5].prop_map(|gap| Step::Push { gap }),
        2 => (1usize..6).prop_map(|max| Step::Take { max }),
        6 => (-2i64..90).prop_map(|offset| Step::Ack { offset }),
        2 => (-2i64..90, 0u64..20).prop_map(|(offset, delay)| Step::Nack { offset, delay }),
        1 => Just(Step::Requeue),
        1 => (0u64..15).prop_map(|millis| Step::Pass { millis }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, tracker and model say the same, and the commit point neither passes a record
    /// that is not done nor moves back.
    #[test]
    fn it_does_what_the_model_does(steps in proptest::collection::vec(step(), 0..150)) {
        let mut tracker = Tracker::new(Limits::of_each(1));
        let mut model = Model::default();
        let mut now = Instant::now();
        let mut last = None;
        for step in steps {
            match step {
                Step::Push { gap } => {
                    let offset = model.position.unwrap_or(3) + gap;
                    prop_assert!(tracker.push(offset, 1, offset));
                    model.records.insert(offset, Fate::New);
                    model.position = Some(offset + 1);
                }
                Step::Take { max } => {
                    let mut out = Vec::new();
                    let ready = tracker.has_ready(now);
                    tracker.take(max, now, &mut out);
                    prop_assert_eq!(ready, !out.is_empty());
                    prop_assert_eq!(out, model.take(max, now));
                }
                Step::Ack { offset } => prop_assert_eq!(tracker.ack(offset), model.ack(offset)),
                Step::Nack { offset, delay } => {
                    let due = now + Duration::from_millis(delay);
                    prop_assert_eq!(tracker.nack(offset, due).is_some(), model.nack(offset, due));
                }
                Step::Requeue => {
                    tracker.requeue_sent();
                    model.requeue_sent(now);
                }
                Step::Pass { millis } => now += Duration::from_millis(millis),
            }
            let point = tracker.commit_point();
            prop_assert_eq!(point, model.commit_point());
            prop_assert!(point >= last, "moved back from {:?} to {:?}", last, point);
            last = point;
            let in_flight = model.records.values().filter(|fate| **fate == Fate::InFlight).count();
            prop_assert_eq!(tracker.in_flight(), in_flight);
            let unfinished = model.records.values().any(|fate| *fate != Fate::Done);
            prop_assert_eq!(tracker.is_idle(), !unfinished);
        }
    }
}

fn filled(count: i64) -> Tracker<i64> {
    let mut tracker = Tracker::new(Limits::of_each(1));
    for offset in 0..count {
        tracker.push(offset, 10, offset);
    }
    tracker
}

#[test]
fn records_and_bytes_are_bounded_until_the_front_is_done() {
    let mut tracker = Tracker::new(Limits { records: 3, bytes: 25 });
    assert_eq!(tracker.room(), 3);
    tracker.push(0, 10, 0);
    assert_eq!(tracker.room(), 2);
    tracker.push(1, 15, 1);
    assert_eq!(tracker.room(), 0, "the bytes are used up");
    tracker.take(2, Instant::now(), &mut Vec::new());
    tracker.ack(1);
    assert_eq!(tracker.room(), 0, "done, but behind one that is not");
    tracker.ack(0);
    assert_eq!(tracker.room(), 3);
}

#[test]
fn a_nack_counts_deliveries_and_waits_its_delay() {
    let mut tracker = filled(2);
    let now = Instant::now();
    let due = now + Duration::from_secs(1);
    tracker.take(2, now, &mut Vec::new());
    assert_eq!(tracker.nack(0, due), Some(1));
    assert_eq!(tracker.nack(0, due), None, "it is not in flight any more");
    assert_eq!(tracker.next_due(), Some(due));
    assert!(!tracker.has_ready(now));
    let mut out = Vec::new();
    tracker.take(2, due, &mut out);
    assert_eq!(out, [0]);
    assert_eq!(tracker.nack(0, due), Some(2));
}

#[test]
fn a_log_that_starts_again_is_tracked_from_its_start() {
    let mut tracker = filled(5);
    tracker.take(3, Instant::now(), &mut Vec::new());
    assert!(!tracker.push(2, 10, 2), "an offset came a second time");
    assert_eq!(tracker.commit_point(), Some(2));
    assert_eq!(tracker.in_flight(), 0);
    assert!(!tracker.ack(0), "a record of the old log");
    let mut out = Vec::new();
    tracker.take(5, Instant::now(), &mut out);
    assert_eq!(out, [2]);
    assert!(tracker.ack(2));
    assert_eq!(tracker.commit_point(), Some(3));
}
