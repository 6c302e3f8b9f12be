//! The cases that start, stop and kill servers, with the contract's server as a program.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use numaflow_conformance::{Case, Kind, Subject, cases};
use tokio::runtime::Runtime;

/// The example `ours` of this package, which is built with its tests.
const SERVER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../debug/examples/ours");

fn main() -> ExitCode {
    let server = std::env::var("CONFORMANCE_COMMAND").unwrap_or_else(|_| SERVER.to_owned());
    let missing = !Path::new(&server).exists();
    let mut trials = Vec::new();
    for case in cases::all().filter(|case| case.needs_a_command()) {
        for kind in Kind::ALL.iter().filter(|kind| case.applies_to(**kind)) {
            let server = server.clone();
            let trial = Trial::test(case.id, move || play(case, *kind, server));
            trials.push(trial.with_kind(kind.to_string()).with_ignored_flag(missing));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn play(case: &'static Case, kind: Kind, command: String) -> Result<(), Failed> {
    let report = Runtime::new()?.block_on(case.play(&Subject::Command { kind, command }));
    let Err(unproven) = &report.outcome else { return Ok(()) };
    let frames: Vec<String> = report.frames.iter().map(ToString::to_string).collect();
    let told = format!("{} ({}): {}\n{unproven}", case.level, case.section, case.sentence);
    Err(format!("{told}\n{}\n{}", frames.join("\n"), report.log).into())
}
