//! The Kafka source against an embedded broker, asked as the platform asks: one module a behaviour.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod commits;
mod dead_letters;
#[path = "../support/endpoint.rs"]
mod endpoint;
mod group;
mod harness;
mod lookups;
mod outage;
mod panics;
mod polls;
mod producer;
mod proofs;
mod reads;
mod records;
mod status;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The tests wait most of the time, for the broker to form a group above all.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * processors);
    macro_rules! trials {
        (async [$($module:ident::$test:ident,)*] sync [$($sync_module:ident::$sync_test:ident,)*]) => {
            vec![
                $(trial(concat!(stringify!($module), "::", stringify!($test)), || block_on($module::$test())),)*
                $(trial(concat!(stringify!($sync_module), "::", stringify!($sync_test)), $sync_module::$sync_test),)*
            ]
        };
    }
    let trials = trials![
        async [
            commits::acks_out_of_order_never_commit_past_the_smallest_unacked,
            commits::acks_twice_of_strangers_and_of_garbage_succeed_without_effect,
            commits::a_restarted_source_reads_on_at_the_first_record_not_acked,
            commits::a_draining_source_hands_out_nothing_and_commits_what_is_still_acked,
            dead_letters::a_missing_right_on_the_dead_letter_topic_is_named_until_it_is_given,
            dead_letters::a_producer_of_dead_letters_that_has_come_to_an_end_is_made_anew,
            dead_letters::an_error_that_may_pass_stops_no_partition,
            group::members_hand_partitions_over_without_loss,
            group::pending_counts_the_whole_group_and_comes_to_nothing,
            group::a_start_that_cannot_work_says_why,
            lookups::a_partition_without_a_leader_holds_up_no_other,
            outage::a_broker_that_is_down_is_no_error_to_the_platform,
            panics::a_panic_on_the_thread_that_reads_fails_the_source,
            polls::a_slow_platform_and_slow_brokers_do_not_keep_the_client_from_being_polled,
            producer::an_input_longer_than_the_broker_keeps_arrives_whole,
            reads::an_empty_read_waits_and_one_with_messages_does_not,
            reads::a_read_lingers_only_where_records_come_quickly,
            reads::a_read_holds_at_most_what_was_asked_for,
            reads::a_nacked_message_comes_again_after_its_delay_and_holds_the_commit_back,
            reads::a_new_read_stream_gets_what_was_not_answered_and_old_acks_count,
            reads::a_partition_is_read_no_further_than_it_may_have_unfinished,
            records::key_headers_and_time_are_where_they_are_said_to_be,
            status::the_page_and_the_metrics_follow_reads_acks_nacks_and_a_rebalance,
            status::a_partition_that_stands_still_and_a_broker_that_is_away_are_told,
            status::a_right_that_is_taken_away_is_named_and_forgotten_when_it_is_back,
            status::records_that_do_not_come_although_the_broker_answers_are_told,
            status::a_topic_without_an_id_is_told,
            status::a_partition_whose_fetches_fail_is_read_on_where_it_was,
        ]
        sync [
            producer::lines_are_bytes_up_to_their_end_and_those_too_long_are_put_aside,
            producer::a_producer_can_be_stopped,
            proofs::each_test_that_proves_something_is_there,
        ]
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, || {
        test();
        Ok(())
    })
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}
