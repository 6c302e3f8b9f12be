//! The map against a computation of its own kind: `check_output.py`, in another language and without shared code.
//!
//! Without Python these tests are reported as ignored; where the variable `REQUIRE_PYTHON` is set, they fail.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use flights::{Airports, Outcome, flight};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

const FLIGHTS: &[u8] = include_bytes!("../../data/flights-20k.jsonl");
const AWKWARD: &[u8] = include_bytes!("../../data/awkward.jsonl");

fn main() -> ExitCode {
    let python = Command::new("python3").arg("--version").output().is_ok();
    let ignored = !python && env::var_os("REQUIRE_PYTHON").is_none();
    let trial = |name: &str, test: fn()| {
        let run = move || -> Result<(), Failed> {
            test();
            Ok(())
        };
        Trial::test(name, run).with_kind("needs python3").with_ignored_flag(ignored)
    };
    let trials = vec![
        trial("the_map_answers_what_was_computed_independently", the_map_answers_what_was_computed_independently),
        trial("the_checker_sees_what_is_missing", the_checker_sees_what_is_missing),
        trial("the_checker_sees_what_came_twice", the_checker_sees_what_came_twice),
        trial("the_checker_sees_what_is_wrong", the_checker_sees_what_is_wrong),
        trial("the_checker_reads_lines_as_the_demo_does", the_checker_reads_lines_as_the_demo_does),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The awkward lines and the first thousand flights.
fn inputs() -> (&'static [u8], Vec<u8>) {
    (AWKWARD, FLIGHTS.split_inclusive(|byte| *byte == b'\n').take(1000).flatten().copied().collect())
}

/// What the map makes of its inputs, in files of lines as the demo writes them.
struct Run {
    directory: TempDir,
    inputs: [PathBuf; 2],
    out: Vec<Vec<u8>>,
    dead: Vec<Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        let (awkward, flights) = inputs();
        Self::over(awkward, &flights)
    }

    fn over(first: &[u8], second: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let airports = Airports::bundled();
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        let inputs = [("first", first), ("second", second)].map(|(name, input)| {
            for line in input.split(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if line.is_empty() {
                    continue;
                }
                match flight(line, &airports) {
                    Outcome::Mapped { value, .. } => out.push(value),
                    Outcome::Dropped => {}
                    Outcome::DeadLetter { .. } => dead.push(line.to_vec()),
                }
            }
            let path = directory.path().join(name);
            fs::write(&path, input).unwrap();
            path
        });
        Self { directory, inputs, out, dead }
    }

    fn file(&self, name: &str, lines: &[Vec<u8>]) -> PathBuf {
        let path = self.directory.path().join(name);
        let bytes: Vec<u8> = lines.iter().flat_map(|line| line.iter().chain(b"\n")).copied().collect();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn check(&self) -> Output {
        Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_output.py"))
            .arg("--out")
            .arg(self.file("out", &self.out))
            .arg("--dead")
            .arg(self.file("out.dead", &self.dead))
            .args(&self.inputs)
            .output()
            .unwrap_or_else(|error| panic!("python3 cannot be started: {error}"))
    }

    #[track_caller]
    fn assert_accepted(&self, counts: &str) {
        let output = self.check();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), counts);
        assert_eq!(output.status.code(), Some(0));
    }

    #[track_caller]
    fn assert_refused(&self, complaint: &str) {
        let output = self.check();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(complaint), "{text}");
        assert_eq!(output.status.code(), Some(1));
    }
}

fn the_map_answers_what_was_computed_independently() {
    Run::new().assert_accepted("read 1200, mapped 1076, dropped 45, dead letters 79");
}

fn the_checker_sees_what_is_missing() {
    let mut run = Run::new();
    run.out.remove(70);
    run.assert_refused("is missing from the mapped");
    let mut run = Run::new();
    run.dead.pop();
    run.assert_refused("first line 196 is missing from the dead letters");
}

fn the_checker_sees_what_came_twice() {
    let mut run = Run::new();
    run.out.push(run.out[500].clone());
    run.assert_refused("out line 1077 is there once too often");
    let mut run = Run::new();
    run.dead.insert(1, run.dead[0].clone());
    run.assert_refused("out.dead line 2 is there once too often");
}

fn the_checker_sees_what_is_wrong() {
    let change = |from: &str, to: &str| {
        let mut run = Run::new();
        let last = run.out.pop().unwrap();
        let last = String::from_utf8(last).unwrap();
        assert!(last.contains(from), "{last}");
        run.out.push(last.replacen(from, to, 1).into_bytes());
        run
    };
    for (from, to) in [
        (".", ".9"),
        ("\"distance\":", "\"distance\":1"),
        ("\"distance\":", "\"distance\":1,\"distance\":"),
        ("{\"date\":", "{\"when\":"),
        ("\"origin_state\":\"", "\"origin_state\":\"X"),
    ] {
        change(from, to).assert_refused("out line 1076 is extra");
    }
    change("{", "").assert_refused("out line 1076 is not a JSON object");
    let mut run = Run::new();
    run.dead[3].push(b' ');
    run.assert_refused("out.dead line 4 is extra");
}

fn the_checker_reads_lines_as_the_demo_does() {
    let row = b"x,5,100,SFO,LAX";
    let mut lines = [&row[..], b"\r\n\n\r\n", row, b"\n", b"no flight\r\r\n"].concat();
    Run::over(&lines, b"").assert_accepted("read 3, mapped 2, dropped 0, dead letters 1");
    lines.extend_from_slice(row);
    Run::over(&lines, row).assert_accepted("read 5, mapped 4, dropped 0, dead letters 1");
}
