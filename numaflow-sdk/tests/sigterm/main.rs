//! Server processes that are told to stop while their handlers are quick, slow or stuck, and while their peer goes on
//! sending. The server is this program itself, started with [`server::VARIABLE`] set.
//!
//! `DRAIN_RUNS` is the number of random runs (24), `DRAIN_SEED` the seed of one that failed before.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

mod blocked;
mod hearing;
mod panics;
mod process;
mod runs;
mod server;
mod signals;
mod stderr;

fn main() -> ExitCode {
    if std::env::var_os(server::VARIABLE).is_some() {
        return server::run();
    }
    fn trial(name: &str, test: fn()) -> Trial {
        let run = move || {
            test();
            Ok::<_, Failed>(())
        };
        Trial::test(name, run)
    }
    let trials = vec![
        trial("each_process_ends_in_time_and_accounts_for_every_message", runs::all),
        trial("blocked_workers_are_listed_and_end_with_the_process", blocked::test),
        trial("one_blocked_worker_leaves_what_comes_in_to_the_other", blocked::one_of_two),
        trial("a_drain_that_begins_by_itself_has_its_deadline", blocked::stops_itself),
        trial("a_drain_can_begin_while_every_worker_is_blocked", blocked::stops_when_all_block),
        trial("a_second_signal_ends_it_at_once", blocked::second_signal),
        trial("two_signals_at_the_start_leave_nothing", signals::at_the_start),
        trial("a_hang_up_is_a_signal_to_stop", signals::hang_up),
        trial("a_hang_up_that_is_ignored_stays_ignored", signals::hang_up_ignored),
        trial("a_panic_in_the_set_up_ends_the_process", panics::set_up),
        trial("a_panic_on_shutdown_is_the_processs_failure", panics::on_shutdown),
        trial("without_a_log_what_goes_wrong_is_on_standard_error", stderr::without_a_log),
        trial("standard_error_that_nobody_reads_holds_nothing_up", stderr::not_read),
        trial("log_lines_that_were_dropped_are_told_of_when_lines_flow_again", stderr::read_again),
        trial("a_closed_standard_error_does_no_harm", stderr::closed),
        trial("a_log_of_the_program_that_panics_does_no_harm", stderr::own_log_closed),
        trial("a_log_of_the_program_that_blocks_does_not_stop_the_end", stderr::own_log_not_read),
        trial("an_argument_is_refused_with_the_variable_to_set", stderr::argument),
        trial("a_misspelt_variable_is_named", stderr::variable),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
