//! The command line of `drive`: what it refuses, and how it says that a run fell short.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use numaflow_sdk::{HandlerError, MapRequest, Message, Server, map};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

/// Longer than any of these runs takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command to its end; one that has none fails the test.
fn finish(command: Command, input: &[u8]) -> Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = async {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        // Where it isn't read, it is closed.
        drop(process.stdin.take().unwrap().write_all(input).await);
        process.wait_with_output().await.unwrap()
    };
    runtime.block_on(async { tokio::time::timeout(LIMIT, run).await }).unwrap()
}

/// Runs `drive` in a folder that holds these files.
fn drive(files: &[&str], arguments: &[&str]) -> (TempDir, Output) {
    let directory = tempfile::tempdir().unwrap();
    for name in files {
        fs::write(directory.path().join(name), "first\nsecond\n").unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    command.arg("drive").args(arguments).current_dir(directory.path());
    (directory, finish(command, b""))
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
fn outputs_and_dead_letters_in_one_file_are_refused() {
    for (out, dead_letters) in [("f", "f"), ("f", "./f"), ("./new", "new")] {
        let arguments = ["--generate", "1", "--out", out, "--dead-letters", dead_letters];
        let (directory, output) = drive(&["f"], &arguments);
        let said = said(&output, 64);
        let sentence =
            format!("error: the outputs ({out}) and the dead letters ({dead_letters}) would go to the same file");
        assert!(said.contains(&sentence), "{said}");
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"first\nsecond\n");
        assert!(!directory.path().join("new").exists());
    }
}

#[test]
fn standard_output_leaves_dead_letters_a_place_of_their_own() {
    let arguments = ["--generate", "1", "--map", "none.sock", "--wait", "1ms", "--out", "-"];
    let (_directory, output) = drive(&[], &arguments);
    let refused = said(&output, 64);
    assert!(refused.contains("outputs tagged dead-letter would go nowhere: give --dead-letters FILE"), "{refused}");
    let (_directory, output) = drive(&[], &[&arguments[..], &["--dead-letters", "/dev/null"]].concat());
    // It goes on to the map, which is not there.
    said(&output, 1);
}

#[test]
fn a_server_that_never_comes_is_given_up_with_the_reason() {
    for quiet in [&[][..], &["--quiet"]] {
        let arguments = ["--generate", "1", "--map", "none.sock", "--wait", "50ms"];
        let (_directory, output) = drive(&[], &[&arguments, quiet].concat());
        let said = said(&output, 1);
        assert!(said.contains("waiting for the server on none.sock: "), "{said}");
        assert!(said.contains("error: gave up after ") && said.contains("No such file"), "{said}");
        assert!(said.contains("there is no such socket: start the server, or correct its path"), "{said}");
    }
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_at_once() {
    let socket = format!("{}.sock", "s".repeat(120));
    for arguments in [&["--source", &*socket][..], &["--generate", "1", "--map", &socket]] {
        let (_directory, output) = drive(&[], arguments);
        let said = said(&output, 64);
        assert!(said.contains("has 125 bytes, and the system allows 107"), "{said}");
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

/// What a run of `drive` prints on standard output, as JSON.
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn messages_are_made_with_their_length_and_keys_and_written_as_json() {
    let arguments =
        ["--generate", "3", "--value-bytes", "4", "--keys", "2", "--out", "o", "--out-format", "json", "-q"];
    let (directory, output) = drive(&[], &arguments);
    assert_eq!((said(&output, 0).as_str(), &output.stdout[..]), ("", &b""[..]));
    let written = fs::read_to_string(directory.path().join("o")).unwrap();
    let lines: Vec<serde_json::Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line =
        |id: &str, key: &str, value: &str| serde_json::json!({"id": id, "keys": [key], "tags": [], "value": value});
    let expected = [
        line("drive-MQ==-0-0", "key-0", "0001"),
        line("drive-Mg==-0-0", "key-1", "0002"),
        line("drive-Mw==-0-0", "key-0", "0003"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_value_that_is_no_text_is_written_in_base64() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), b"\xff\x00\n\"text\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    command.args(["drive", "--source", "f", "--out", "-", "--out-format", "json", "-q"]).current_dir(directory.path());
    let output = finish(command, b"");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        lines,
        "{\"id\":\"drive-MQ==-0-0\",\"keys\":[],\"tags\":[],\"value_base64\":\"/wA=\"}\n\
         {\"id\":\"drive-Mg==-0-0\",\"keys\":[],\"tags\":[],\"value\":\"\\\"text\\\"\"}\n"
    );
}

#[test]
fn lines_of_standard_input_go_to_standard_output() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    command.args(["drive", "--source", "-", "--out", "-"]);
    let output = finish(command, b"first\n\nlast");
    assert_eq!(output.stdout, b"first\n\nlast\n");
    // The summary stays out of the way of the outputs.
    let said = said(&output, 0);
    assert!(said.contains("read                             3\n= mapped                         3\n"), "{said}");
}

#[test]
fn the_summary_says_how_a_run_ended() {
    let (_directory, output) = drive(&[], &["--generate", "10", "--json"]);
    said(&output, 0);
    assert_eq!((&json(&output)["ended"], &json(&output)["breaches"]), (&"done".into(), &serde_json::json!([])));
    let (_directory, output) = drive(&[], &["--generate", "10", "--batch-size", "4", "--kill-after", "6", "--json"]);
    said(&output, 0);
    let summary = json(&output);
    let numbers = ["read", "acked", "unresolved"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!((&summary["ended"], numbers), (&"killed".into(), [8, 4, 4]));
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    for (arguments, problem) in [
        (&[][..], "required arguments were not provided"),
        (&["--source", "-", "--generate", "1"], "cannot be used with"),
        (&["--source", "-", "--keys", "1"], "cannot be used with"),
        (&["--source", "-", "--value-bytes", "1"], "cannot be used with"),
        (&["--generate", "0"], "0"),
        (&["--generate", "1", "--source-info", "i"], "cannot be used with"),
        (&["--generate", "1", "--slow-reader", "1s"], "--map <SOCKET>"),
        (&["--generate", "1", "--duplicate-every", "2"], "--map <SOCKET>"),
        (&["--generate", "1", "--streaming-acks", "--platform", "1.8"], "--streaming-acks: platform 1.8 acks batches"),
        (&["--generate", "1", "--out", "-", "--json"], "--json: its summary would be among the outputs"),
        (&["--generate", "1", "--wait", "soon"], "give a time with its unit, such as 500ms, 25s or 2m, or off"),
        (&["--generate", "1", "--platform", "1.7"], "[possible values: main, 1.8]"),
    ] {
        let (_directory, output) = drive(&[], arguments);
        let said = said(&output, 64);
        assert!(said.contains(problem), "{arguments:?}: {said}");
    }
}

#[test]
fn a_platform_that_exits_is_a_failure_with_a_summary() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let map = map::from_fn(async |_: MapRequest| Err::<Message, _>(HandlerError::new("as the script says")));
    let server = Server::new(map::service(map)).socket_path(directory.path().join("m.sock"));
    let bound = runtime.block_on(async { server.server_info_path(directory.path().join("i")).bind() }).unwrap();
    runtime.spawn(bound.serve_until(std::future::pending()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_udf-server"));
    command.args(["drive", "--generate", "2", "--map", "m.sock", "--map-info", "i", "--platform", "1.8", "--json"]);
    command.current_dir(directory.path());
    let output = finish(command, b"");
    let said = said(&output, 1);
    assert!(said.contains("error: the map's stream failed, at which platform 1.8 nacks"), "{said}");
    let summary = json(&output);
    assert_eq!((&summary["ended"], &summary["unresolved"]), (&"exited".into(), &2.into()));
    assert!(summary["reason"].as_str().unwrap().contains("as the script says"), "{summary}");
}
