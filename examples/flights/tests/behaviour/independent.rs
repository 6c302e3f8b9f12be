//! The map against a computation of its own kind: `check_output.py`, in another language and without shared code.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flights::Outcome;
use tempfile::TempDir;

use crate::data::{AWKWARD, FLIGHTS, lines};
use crate::flight;

/// What the map makes of the data, in files of lines as the demo writes them.
struct Run {
    directory: TempDir,
    out: Vec<Vec<u8>>,
    dead: Vec<Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        let mut run = Self { directory: tempfile::tempdir().unwrap(), out: Vec::new(), dead: Vec::new() };
        for line in lines(AWKWARD).chain(lines(FLIGHTS).take(1000)) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match flight(line) {
                Outcome::Mapped { value, .. } => run.out.push(value),
                Outcome::Dropped => {}
                Outcome::DeadLetter { .. } => run.dead.push(line.to_vec()),
            }
        }
        run
    }

    fn file(&self, name: &str, lines: &[Vec<u8>]) -> PathBuf {
        let path = self.directory.path().join(name);
        let bytes: Vec<u8> = lines.iter().flat_map(|line| line.iter().chain(b"\n")).copied().collect();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// `None` where there is no Python.
    fn check(&self) -> Option<Output> {
        let flights: Vec<_> = lines(FLIGHTS).take(1000).map(<[u8]>::to_vec).collect();
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new("python3")
            .arg(package.join("tests/check_output.py"))
            .arg("--out")
            .arg(self.file("out", &self.out))
            .arg("--dead")
            .arg(self.file("out.dead", &self.dead))
            .arg(package.join("../data/awkward.jsonl"))
            .arg(self.file("flights", &flights))
            .output();
        match output {
            Ok(output) => Some(output),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Past the test harness, which would swallow what `eprintln` says.
                io::stderr()
                    .write_all(b"\nSKIPPED: there is no python3 to compute the flights independently\n")
                    .unwrap();
                None
            }
            Err(error) => panic!("python3 cannot be started: {error}"),
        }
    }

    #[track_caller]
    fn assert_refused(&self, complaint: &str) {
        let Some(output) = self.check() else { return };
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(complaint), "{text}");
    }
}

#[test]
fn the_map_answers_what_was_computed_independently() {
    let Some(output) = Run::new().check() else { return };
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let counts = String::from_utf8(output.stdout).unwrap();
    assert_eq!(counts, "read 1200, mapped 1076, dropped 45, dead letters 79\n");
    assert!(output.status.success());
}

#[test]
fn the_checker_sees_what_is_missing() {
    let mut run = Run::new();
    run.out.remove(70);
    run.assert_refused("is missing from the mapped");
    let mut run = Run::new();
    run.dead.pop();
    run.assert_refused("awkward.jsonl line 196 is missing from the dead letters");
}

#[test]
fn the_checker_sees_what_came_twice() {
    let mut run = Run::new();
    run.out.push(run.out[500].clone());
    run.assert_refused("out line 1077 is there once too often");
    let mut run = Run::new();
    run.dead.insert(1, run.dead[0].clone());
    run.assert_refused("out.dead line 2 is there once too often");
}

#[test]
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
