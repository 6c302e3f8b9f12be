use super::*;
use crate::kafka::tracker::{Acked, Nacked};

const MIB: usize = 1 << 20;

/// Partitions 0 to `counts.len()`, with so many records each; a record is its partition and offset.
fn filled(counts: &[i64]) -> Assignment<(u16, i64)> {
    let mut assignment = Assignment::new(Budget::new(256 * MIB));
    for (id, count) in (0..).zip(counts) {
        assignment.assign(id, None);
        for offset in 0..*count {
            assignment.tracker_mut(id).unwrap().push(offset, 1, (id, offset));
        }
    }
    assignment
}

fn take(assignment: &mut Assignment<(u16, i64)>, max: usize) -> Vec<(u16, i64)> {
    let mut out = Vec::new();
    assignment.take(assignment.reader(), max, Instant::now(), &mut out).unwrap();
    out.into_iter().map(|delivery| delivery.record).collect()
}

#[test]
fn shares_are_fair_and_what_one_leaves_others_take() {
    let mut assignment = filled(&[100, 1, 100]);
    let out = take(&mut assignment, 30);
    let of = |id| out.iter().filter(|(partition, _)| *partition == id).count();
    assert_eq!((of(0) + of(1) + of(2), of(1)), (30, 1));
    assert!(of(0) >= 10 && of(2) >= 10, "{out:?}");
}

