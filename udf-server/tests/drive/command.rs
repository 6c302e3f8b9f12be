//! The command line of `drive`: what it refuses, and how it says that a run fell short.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs `drive` in a folder that holds these files.
fn drive(files: &[&str], arguments: &[&str]) -> (TempDir, Output) {
    let directory = tempfile::tempdir().unwrap();
    for name in files {
        fs::write(directory.path().join(name), "first\nsecond\n").unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    let output = command.arg("drive").args(arguments).current_dir(directory.path()).output().unwrap();
    (directory, output)
}

fn said(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn an_output_that_is_the_input_is_refused() {
    for (arguments, output) in [
        (&["--source", "f", "--out", "f"][..], "f"),
        (&["--source", "f.dead", "--out", "f"], "f.dead"),
        (&["--source", "f", "--dead-letters", "./f"], "./f"),
    ] {
        let (directory, result) = drive(&["f", "f.dead"], arguments);
        let sentence = format!("error: the output {output} is the same file as the input {}", arguments[1]);
        let said = said(&result, 64);
        assert!(said.contains(&sentence), "{said}");
        for name in ["f", "f.dead"] {
            assert_eq!(fs::read(directory.path().join(name)).unwrap(), b"first\nsecond\n");
        }
    }
}
