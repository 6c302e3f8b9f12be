//! The Kafka source against Apache Kafka itself, asked as the platform asks: one module a behaviour.
//!
//! All tests share one broker, which is started when the first of them needs it; each has a topic and a group of its own.
//! Where no broker can run they are reported as ignored, with the reason; with `REQUIRE_KAFKA` set, that is a failure.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod answers;
mod check_config;
mod commits;
mod config;
mod cuts;
mod damage;
mod dead_letters;
mod deliveries;
#[path = "../support/endpoint.rs"]
mod endpoint;
mod handover;
mod harness;
mod latency;
mod lookups;
mod members;
mod memory;
mod patterns;
mod program;
mod records;
mod redelivery;
mod rights;
mod secrets;
mod starts;
mod status;
mod topics;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::harness::{SharedBroker, Stage};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The tests wait for the broker most of the time.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * processors);
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
        // The longest first: at the end they would run alone.
        secrets::a_password_that_is_renewed_in_its_file_is_used,
        secrets::a_certificate_that_is_renewed_in_its_file_is_used,
        rights::a_topic_of_a_pattern_that_may_no_longer_be_seen_is_not_gone,
        rights::a_topic_that_may_not_be_seen_at_the_start_holds_up_no_other,
        answers::answers_that_cannot_be_read_are_asked_for_less_and_less_often,
        answers::answers_without_records_stop_no_partition,
        answers::late_answers_do_not_move_a_partition_that_has_waited,
        answers::a_commit_without_an_answer_is_told_as_one_that_fails,
        answers::answers_without_brokers_stop_neither_records_nor_questions_nor_letters,
        check_config::the_dead_letter_topic_is_checked_for_what_it_is_for,
        check_config::a_right_that_is_missing_is_named,
        commits::acks_out_of_order_never_commit_past_the_smallest_unacked,
        commits::a_main_container_that_comes_back_gets_everything_unacked_again,
        commits::a_commit_that_is_refused_for_one_topic_holds_up_no_other,
        commits::a_durable_ack_is_answered_after_its_commit,
        commits::a_durable_ack_of_a_new_topic_waits_for_its_own_commit,
        config::a_value_with_colons_reaches_the_broker_whole,
        cuts::a_log_that_is_cut_loses_nothing_that_is_in_it,
        cuts::a_log_that_is_cut_between_two_owners_loses_nothing_that_is_in_it,
        cuts::a_topic_that_is_made_anew_is_read_whole_through_a_rebalance,
        cuts::a_topic_that_is_made_anew_and_longer_is_read_from_its_beginning,
        damage::a_damaged_record_stops_its_partition_or_is_passed_over,
        dead_letters::what_is_nacked_too_often_is_in_the_dead_letter_topic_as_it_was,
        dead_letters::a_record_that_is_too_large_halts_or_goes_aside_or_is_skipped,
        dead_letters::a_dead_letter_that_is_refused_stops_its_partition_visibly_and_no_other,
        dead_letters::dead_letters_that_are_too_large_together_are_written,
        dead_letters::a_dead_letter_may_be_as_large_as_its_topic_allows,
        dead_letters::a_dead_letter_topic_that_is_deleted_is_named,
        deliveries::first_deliveries_come_in_the_order_of_their_offsets,
        handover::what_is_acked_is_committed_before_its_partition_goes,
        handover::what_was_fetched_and_never_handed_out_is_the_new_owners,
        latency::a_first_record_after_a_pause_arrives_at_once,
        lookups::a_topic_that_is_deleted_leaves_pending_of_the_others_true,
        lookups::a_topic_that_is_missing_at_the_start_is_waited_for,
        lookups::a_topic_that_does_not_come_ends_the_source,
        lookups::a_partition_without_a_leader_holds_up_no_other,
        lookups::partitions_beyond_the_last_id_are_told_and_not_read,
        members::one_that_joins_and_leaves_restarts_nobody_and_loses_nothing,
        members::a_static_member_whose_place_is_taken_says_so,
        members::a_group_protocol_that_brokers_do_not_know_is_named_or_not_used,
        members::a_late_ack_leaves_the_offset_of_the_new_owner_alone,
        memory::batches_that_expand_are_decompressed_within_the_budget,
        memory::a_batch_that_becomes_more_than_half_of_the_budget_stops_its_partition,
        memory::a_backlog_on_patterns_that_grow_stays_within_the_budget,
        memory::a_record_that_brokers_may_send_and_the_source_not_take_stops_its_partition,
        patterns::topics_that_match_are_read_also_those_that_come_later,
        records::each_part_of_a_record_is_where_it_is_said_to_be,
        records::who_timed_a_record_is_told,
        records::what_a_transaction_has_aborted_is_not_delivered,
        records::pending_comes_to_nothing_behind_transaction_markers,
        status::a_member_without_partitions_is_ready_and_takes_over,
        status::a_member_without_partitions_is_ready_with_the_new_protocol,
        redelivery::a_nacked_record_comes_again_from_memory_and_no_sooner_than_its_delay,
        redelivery::what_is_never_answered_comes_again_and_a_late_ack_of_it_counts,
        redelivery::a_partition_halts_at_a_record_that_is_nacked_too_often,
        starts::a_group_that_starts_with_the_latest_commits_where_that_is,
        starts::members_that_start_together_with_the_latest_begin_where_that_is,
        starts::a_start_at_a_time_begins_with_the_first_record_of_then,
        starts::records_that_are_gone_before_they_are_read_are_counted,
        topics::a_topic_that_is_made_anew_is_read_from_its_beginning,
        topics::a_topic_that_is_made_anew_is_committed_anew,
        topics::partitions_that_are_added_are_read_from_their_beginning,
        topics::partitions_that_are_added_lose_nothing_to_a_start_with_the_latest,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

type AsyncTest = fn(&tokio::runtime::Runtime, Stage);
