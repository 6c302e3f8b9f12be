//! `MODEL_RECORDS=4 cargo test --release -p udf-server model` searches a larger world than the tests do by themselves.

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries};

use super::*;

/// A process crashes, and the group wants a partition back, which waits for no ack. Its numbers can be set by environment.
fn crash_and_revoke() -> World {
    World {
        members: number("MODEL_MEMBERS", 2),
        partitions: number("MODEL_PARTITIONS", 2),
        records: number("MODEL_RECORDS", 3),
        revoke_timeout: STEP * number("MODEL_REVOKE_TIMEOUT", 0),
        chances: Chances {
            crashes: number("MODEL_CRASHES", 1),
            leaves: number("MODEL_LEAVES", 0),
            renewals: number("MODEL_RENEWALS", 0),
            revokes: number("MODEL_REVOKES", 1),
            evictions: number("MODEL_EVICTIONS", 0),
            rejoins: number("MODEL_REJOINS", 0),
            nacks: number("MODEL_NACKS", 0),
            losses: number("MODEL_LOSSES", 0),
            repeats: number("MODEL_REPEATS", 0),
            reconnects: number("MODEL_RECONNECTS", 0),
            cuts: number("MODEL_CUTS", 0),
            waits: number("MODEL_WAITS", 0),
            steps: number("MODEL_STEPS", 0),
        },
        fault: None,
        base: Instant::now(),
    }
}

/// One partition with two records, and these chances.
fn one_partition(chances: Chances) -> World {
    World { members: 2, partitions: 1, records: 2, revoke_timeout: STEP, chances, fault: None, base: Instant::now() }
}

/// The platform nacks, reads by a new stream, acks twice or not at all, while the group wants the partition back.
fn nacks_and_streams() -> World {
    let chances =
        Chances { revokes: 1, nacks: 1, losses: 1, repeats: 1, reconnects: 1, steps: 1, ..Chances::default() };
    one_partition(chances)
}

/// The partition is another member's before the one that had it knows.
fn evicted_unnoticed() -> World {
    one_partition(Chances { evictions: 1, nacks: 1, steps: 1, ..Chances::default() })
}

/// A commit is on its way when the process ends.
fn crash_with_losses() -> World {
    one_partition(Chances { crashes: 1, revokes: 1, nacks: 1, losses: 1, ..Chances::default() })
}

/// A client joins again while its source waits to give a partition back, with commits on their way.
fn joined_again() -> World {
    one_partition(Chances { revokes: 1, rejoins: 1, losses: 1, steps: 1, ..Chances::default() })
}

/// The source gives one of its two partitions back, with commits of both on their way.
fn gives_one_of_two_back() -> World {
    let world = one_partition(Chances { revokes: 1, losses: 1, steps: 1, ..Chances::default() });
    World { members: 1, partitions: 2, records: 3, ..world }
}

/// A source leaves in order, with a commit on its way.
fn leaves_with_losses() -> World {
    one_partition(Chances { leaves: 1, losses: 1, ..Chances::default() })
}

/// The session of the only member ends, and the client sends its last commit again when it is a member anew.
fn commits_again() -> World {
    let world = one_partition(Chances { evictions: 1, renewals: 1, losses: 1, ..Chances::default() });
    World { members: 1, ..world }
}

/// The log is cut while records are in flight, and the group wants the partition back.
fn cut_log() -> World {
    let world = one_partition(Chances { revokes: 1, nacks: 1, cuts: 1, ..Chances::default() });
    World { revoke_timeout: Duration::ZERO, ..world }
}

/// It is not known where to begin with the partition; the group wants it back meanwhile, and the next owner loses it.
fn waits_to_begin() -> World {
    let world = one_partition(Chances { crashes: 1, revokes: 1, evictions: 1, waits: 2, ..Chances::default() });
    World { records: 1, ..world }
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; give a small number"))
}