#[test]
fn small_reads_take_turns() {
    let mut assignment = filled(&[5, 5, 5]);
    let out: Vec<u16> = (0..6).flat_map(|_| take(&mut assignment, 1)).map(|(id, _)| id).collect();
    assert_eq!(out, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_replaced_reader_gets_nothing_and_the_new_one_everything_unanswered() {
    let mut assignment = filled(&[3]);
    let old = assignment.reader();
    assert_eq!(take(&mut assignment, 2), [(0, 0), (0, 1)]);
    assert_eq!(assignment.tracker_mut(0).unwrap().ack(0), Acked::Done);
    assignment.connect_reader();
    assert_eq!(assignment.take(old, 5, Instant::now(), &mut Vec::new()), Err(Replaced));
    assert_eq!(take(&mut assignment, 5), [(0, 1), (0, 2)]);
}

#[test]
fn draining_hands_out_nothing_and_takes_acks() {
    let mut assignment = filled(&[3]);
    assert_eq!(take(&mut assignment, 1).len(), 1);
    assignment.drain();
    assert!(take(&mut assignment, 5).is_empty());
    assert_eq!(assignment.tracker_mut(0).unwrap().ack(0), Acked::Done);
    assert_eq!(assignment.in_flight(), 0);
}

#[test]
fn many_partitions_share_the_bytes() {
    let mut assignment = filled(&[0; 32]);
    let room = |assignment: &Assignment<_>| assignment.tracker(0).unwrap().room() > 0;
    assignment.tracker_mut(0).unwrap().push(0, 4 * MIB, (0, 0));
    assert!(!room(&assignment), "a 32nd of half of 256 MiB is used up");
    assignment.lose(&(16..32).collect::<Vec<_>>());
    assert!(room(&assignment), "a 16th is not");
}

#[test]
fn a_lost_partition_is_unknown_and_an_assigned_one_new() {
    let mut assignment = filled(&[2, 2]);
    assignment.lose(&[0]);
    assert!(assignment.tracker(0).is_none());
    assignment.assign(1, Some(7));
    assert_eq!(assignment.tracker(1).unwrap().commit_point(), Some(7));
    assert_eq!(assignment.ids().collect::<Vec<_>>(), [1]);
}

#[test]
fn partitions_are_given_back_once_nothing_of_them_is_out() {
    let mut assignment = filled(&[3, 3]);
    let now = Instant::now();
    let deadline = now + Duration::from_secs(2);
    assert_eq!(take(&mut assignment, 4), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assignment.begin_revoke(vec![0], deadline, 7);
    assert_eq!(assignment.finish_revoke(now, 7, false), None);
    assert_eq!(take(&mut assignment, 4), [(1, 2)], "the other one goes on");
    assert_eq!(assignment.tracker_mut(0).unwrap().ack(0), Acked::Done);
    assert_eq!(assignment.finish_revoke(now, 7, false), None);
    assert_eq!(assignment.tracker_mut(0).unwrap().ack(1), Acked::Done);
    assert_eq!(assignment.finish_revoke(now, 7, false), Some(Parting::InOrder(vec![(0, Some(2))])));
    assert!(assignment.tracker(0).is_none());
    assert_eq!(assignment.finish_revoke(now, 7, false), None, "once");
}

#[test]
fn the_deadline_gives_back_what_is_out_too() {
    let mut assignment = filled(&[3]);
    let now = Instant::now();
    let deadline = now + Duration::from_secs(2);
    take(&mut assignment, 2);
    assignment.begin_revoke(vec![0, 9], deadline, 7);
    assert_eq!(assignment.tracker_mut(0).unwrap().ack(1), Acked::Done);
    assert_eq!(assignment.finish_revoke(deadline, 7, false), Some(Parting::InOrder(vec![(0, Some(0)), (9, None)])));
}

#[test]
fn what_is_on_its_way_to_be_settled_is_waited_for() {
    let mut assignment = filled(&[1]);
    let now = Instant::now();
    take(&mut assignment, 1);
    let nacked = assignment.tracker_mut(0).unwrap().nack(0, now, Some(1));
    assert!(matches!(nacked, Nacked::Spent { .. }));
    assignment.begin_revoke(vec![0], now + Duration::from_secs(2), 7);
    assert_eq!(assignment.finish_revoke(now, 7, false), None);
    assert!(assignment.tracker_mut(0).unwrap().settle(0, 0));
    assert_eq!(assignment.finish_revoke(now, 7, false), Some(Parting::InOrder(vec![(0, Some(1))])));
}

#[test]
fn a_partition_lost_while_it_is_given_back_says_nothing_of_commits() {
    let mut assignment = filled(&[1]);
    let now = Instant::now();
    assignment.begin_revoke(vec![0], now, 7);
    assignment.lose(&[0]);
    assert_eq!(assignment.finish_revoke(now, 7, false), None);
}

#[test]
fn what_is_out_for_too_long_comes_again() {
    let mut assignment = filled(&[2, 1]);
    let timeout = Duration::from_secs(60);
    take(&mut assignment, 3);
    let now = Instant::now();
    assert_eq!(assignment.tracker_mut(0).unwrap().ack(1), Acked::Done);
    assert_eq!(assignment.expire(now, timeout), []);
    assert_eq!(assignment.expire(now + timeout, timeout), [(0, 1), (1, 1)]);
    assert_eq!(assignment.in_flight(), 0);
    assert_eq!(take(&mut assignment, 3), [(0, 0), (1, 0)]);
}

#[test]
fn what_is_given_back_is_lost_once_the_group_has_gone_on_without_it() {
    let mut assignment = filled(&[1, 1]);
    let now = Instant::now();
    take(&mut assignment, 2);
    for id in [0, 1] {
        assert_eq!(assignment.tracker_mut(id).unwrap().ack(0), Acked::Done);
    }
    assignment.begin_revoke(vec![0], now + Duration::from_secs(2), 7);
    assert_eq!((assignment.commit_point(0), assignment.commit_point(1)), (None, Some(1)), "nothing of it meanwhile");
    assert_eq!(assignment.finish_revoke(now, 8, true), Some(Parting::Lost));
    assert!(assignment.tracker(0).is_none());
}

#[test]
fn the_last_commit_of_a_partition_waits_for_the_one_before() {
    let mut assignment = filled(&[1]);
    let now = Instant::now();
    let deadline = now + Duration::from_secs(2);
    assignment.begin_revoke(vec![0], deadline, 7);
    assert_eq!(assignment.finish_revoke(deadline, 7, true), None);
    assert_eq!(assignment.finish_revoke(deadline, 7, false), Some(Parting::InOrder(vec![(0, Some(0))])));
}
