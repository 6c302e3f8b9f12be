use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What keeping track of a record takes that is a number.
const EACH: usize = 2 * size_of::<Entry<i64>>();
const ROOM: Limits = Limits { records: 10_000, bytes: 1 << 20 };

/// A record: its offset, and how often the log had been cut when it came.
type Place = (i64, u32);

/// The naive model: what became of every record that ever entered, but for those that the log was cut before.
#[derive(Debug, Default)]
struct Model {
    records: BTreeMap<i64, (Fate, u32)>,
    /// By offset, how often the log had been cut when the record came.
    cuts_at: BTreeMap<i64, u32>,
    cuts: u32,
    /// Records that the log was cut before and the platform has, since when.
    former: BTreeMap<i64, Instant>,
    position: Option<i64>,
    closed: bool,
    /// For good.
    halted: Option<i64>,
    /// Spent records at which the partition stands still until they are settled.
    refused: BTreeSet<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    New,
    InFlight(Instant),
    Again(Instant),
    Spent,
    Done,
}

impl Model {
    fn commit_point(&self) -> Option<i64> {
        self.records.iter().find(|(_, (fate, _))| *fate != Fate::Done).map(|(offset, _)| *offset).or(self.position)
    }

    fn stands_still_at(&self) -> Option<i64> {
        self.halted.into_iter().chain(self.refused.first().copied()).min()
    }

    fn push(&mut self, offset: i64, fate: Fate) -> Place {
        self.cut(offset);
        self.records.insert(offset, (fate, 0));
        self.cuts_at.insert(offset, self.cuts);
        self.position = Some(offset + 1);
        (offset, self.cuts)
    }

    fn cut(&mut self, offset: i64) {
        if self.position.is_none_or(|position| offset >= position) {
            return;
        }
        self.cuts += 1;
        for (offset, (fate, _)) in self.records.split_off(&offset) {
            if let Fate::InFlight(sent) = fate {
                self.former.insert(offset, sent);
            }
        }
        self.halted = self.halted.filter(|halted| *halted < offset);
        self.refused.split_off(&offset);
    }

    fn take(&mut self, max: usize, now: Instant) -> Vec<Delivery<Place>> {
        let ready = |fate: &Fate| match fate {
            Fate::New => true,
            Fate::Again(due) => *due <= now,
            Fate::InFlight(_) | Fate::Spent | Fate::Done => false,
        };
        let max = if self.closed { 0 } else { max };
        let end = self.stands_still_at().unwrap_or(i64::MAX);
        // New records come in order, so that one which waits for the answer for a former one holds up those behind it.
        let waits = |(offset, (fate, _)): &(&i64, &(Fate, u32))| *fate == Fate::New && self.former.contains_key(offset);
        let first = self.records.iter().find(waits);
        let end = first.map_or(end, |(offset, _)| end.min(*offset));
        let ready = self.records.range_mut(..end).filter(|(_, (fate, _))| ready(fate));
        let deliver = |(offset, (fate, deliveries)): (&i64, &mut (Fate, u32))| {
            *fate = Fate::InFlight(now);
            *deliveries += 1;
            Delivery { record: (*offset, self.cuts_at[offset]), times: *deliveries }
        };
        ready.take(max).map(deliver).collect()
    }

    fn ack(&mut self, offset: i64) -> Acked {
        match self.records.get_mut(&offset) {
            None | Some((_, 0)) if self.former.remove(&offset).is_some() => Acked::Former,
            None | Some((Fate::Done, _) | (_, 0)) => Acked::Unknown,
            Some((fate, _)) => {
                *fate = Fate::Done;
                self.refused.remove(&offset);
                Acked::Done
            }
        }
    }

    fn refuse(&mut self, offset: i64) -> bool {
        let is_spent = matches!(self.records.get(&offset), Some((Fate::Spent, _)));
        is_spent && {
            self.refused.insert(offset);
            true
        }
    }