/// Goes through every state of a world: nothing that must not be is, and what should happen does. How many states there
/// are.
fn search(world: World) -> usize {
    let checker = world.checker().threads(number("MODEL_THREADS", 1)).spawn_bfs().join();
    assert!(checker.is_done());
    let mut found = checker.discoveries();
    for property in checker.model().properties() {
        match (property.expectation, found.remove(property.name)) {
            (Expectation::Sometimes, None) => panic!("it never happens that {}", property.name),
            (Expectation::Sometimes, Some(_)) | (Expectation::Always | Expectation::Eventually, None) => {}
            (_, Some(path)) => panic!("{} is broken by {:#?}", property.name, path.into_actions()),
        }
    }
    println!("{} states, {} deep", checker.unique_state_count(), checker.max_depth());
    checker.unique_state_count()
}

#[test]
fn the_protocol_holds_with_a_crash_and_a_revoke() {
    let states = search(crash_and_revoke());
    assert!(states > 100_000, "{states} states are too small a world to say much");
}

#[test]
fn the_protocol_holds_with_nacks_and_broken_streams() {
    search(nacks_and_streams());
}

#[test]
fn the_protocol_holds_for_who_does_not_know_that_it_was_evicted() {
    search(evicted_unnoticed());
}

#[test]
fn the_protocol_holds_with_a_crash_and_lost_commits() {
    search(crash_with_losses());
}

#[test]
fn the_protocol_holds_for_who_joins_again_in_the_middle_of_a_revoke() {
    search(joined_again());
}

#[test]
fn the_protocol_holds_for_who_gives_one_of_two_partitions_back() {
    search(gives_one_of_two_back());
}

#[test]
fn the_protocol_holds_for_who_leaves_with_a_commit_on_its_way() {
    search(leaves_with_losses());
}

#[test]
fn the_protocol_holds_for_a_commit_that_is_sent_again_in_the_next_generation() {
    search(commits_again());
}

#[test]
fn the_protocol_holds_when_the_log_is_cut() {
    search(cut_log());
}

#[test]
fn the_protocol_holds_while_it_is_not_known_where_to_begin() {
    search(waits_to_begin());
}

#[test]
fn each_mistake_is_found_by_what_it_breaks() {
    for (fault, world, broken) in [
        (Fault::CommitMaximum, crash_with_losses(), "I1: what is committed is done"),
        (Fault::NackIsForgotten, nacks_and_streams(), "I2: everything is done and committed in the end"),
        (Fault::AckAfterRevoke, nacks_and_streams(), "I3: no committed offset goes backwards"),
        (Fault::AckAfterRevoke, nacks_and_streams(), "I4: who has given a partition back commits nothing of it"),
        (Fault::NackIsDone, nacks_and_streams(), "I9: what is nacked is not committed past before it is done"),
        (Fault::StoreOnLost, evicted_unnoticed(), "I3: no committed offset goes backwards"),
        (Fault::StoreOnLost, evicted_unnoticed(), "I4: who has given a partition back commits nothing of it"),
        (Fault::GenerationUnseen, joined_again(), "I4: who has given a partition back commits nothing of it"),
        (Fault::LeavesStored, joined_again(), "I4: who has given a partition back commits nothing of it"),
        (Fault::CommitMeanwhile, nacks_and_streams(), "I3: no committed offset goes backwards"),
        (Fault::LeavesMeanwhile, leaves_with_losses(), "I3: no committed offset goes backwards"),
        (Fault::LosesCommit, commits_again(), "I3: no committed offset goes backwards"),
        (Fault::CutResetsAll, cut_log(), "I1: what is committed is done"),
        (Fault::TakesFormerAnswer, cut_log(), "I1: what is committed is done"),
        (Fault::BeginsAsBefore, waits_to_begin(), "I3: no committed offset goes backwards"),
        (Fault::TakesAnyAnswer, gives_one_of_two_back(), "I3: no committed offset goes backwards"),
    ] {
        let world = World { fault: Some(fault), ..world };
        let until = HasDiscoveries::AllOf(BTreeSet::from([broken]));
        let checker = world.checker().finish_when(until).spawn_bfs().join();
        assert!(checker.discovery(broken).is_some(), "{fault:?} does not break {broken}");
    }
}
