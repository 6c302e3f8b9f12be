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

#[test]
fn an_output_that_cannot_be_made_is_refused_before_a_server_is_waited_for() {
    for (out, problem) in [("f/out", "Not a directory"), ("none/out", "No such file"), (".", "is a directory")] {
        let (_directory, output) = drive(&["f"], &["--source", "none.sock", "--out", out]);
        let said = said(&output, 64);
        assert!(said.contains(&format!("error: {out} cannot be opened: ")) && said.contains(problem), "{said}");
    }
}

#[test]
fn an_input_that_ends_before_the_count_is_a_failure() {
    let (_directory, output) = drive(&["f"], &["--source", "f", "--count", "3"]);
    let said = said(&output, 1);
    assert!(said.contains("error: the input ended after 2 messages, and --count asks for 3"), "{said}");
    let (_directory, output) = drive(&["f"], &["--source", "f", "--count", "2"]);
    assert_eq!(output.status.code(), Some(0));
}
