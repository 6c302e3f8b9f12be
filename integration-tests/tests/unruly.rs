//! Servers that hang, answer garbage or die: each case against them ends by its own deadline, and so does the run.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than a case takes, whose waits are of 10 s, also where the cores are busy.
const BOUND: Duration = Duration::from_secs(60);

/// Runs these cases against a server that does `with` to every connection.
fn run(cases: &[&str], flags: &[&str], with: fn(UnixStream)) -> (Output, Duration) {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("socket");
    let info = directory.path().join("server-info");
    std::fs::write(&info, "{}").unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || with(stream));
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_numaflow-conformance"));
    command.args(["run", "--kind", "map-unary", "--socket"]).arg(&socket).arg("--server-info").arg(&info).args(flags);
    command.args(cases.iter().flat_map(|case| ["--only", case]));
    let began = Instant::now();
    (command.output().unwrap(), began.elapsed())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn one_that_never_answers_fails_its_case_in_time() {
    let (output, took) = run(&["general.handshake.first"], &[], |mut stream| {
        // It reads what comes, so that nobody waits for that.
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    });
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("nothing on /map.v1.Map/MapFn within 10s"), "{}", text(&output));
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn one_that_answers_garbage_fails_its_case_at_once() {
    let (output, took) = run(&["general.handshake.first"], &[], |mut stream| {
        drop(stream.write_all(&[b'?'; 4096]));
        drop(stream.read(&mut [0; 1]));
    });
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("FAILED"), "{}", text(&output));
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn one_that_dies_fails_its_case_at_once() {
    let (output, took) = run(&["general.handshake.first", "map.id-echo"], &[], drop);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("0 of 2 MUST"), "{}", text(&output));
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn the_run_ends_by_its_deadline_and_says_so() {
    let hang = |mut stream: UnixStream| drop(std::io::copy(&mut stream, &mut std::io::sink()));
    let (output, took) = run(&["map."], &["--deadline", "1"], hang);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("cut off: the run was over after 1s"), "{}", text(&output));
    assert!(took < BOUND, "{took:?}");
}

#[test]
fn no_server_is_no_fault_of_a_server() {
    for subject in [["--socket", "/nonexistent/socket"], ["--exec", "/nonexistent/server"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_numaflow-conformance"));
        let output = command.args(["run", "--kind", "source"]).args(subject).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", text(&output));
        assert!(text(&output).contains(subject[1]), "{}", text(&output));
    }
}