    fn nack(&mut self, offset: i64, due: Instant, max: Option<u32>) -> Nacked<Place> {
        match self.records.get_mut(&offset) {
            Some((fate @ Fate::InFlight(_), deliveries)) => {
                if max.is_some_and(|max| *deliveries >= max) {
                    *fate = Fate::Spent;
                    let cuts = self.cuts_at[&offset];
                    return Nacked::Spent { record: (offset, cuts), deliveries: *deliveries, cuts };
                }
                *fate = Fate::Again(due);
                return Nacked::Again;
            }
            None | Some((_, 0)) => _ = self.former.remove(&offset),
            Some(_) => {}
        }
        Nacked::Unknown
    }

    fn settle(&mut self, offset: i64, cuts: u32) -> bool {
        match self.records.get_mut(&offset) {
            Some((fate @ Fate::Spent, _)) if self.cuts_at[&offset] == cuts => {
                *fate = Fate::Done;
                self.refused.remove(&offset);
                true
            }
            _ => false,
        }
    }

    fn requeue(&mut self, now: Instant, age: Duration) -> usize {
        let is_old = |sent: Instant| now.duration_since(sent) >= age;
        let before = self.former.len();
        self.former.retain(|_, sent| !is_old(*sent));
        let old = |fate: &Fate| matches!(fate, Fate::InFlight(sent) if is_old(*sent));
        let sent = self.records.values_mut().filter(|(fate, _)| old(fate));
        before - self.former.len() + sent.map(|(fate, _)| *fate = Fate::Again(now)).count()
    }

