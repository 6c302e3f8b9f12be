//! The suite, through the program that a user runs: one test a case and kind, each with a server of its own.
//!
//! Ours keeps every rule and offers every part of the contract. The published Rust SDK is held to its list of known gaps;
//! the SDKs of other languages are the matrix's.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use numaflow_conformance::{Kind, cases};

/// A server of the handler contract: an example of this package.
#[derive(Clone, Copy)]
struct Subject {
    name: &'static str,
    /// Its list of gaps, below `peers/`. One without has none, and nothing that it does not offer either.
    gaps: Option<&'static str>,
}

const SUBJECTS: &[Subject] =
    &[Subject { name: "ours", gaps: None }, Subject { name: "rust-0-6", gaps: Some("rust-published/gaps-0.6.yaml") }];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for subject in SUBJECTS {
        for case in cases::all() {
            for kind in Kind::ALL.iter().filter(|kind| case.applies_to(**kind)) {
                let name = format!("{}::{}", subject.name, case.id);
                trials.push(Trial::test(name, || run(*subject, case.id, *kind)).with_kind(kind.to_string()));
            }
        }
    }
    let mut arguments = Arguments::from_args();
    // Nearly all a case does is to wait for another process.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * processors);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(subject: Subject, case: &str, kind: Kind) -> Result<(), Failed> {
    // Some of what the published SDK does is chance, such as a race as it ends; of ours nothing may be.
    let times = if subject.gaps.is_some() { 3 } else { 1 };
    let mut outcome = Ok(());
    for _ in 0..times {
        outcome = play(subject, case, kind);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn play(subject: Subject, case: &str, kind: Kind) -> Result<(), Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_numaflow-conformance"));
    command.args(["run", "--jobs", "1", "--only", case, "--kind", &kind.to_string()]);
    command.arg("--exec").arg(format!("'{}'", example(subject.name)?.display()));
    match subject.gaps {
        None => command.arg("--strict"),
        Some(gaps) => command.arg("--known-gaps").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(gaps)),
    };
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&text)).into())
}

/// Cargo builds the examples beside the tests, except for `--test suite` alone.
fn example(name: &str) -> Result<PathBuf, Failed> {
    let this = std::env::current_exe()?;
    let profile = this.ancestors().nth(2).ok_or("this test is in no folder")?;
    let path = profile.join("examples").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is not built: cargo build -p {} --examples", path.display(), env!("CARGO_PKG_NAME")).into())
}
