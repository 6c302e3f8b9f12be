//! The Kafka source against Apache Kafka itself, asked as the platform asks: one module a behaviour.
//!
//! All tests share one broker, which is started when the first of them needs it; each has a topic and a group of its own.
//! Where no broker can run they are reported as ignored, with the reason; with `REQUIRE_KAFKA` set, that is a failure.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod commits;
mod config;
#[path = "../support/endpoint.rs"]
mod endpoint;
mod harness;
mod latency;
mod members;
mod records;
mod status;
mod topics;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::harness::{SharedBroker, Stage};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let ignored = if arguments.list { None } else { kafka_broker::ignored() };
    let broker = Arc::new(SharedBroker::default());
    let trial = |name: &str, test: AsyncTest| {
        let (broker, topic) = (broker.clone(), name.to_owned());
        let name = ignored.as_ref().map_or(name.to_owned(), |reason| format!("{name} ({reason})"));
        let run = move || {
            let stage = Stage::new(broker.address()?, topic);
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            test(&runtime, stage);
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(ignored.is_some())
    };
    // An async function as a test: what differs in type between them is gone once they run.
    macro_rules! trials {
        ($($module:ident::$test:ident,)*) => {
            vec![$(trial(stringify!($test), |runtime, stage| runtime.block_on($module::$test(stage)))),*]
        };
    }
    let trials = trials![
        commits::acks_out_of_order_never_commit_past_the_smallest_unacked,
        commits::a_main_container_that_comes_back_gets_everything_unacked_again,
        config::a_value_with_colons_reaches_the_broker_whole,
        latency::a_first_record_after_a_pause_arrives_at_once,
        members::one_that_joins_and_leaves_restarts_nobody_and_loses_nothing,
        members::a_static_member_whose_place_is_taken_says_so,
        members::a_group_protocol_that_brokers_do_not_know_is_named,
        members::a_late_ack_leaves_the_offset_of_the_new_owner_alone,
        records::keys_headers_and_tombstones_are_where_they_are_said_to_be,
        records::what_a_transaction_has_aborted_is_not_delivered,
        records::pending_comes_to_nothing_behind_transaction_markers,
        status::a_member_without_partitions_is_ready_and_takes_over,
        status::a_member_without_partitions_is_ready_with_the_new_protocol,
        topics::a_topic_that_is_made_anew_is_read_from_its_beginning,
        topics::a_topic_that_is_made_anew_is_committed_anew,
        topics::partitions_that_are_added_are_read_from_their_beginning,
        topics::a_group_that_starts_with_the_latest_commits_where_that_is,
        topics::partitions_that_are_added_lose_nothing_to_a_start_with_the_latest,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

type AsyncTest = fn(&tokio::runtime::Runtime, Stage);