    fn close(&mut self) {
        self.closed = true;
        let touched = |(_, (fate, deliveries)): &(&i64, &(Fate, u32))| *deliveries > 0 || *fate == Fate::Done;
        let last = self.records.iter().rev().find(touched).map(|(offset, _)| *offset);
        let first = self.records.keys().find(|offset| last < Some(**offset)).copied();
        if let Some(first) = first {
            self.records.split_off(&first);
            self.refused.split_off(&first);
            self.position = Some(first);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        gap: i64,
        spent: bool,
    },
    /// The log is cut so far back, and another record takes the offset.
    Cut {
        back: i64,
    },
    /// The topic is another one.
    Anew,
    Take {
        max: usize,
    },
    Ack {
        offset: i64,
    },
    Nack {
        offset: i64,
        delay: u64,
        max: Option<u32>,
    },
    /// Of a record that came when the log had been cut so often.
    Settle {
        offset: i64,
        cuts: u32,
    },
    Refuse {
        offset: i64,
    },
    Requeue,
    Expire {
        age: u64,
    },
    Skip {
        gap: i64,
    },
    Pass {
        millis: u64,
    },
    Halt {
        offset: i64,
    },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![9 => Just(0), 1 => 1i64..5];
    prop_oneof![
        40 => (gap, prop::bool::weighted(0.05)).prop_map(|(gap, spent)| Step::Push { gap, spent }),
        4 => (1i64..12).prop_map(|back| Step::Cut { back }),
        1 => Just(Step::Anew),
        20 => (1usize..6).prop_map(|max| Step::Take { max }),
        60 => (-2i64..90).prop_map(|offset| Step::Ack { offset }),
        20 => (-2i64..90, 0u64..20, prop::option::of(1u32..4))
            .prop_map(|(offset, delay, max)| Step::Nack { offset, delay, max }),
        20 => (-2i64..90, 0u32..3).prop_map(|(offset, cuts)| Step::Settle { offset, cuts }),
        10 => (-2i64..90).prop_map(|offset| Step::Refuse { offset }),
        5 => Just(Step::Requeue),
        5 => (0u64..15).prop_map(|age| Step::Expire { age }),
        5 => (0i64..4).prop_map(|gap| Step::Skip { gap }),
        10 => (0u64..15).prop_map(|millis| Step::Pass { millis }),
        1 => (0i64..90).prop_map(|offset| Step::Halt { offset }),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, tracker and model say the same, and the commit point neither passes a record
    /// that is not done nor moves back, unless the log is cut before it.
    #[test]
    fn it_does_what_the_model_does(steps in proptest::collection::vec(step(), 0..150)) {
        let mut tracker = Tracker::new(ROOM, None);
        let mut model = Model::default();
        let mut now = Instant::now();
        let mut last = None;
        let later = |now: Instant, millis| now + Duration::from_millis(millis);
        for step in steps {
            match step {
                // Nothing is read of a partition that is given back.
                Step::Push { .. } | Step::Cut { .. } | Step::Anew if model.closed => {}
                Step::Push { gap, spent } => {
                    let offset = model.position.unwrap_or(3) + gap;
                    let place @ (_, cuts) = model.push(offset, if spent { Fate::Spent } else { Fate::New });
                    prop_assert_eq!(tracker.push(offset, 1, place), None);
                    prop_assert!(!spent || tracker.spend(offset) == Some(cuts));
                }
                Step::Cut { back } => {
                    let Some(position) = model.position else { continue };
                    let offset = (position - back).max(0);
                    let undone = |(fate, _): &&(Fate, u32)| *fate != Fate::Done;
                    let dropped = model.records.range(offset..).map(|(_, it)| it).filter(undone).count();
                    let before = model.former.len();
                    let place = model.push(offset, Fate::New);
                    let in_flight = tracker.in_flight();
                    if offset < position {
                        let cut = tracker.push(offset, 1, place);
                        prop_assert_eq!(cut.map(|cut| (cut.position, cut.dropped)), Some((position, dropped)));
                        prop_assert!(cut.is_some_and(|cut| cut.in_flight == model.former.len() - before));
                        prop_assert!(tracker.in_flight() <= in_flight);
                    } else {
                        prop_assert_eq!(tracker.push(offset, 1, place), None);
                    }
                    last = last.map(|last: i64| last.min(offset));
                }
                Step::Anew => {
                    let before = model.position.filter(|position| *position > 0);
                    model.cut(0);
                    model.position = Some(0);
                    prop_assert_eq!(tracker.begin_anew().map(|cut| cut.position), before);
                    last = last.map(|_| 0);
                }
                Step::Take { max } => {
                    let mut out = Vec::new();
                    let ready = tracker.has_ready(now);
                    tracker.take(max, now, &mut out);
                    prop_assert!(ready || out.is_empty());
                    // Or a read would look again at once, for ever.
                    prop_assert!(model.halted.is_none() || !model.closed || tracker.next_due().is_none());
                    prop_assert_eq!(out, model.take(max, now));
                }
                Step::Ack { offset } => prop_assert_eq!(tracker.ack(offset), model.ack(offset)),
                Step::Nack { offset, delay, max } => {
                    let due = later(now, delay);
                    prop_assert_eq!(tracker.nack(offset, due, max), model.nack(offset, due, max));
                }
                Step::Settle { offset, cuts } => {
                    prop_assert_eq!(tracker.settle(offset, cuts), model.settle(offset, cuts));
                }
                Step::Refuse { offset } => prop_assert_eq!(tracker.refuse(offset), model.refuse(offset)),
                Step::Requeue => {
                    tracker.requeue_sent();
                    model.requeue(now, Duration::ZERO);
                }
                Step::Expire { age } => {
                    let age = Duration::from_millis(age);
                    prop_assert_eq!(tracker.expire(now, age), model.requeue(now, age));
                }
                Step::Skip { gap } => {
                    let unfinished = model.records.values().any(|(fate, _)| *fate != Fate::Done);
                    let position = model.position.unwrap_or(0) + gap;
                    tracker.skip_to(position);
                    if !unfinished && !model.closed && model.halted.is_none() {
                        model.position = Some(position);
                    }
                }
                Step::Pass { millis } => now = later(now, millis),
                Step::Halt { offset } => {
                    tracker.halt(offset);
                    if !model.closed {
                        model.halted = Some(model.halted.map_or(offset, |halted| halted.min(offset)));
                    }
                }
                Step::Close => {
                    tracker.close();
                    model.close();
                }
            }
            let point = tracker.commit_point();
            prop_assert_eq!(point, model.commit_point());
            prop_assert!(point >= last, "moved back from {:?} to {:?}", last, point);
            last = point;
            let count = |is: fn(&Fate) -> bool| model.records.values().filter(|(fate, _)| is(fate)).count();
            let (in_flight, spent) =
                (count(|fate| matches!(fate, Fate::InFlight(_))), count(|fate| *fate == Fate::Spent));
            prop_assert_eq!(tracker.in_flight(), in_flight + model.former.len());
            let unsettled = if model.halted.is_some() { 0 } else { spent - model.refused.len() };
            prop_assert_eq!(tracker.is_settled(), in_flight + unsettled == 0);
            prop_assert_eq!(tracker.halted(), model.stands_still_at());
            prop_assert!(tracker.room() == 0 || tracker.halted().is_none());
            prop_assert_eq!(tracker.is_idle(), count(|fate| *fate != Fate::Done) == 0);
            prop_assert_eq!(tracker.bytes(), tracker.len() * (1 + 2 * size_of::<Entry<Place>>()));
        }
    }
}

fn filled(count: i64) -> Tracker<i64> {
    let mut tracker = Tracker::new(ROOM, None);
    for offset in 0..count {
        tracker.push(offset, 10, offset);
    }
    tracker
}

fn take(tracker: &mut Tracker<i64>, max: usize, now: Instant) -> Vec<i64> {
    let mut out = Vec::new();
    tracker.take(max, now, &mut out);
    out.into_iter().map(|delivery| delivery.record).collect()
}

#[test]
fn records_and_bytes_are_bounded_until_the_front_is_done() {
    let mut tracker = Tracker::new(Limits { records: 3, bytes: 25 + 2 * EACH }, None);
    assert_eq!(tracker.room(), 3);
    tracker.push(0, 10, 0);
    assert_eq!(tracker.room(), 2);
    tracker.push(1, 15, 1);
    assert_eq!(tracker.room(), 0, "the bytes are used up");
    take(&mut tracker, 2, Instant::now());
    tracker.ack(1);
    assert_eq!(tracker.room(), 0, "done, but behind one that is not");
    tracker.ack(0);
    assert_eq!(tracker.room(), 3);
}

#[test]
fn a_nack_waits_its_delay_and_counts_deliveries() {
    let mut tracker = filled(2);
    let now = Instant::now();
    let due = now + Duration::from_secs(1);
    take(&mut tracker, 2, now);
    assert_eq!(tracker.nack(0, due, Some(2)), Nacked::Again);
    assert_eq!(tracker.nack(0, due, Some(2)), Nacked::Unknown, "it is not in flight any more");
    assert_eq!(tracker.next_due(), Some(due));
    assert!(!tracker.has_ready(now));
    let mut out = Vec::new();
    tracker.take(2, due, &mut out);
    assert_eq!(out, [Delivery { record: 0, times: 2 }]);
    assert_eq!(tracker.nack(0, due, Some(2)), Nacked::Spent { record: 0, deliveries: 2, cuts: 0 });
    tracker.ack(1);
    assert_eq!(tracker.commit_point(), Some(0), "what is spent is not done");
    assert!(tracker.settle(0, 0));
    assert_eq!(tracker.commit_point(), Some(2));
    assert!(!tracker.settle(0, 0), "once");
}

#[test]
fn a_partition_that_is_halted_hands_out_and_reads_nothing() {
    let mut tracker = filled(3);
    let now = Instant::now();
    take(&mut tracker, 2, now);
    assert!(matches!(tracker.nack(0, now, Some(1)), Nacked::Spent { .. }));
    tracker.halt(0);
    assert_eq!((tracker.room(), tracker.has_ready(now), tracker.halted()), (0, false, Some(0)));
    assert!(take(&mut tracker, 3, now).is_empty());
    assert_eq!(tracker.ack(1), Acked::Done, "what is out may be acked");
    assert!(tracker.is_settled(), "the spent record is nobody's to wait for");
    tracker.close();
    assert!(tracker.is_settled(), "also when the partition is given back");
    tracker.skip_to(9);
    assert_eq!(tracker.commit_point(), Some(0));
}

#[test]
fn what_comes_before_a_halt_goes_its_way() {
    let mut tracker = filled(6);
    let now = Instant::now();
    assert_eq!(tracker.spend(4), Some(0));
    take(&mut tracker, 2, now);
    let due = now + Duration::from_secs(1);
    assert_eq!(tracker.nack(0, due, None), Nacked::Again);
    tracker.halt(5);
    tracker.halt(4);
    assert_eq!(take(&mut tracker, 6, now), [2, 3], "and not 5, which comes after the first of the two");
    assert_eq!((tracker.has_ready(now), tracker.next_due(), tracker.has_ready(due)), (false, Some(due), true));
    assert_eq!(take(&mut tracker, 6, due), [0]);
    for offset in 0..4 {
        assert_eq!(tracker.ack(offset), Acked::Done);
    }
    assert_eq!(tracker.commit_point(), Some(4));
}

#[test]
fn a_partition_stands_still_at_a_refused_record_until_it_is_settled() {
    let mut tracker = filled(4);
    let now = Instant::now();
    take(&mut tracker, 2, now);
    assert!(!tracker.refuse(1), "it is with the platform");
    assert!(matches!(tracker.nack(1, now, Some(1)), Nacked::Spent { .. }));
    assert!(tracker.refuse(1) && tracker.is_spent(1));
    assert_eq!((tracker.room(), tracker.halted()), (0, Some(1)));
    assert!(take(&mut tracker, 4, now).is_empty());
    assert_eq!(tracker.ack(0), Acked::Done);
    assert_eq!(tracker.commit_point(), Some(1), "a refused record is not done");
    assert!(tracker.is_settled(), "nobody waits for it when the partition is given back");
    assert!(tracker.settle(1, 0));
    assert_eq!((tracker.commit_point(), tracker.halted(), tracker.room() > 0), (Some(2), None, true));
    assert_eq!(take(&mut tracker, 4, now), [2, 3]);
}

#[test]
fn a_delay_behind_a_halt_is_nothing_to_wait_for() {
    let mut tracker = filled(2);
    let now = Instant::now();
    take(&mut tracker, 2, now);
    assert_eq!(tracker.nack(1, now, None), Nacked::Again);
    tracker.halt(0);
    assert_eq!((tracker.next_due(), tracker.has_ready(now)), (None, false));
}

#[test]
fn what_is_given_back_goes_as_far_as_it_was_handed_out() {
    let mut tracker = filled(5);
    let now = Instant::now();
    take(&mut tracker, 3, now);
    tracker.close();
    assert!(take(&mut tracker, 5, now).is_empty());
    assert_eq!((tracker.len(), tracker.bytes(), tracker.room()), (3, 3 * (10 + EACH), 0));
    for offset in 0..3 {
        assert!(!tracker.is_settled());
        assert_eq!(tracker.ack(offset), Acked::Done);
    }
    assert!(tracker.is_settled());
    assert_eq!(tracker.commit_point(), Some(3), "the next owner begins with the first that was not handed out");
}

#[test]
fn a_log_that_is_cut_loses_what_comes_after_and_nothing_before() {
    let mut tracker = filled(8);
    let now = Instant::now();
    take(&mut tracker, 6, now);
    let former = |in_flight| Some(Cut { position: 8, dropped: 3, in_flight });
    assert_eq!(tracker.push(5, 10, 50), former(1), "one that is with the platform, two that are not");
    assert_eq!(tracker.commit_point(), Some(0), "the records before are not done");
    for offset in [1, 3, 0, 2] {
        assert_eq!(tracker.ack(offset), Acked::Done);
    }
    assert_eq!(tracker.nack(4, now, None), Nacked::Again, "it is still in the log");
    assert_eq!(tracker.commit_point(), Some(4));
    assert_eq!(take(&mut tracker, 5, now), [4]);
    assert_eq!(tracker.ack(4), Acked::Done);
    assert_eq!(tracker.commit_point(), Some(5));
}

#[test]
fn a_topic_that_is_made_anew_leaves_nothing_of_the_former_one() {
    let mut tracker = filled(5);
    let now = Instant::now();
    take(&mut tracker, 4, now);
    tracker.ack(0);
    tracker.ack(2);
    tracker.halt(4);
    assert_eq!(tracker.begin_anew(), Some(Cut { position: 5, dropped: 3, in_flight: 2 }));
    assert_eq!((tracker.commit_point(), tracker.halted(), tracker.len()), (Some(0), None, 0));
    assert_eq!(tracker.begin_anew(), None, "nothing has come of it");
    for offset in 0..3 {
        assert_eq!(tracker.push(offset, 10, offset), None);
    }
    assert_eq!(take(&mut tracker, 5, now), [0], "the platform has one that it would take for the next");
    assert_eq!((tracker.ack(1), tracker.commit_point()), (Acked::Former, Some(0)));
    assert_eq!(take(&mut tracker, 5, now), [1, 2]);
}

#[test]
fn an_answer_for_a_record_of_the_former_log_is_none_for_the_new_one() {
    let mut tracker = filled(3);
    let now = Instant::now();
    take(&mut tracker, 3, now);
    tracker.push(1, 10, 10);
    tracker.push(2, 10, 20);
    tracker.push(3, 10, 30);
    assert_eq!(tracker.in_flight(), 3);
    assert!(take(&mut tracker, 5, now).is_empty(), "the platform would take it for the one that it has");
    assert_eq!((tracker.has_ready(now), tracker.ack(2)), (false, Acked::Former));
    assert_eq!(tracker.ack(2), Acked::Unknown, "once");
    assert!(take(&mut tracker, 5, now).is_empty(), "the order is kept");
    assert_eq!(tracker.ack(0), Acked::Done);
    let front = Front { offset: 1, deliveries: 0, sent: Some(now) };
    assert_eq!(tracker.front(), Some(front), "what holds the partition up is named");
    assert_eq!(tracker.nack(1, now, None), Nacked::Unknown);
    assert_eq!(take(&mut tracker, 5, now), [10, 20, 30]);
    assert_eq!(tracker.commit_point(), Some(1));
    assert_eq!(tracker.ack(1), Acked::Done);
    assert_eq!(tracker.commit_point(), Some(2));
}

#[test]
fn answers_for_the_former_log_are_not_waited_for_for_ever() {
    let later = |now: Instant, seconds| now + Duration::from_secs(seconds);
    let now = Instant::now();
    for is_new_reader in [false, true] {
        let mut tracker = filled(1);
        take(&mut tracker, 1, now);
        tracker.push(0, 10, 10);
        assert!(take(&mut tracker, 1, now).is_empty());
        if is_new_reader {
            tracker.requeue_sent();
        } else {
            assert_eq!(tracker.expire(later(now, 1), Duration::from_secs(2)), 0);
            assert_eq!(tracker.expire(later(now, 2), Duration::from_secs(2)), 1);
        }
        assert_eq!(take(&mut tracker, 1, now), [10]);
    }
}

#[test]
fn a_dead_letter_of_the_former_log_settles_nothing_of_the_new_one() {
    let mut tracker = filled(2);
    let now = Instant::now();
    take(&mut tracker, 2, now);
    assert!(matches!(tracker.nack(0, now, Some(1)), Nacked::Spent { cuts: 0, .. }));
    assert!(matches!(tracker.nack(1, now, Some(1)), Nacked::Spent { cuts: 0, .. }));
    tracker.push(1, 10, 10);
    assert_eq!(tracker.spend(1), Some(1));
    assert!(!tracker.settle(1, 0));
    assert!(tracker.settle(0, 0), "this one is still in the log");
    assert_eq!(tracker.commit_point(), Some(1));
    assert!(tracker.settle(1, 1));
    assert_eq!(tracker.commit_point(), Some(2));
}

#[test]
fn former_records_count_as_held() {
    let mut tracker = Tracker::new(Limits { records: 3, bytes: 1 << 20 }, None);
    for offset in 0..2 {
        tracker.push(offset, 10, offset);
    }
    take(&mut tracker, 2, Instant::now());
    tracker.push(0, 10, 0);
    assert_eq!(tracker.room(), 0);
    tracker.ack(1);
    assert_eq!(tracker.room(), 1);
}

#[test]
fn the_front_is_what_everything_waits_for() {
    let mut tracker = filled(3);
    let now = Instant::now();
    assert_eq!(tracker.front().and_then(|front| front.sent), None);
    take(&mut tracker, 3, now);
    tracker.ack(0);
    assert_eq!(tracker.front(), Some(Front { offset: 1, deliveries: 1, sent: Some(now) }));
}
