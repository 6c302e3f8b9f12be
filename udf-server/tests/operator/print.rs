//! What commands do when their output can't be written.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use rdkafka::mocking::MockCluster;

use crate::harness::{GROUP, TOPIC};

/// Runs the program to its end with this standard output.
fn run(arguments: &[&str], out: Stdio) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    let Output { status, stderr, .. } = command.args(arguments).stdout(out).stderr(Stdio::piped()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// As `| true` does.
fn closed() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// More output than any buffer takes.
const DRIVE: [&str; 8] = ["drive", "--generate", "200000", "--out", "-", "--dead-letters", "/dev/null", "--quiet"];

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let source = ["--brokers", &brokers, "--topics", TOPIC, "--group", GROUP];
    for command in [&["check-config"][..], &["check-config", "--json"], &["kafka-source", "reset", "--to", "latest"]] {
        assert_eq!(run(&[command, &source].concat(), closed()), (Some(0), String::new()), "{command:?}");
    }
    assert_eq!(run(&["--help"], closed()), (Some(0), String::new()));
    assert_eq!(run(&DRIVE, closed()), (Some(0), String::new()));
}

#[test]
fn output_that_cannot_be_written_is_one_sentence() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let source = ["--brokers", &brokers, "--topics", TOPIC, "--group", GROUP];
    for command in [&["check-config"][..], &["check-config", "--json"], &["kafka-source", "reset", "--to", "latest"]] {
        let (code, said) = run(&[command, &source].concat(), full());
        assert_eq!(code, Some(1), "{command:?}: {said}");
        assert_eq!(said, "error: standard output cannot be written: No space left on device (os error 28)\n");
    }
    let (code, said) = run(&["kafka-source", "--help"], full());
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    let (code, said) = run(&DRIVE, full());
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said, "error: standard output cannot be written: No space left on device (os error 28)\n");
}

/// The exit code says what is wrong where nothing else can.
#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    for (arguments, code) in [(&["check-config", "--brokers", "b:1"][..], 64), (&["nonsense"], 64)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
        let status = command.args(arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn misspelt_variables_are_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    command.args(["check-config", "--brokers", "b:1", "--topics", TOPIC, "--group", GROUP, "--json"]);
    let output = command.env("UDF_DEADLETTER_TOPIC", "d").env("UDF_MAX_DELIVERY", "3").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("warning: UDF_DEADLETTER_TOPIC is not a setting"), "{said}");
    assert!(said.contains("did you mean UDF_DEAD_LETTER_TOPIC?"), "{said}");
    assert!(said.contains("did you mean UDF_MAX_DELIVERIES?"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["warnings"].as_array().unwrap().len(), 2, "{report}");
}
