//! The whole product: `udf-server demo`, held against an independent computation, with servers killed on the way, and
//! with input and surroundings that are wrong.
//!
//! The comparison is done by a Python program that shares no code with ours. Without `python3` these tests are reported
//! as ignored; with `REQUIRE_PYTHON` set, that is a failure.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use tempfile::TempDir;

fn main() -> ExitCode {
    let python = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    let required = std::env::var_os("REQUIRE_PYTHON").is_some();
    let compared = |name: &str, test: fn() -> Result<(), Failed>| {
        let name = if python { name.to_owned() } else { format!("{name} (needs python3)") };
        // Where Python is required, a test without it runs, and fails.
        Trial::test(name, test).with_ignored_flag(!python && !required)
    };
    let trials = vec![
        compared("its_output_is_what_an_independent_computation_says", bundled_data),
        compared("killing_the_map_loses_and_doubles_nothing", || killing("map", "redriven")),
        compared("killing_the_source_loses_and_doubles_nothing", || killing("kafka-source", "redelivered")),
        // Elsewhere the system does not tell a process that its parent has ended.
        Trial::test("its_servers_end_with_it_when_it_is_killed", killed_itself)
            .with_ignored_flag(!cfg!(target_os = "linux")),
        Trial::test("a_hang_up_leaves_nothing_behind", hung_up),
        compared("it_takes_lines_from_standard_input", standard_input),
        Trial::test("a_line_too_long_for_kafka_is_a_dead_letter", too_long_a_line),
        Trial::test("wrong_input_is_one_sentence_and_leaves_nothing_behind", wrong_input),
        Trial::test("variables_meant_for_other_servers_change_nothing", foreign_environment),
        Trial::test("an_output_that_is_the_input_is_refused", output_over_input),
        Trial::test("a_folder_too_long_for_sockets_is_told_before_anything_starts", long_folder),
        Trial::test("brokers_that_do_not_answer_are_named", no_brokers),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data").join(name)
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_udf-server");

fn demo(directory: &TempDir) -> Command {
    demo_by(Command::new(PROGRAM), directory)
}

/// The demo by a command that runs the program.
fn demo_by(mut command: Command, directory: &TempDir) -> Command {
    command.arg("demo").current_dir(directory.path()).env("TMPDIR", directory.path());
    command
}

/// Runs a demo to its end and returns its outcome.
fn outcome(output: &Output) -> Result<Value, Failed> {
    if !output.status.success() {
        return Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

fn number(outcome: &Value, name: &str) -> u64 {
    outcome[name].as_u64().unwrap_or_else(|| unreachable!("no {name} in {outcome}"))
}

/// Has the independent computation compare what came out with what went in.
fn compare(directory: &TempDir, inputs: &[PathBuf]) -> Result<(), Failed> {
    let dead = directory.path().join("flights-out.jsonl.dead");
    if !dead.exists() {
        File::create(&dead).unwrap();
    }
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights/tests/check_output.py");
    let output = Command::new("python3")
        .arg(checker)
        .arg("--out")
        .arg(directory.path().join("flights-out.jsonl"))
        .arg("--dead")
        .arg(dead)
        .args(inputs)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text).into_owned().into())
}

/// Nothing but these files is left: no socket, no folder of the run.
fn only(directory: &TempDir, names: &[&str]) {
    let mut left: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, names);
}

fn bundled_data() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    let outcome = outcome(&demo(&directory).arg("--json").output().unwrap())?;
    let counts = ["produced", "mapped", "dropped", "dead_letters"].map(|name| number(&outcome, name));
    assert_eq!(counts, [20_200, 20_076, 45, 79]);
    assert_eq!(outcome["problems"], Value::Array(Vec::new()));
    only(&directory, &["flights-out.jsonl", "flights-out.jsonl.dead"]);
    compare(&directory, &[data("flights-20k.jsonl"), data("awkward.jsonl")])
}

/// Kills a server once records have come out, and again once it is back. What it held then comes again, which is counted
/// as `again`.
fn killing(name: &str, again: &str) -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    let input = directory.path().join("input.jsonl");
    let flights = fs::read(data("flights-20k.jsonl")).unwrap();
    let mut file = File::create(&input).unwrap();
    for _ in 0..10 {
        file.write_all(&flights).unwrap();
    }
    file.write_all(&fs::read(data("awkward.jsonl")).unwrap()).unwrap();
    drop(file);

    let mut running = demo(&directory)
        .args(["--json", "--input", "input.jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let (mut pid, mut kills) = (None, 0);
    for line in BufReader::new(running.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        said.push_str(&line);
        said.push('\n');
        if let Some(process) = line.strip_prefix(&format!("{name}: runs as process ")) {
            pid = Some(process.to_owned());
        }
        // Progress that is not yet the end: the server has records in flight.
        let resolving = line.contains(" resolved, ") && !line.starts_with("0 ");
        if resolving
            && kills < 2
            && let Some(pid) = pid.take()
        {
            let killed = Command::new("kill").arg("-KILL").arg(pid).status().unwrap();
            assert!(killed.success());
            kills += 1;
        }
    }
    let output = running.wait_with_output().unwrap();
    let outcome = outcome(&output).map_err(|_| format!("{}\n{said}", output.status))?;
    assert!(kills > 0, "the run was over before anything could be killed:\n{said}");
    assert!(number(&outcome, again) > 0, "the server held nothing when it was killed:\n{said}");
    assert!(said.contains("was ended by signal 9 and is started again"), "{said}");
    assert_eq!(number(&outcome, "produced"), 200_200);
    compare(&directory, &[input])
}

/// A demo that waits for input and whose servers serve.
struct Waiting {
    directory: TempDir,
    demo: Child,
    /// Its servers' processes.
    servers: Vec<String>,
    deadline: Instant,
    /// What it says from then on.
    said: BufReader<ChildStderr>,
}

impl Waiting {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        // Where the tests were started with SIGHUP ignored, as by nohup, the demo would ignore it too.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP", PROGRAM]);
        let mut running = demo_by(command, &directory)
            .args(["--input", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(running.stderr.take().unwrap());
        let servers: Vec<String> = said
            .by_ref()
            .lines()
            .filter_map(|line| Some(line.unwrap().split_once(": runs as process ")?.1.to_owned()))
            .take(2)
            .collect();
        let folder = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        let waiting =
            Self { directory, demo: running, servers, deadline: Instant::now() + Duration::from_secs(60), said };
        let serve = || ["source-info", "map-info"].iter().all(|info| folder.join(info).exists());
        while !serve() {
            assert!(Instant::now() < waiting.deadline, "the servers were not there");
            thread::yield_now();
        }
        waiting
    }

    /// Waits until the servers are gone.
    fn ends(&self) -> Result<(), Failed> {
        for server in &self.servers {
            // One that has ended and that nobody has waited for has no command line any more.
            while fs::read(format!("/proc/{server}/cmdline")).is_ok_and(|line| !line.is_empty()) {
                if Instant::now() > self.deadline {
                    return Err(format!("process {server} has outlived the demo").into());
                }
                thread::yield_now();
            }
        }
        Ok(())
    }
}

fn killed_itself() -> Result<(), Failed> {
    let mut waiting = Waiting::start();
    waiting.demo.kill().unwrap();
    waiting.demo.wait().unwrap();
    waiting.ends()
}

/// A terminal that closes.
fn hung_up() -> Result<(), Failed> {
    let mut waiting = Waiting::start();
    let told = Command::new("kill").arg("-HUP").arg(waiting.demo.id().to_string()).status().unwrap();
    assert!(told.success());
    let mut said = String::new();
    waiting.said.read_to_string(&mut said).unwrap();
    waiting.demo.wait().unwrap();
    let left: Vec<_> =
        fs::read_dir(waiting.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} are left\n{said}");
    waiting.ends()
}

fn standard_input() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    let mut running = demo(&directory)
        .args(["--json", "--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let awkward = fs::read(data("awkward.jsonl")).unwrap();
    running.stdin.take().unwrap().write_all(&[&awkward[..], b"\n\nno line break at the end"].concat()).unwrap();
    let outcome = outcome(&running.wait_with_output().unwrap())?;
    assert_eq!((number(&outcome, "produced"), number(&outcome, "empty")), (201, 2));
    let more = directory.path().join("more");
    fs::write(&more, "no line break at the end").unwrap();
    compare(&directory, &[data("awkward.jsonl"), more])
}

fn too_long_a_line() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    let long = "x".repeat(3 << 20);
    fs::write(directory.path().join("input"), format!("first\n{long}\nlast\n")).unwrap();
    let outcome = outcome(&demo(&directory).args(["--json", "--input", "input"]).output().unwrap())?;
    assert_eq!((number(&outcome, "produced"), number(&outcome, "too_long")), (2, 1));
    let dead = fs::read_to_string(directory.path().join("flights-out.jsonl.dead")).unwrap();
    let mut dead: Vec<&str> = dead.lines().collect();
    dead.sort_unstable();
    assert!(dead == ["first", "last", &long], "the dead letters are the three lines");
    Ok(())
}

/// Runs a demo that must refuse its input, and returns what it says.
fn refused(directory: &TempDir, arguments: &[&str], code: i32) -> String {
    let output = demo(directory).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn wrong_input() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    fs::write(directory.path().join("blank"), "\n\r\n\n").unwrap();
    for (arguments, code, sentence) in [
        (&["--input", "missing"][..], 64, "error: --input missing cannot be opened: No such file or directory"),
        (&["--input", "."], 64, "error: --input . is a folder"),
        (&["--input", "empty"], 64, "error: --input empty is empty"),
        (&["--input", "blank"], 64, "error: the input holds no line that is not empty"),
        (&["--out", "empty/out"], 64, "error: empty/out cannot be opened: Not a directory"),
        (&["--inptu", "x"], 64, "error: unexpected argument '--inptu'"),
        (&["--config", "missing"], 64, "error: the file missing cannot be read"),
        (&["--topic", "x"], 64, "error: --topic and --keep are for a Kafka named by --brokers"),
    ] {
        let said = refused(&directory, arguments, code);
        assert!(said.contains(sentence), "{arguments:?}: {said}");
        only(&directory, &["blank", "empty"]);
    }
    Ok(())
}

fn foreign_environment() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("input"), "first\nsecond\n").unwrap();
    let mut command = demo(&directory);
    command.env("UDF_MAX_IN_FLIGHT", "many").env("UDF_START", "latest").env("NUMAFLOW_RUNTIME", "none");
    let outcome = outcome(&command.args(["--json", "--input", "input"]).output().unwrap())?;
    assert_eq!((number(&outcome, "produced"), number(&outcome, "dead_letters")), (2, 2));
    Ok(())
}

fn output_over_input() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    for name in ["lines", "lines.dead"] {
        fs::write(directory.path().join(name), "precious\n").unwrap();
    }
    std::os::unix::fs::symlink("lines", directory.path().join("link")).unwrap();
    for (input, output) in [("lines", "lines"), ("lines.dead", "lines.dead"), ("lines", "link")] {
        let said = refused(&directory, &["--input", input, "--out", output.trim_end_matches(".dead")], 64);
        let sentence = format!("error: the output {output} is the same file as the input {input}");
        assert!(said.contains(&sentence), "{said}");
    }
    // Standard input may be a file too.
    let lines = File::open(directory.path().join("lines")).unwrap();
    let output = demo(&directory).args(["--input", "-", "--out", "lines"]).stdin(lines).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    for name in ["lines", "lines.dead"] {
        assert_eq!(fs::read(directory.path().join(name)).unwrap(), b"precious\n");
    }
    only(&directory, &["lines", "lines.dead", "link"]);
    Ok(())
}

fn long_folder() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    let long = directory.path().join("x".repeat(90));
    fs::create_dir(&long).unwrap();
    let output = demo(&directory).env("TMPDIR", &long).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("set TMPDIR to a shorter one"), "{said}");
    assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
    Ok(())
}

fn no_brokers() -> Result<(), Failed> {
    let directory = TempDir::new().unwrap();
    let said = refused(&directory, &["--brokers", "127.0.0.1:1", "--connect-timeout", "1s"], 1);
    assert!(said.contains("127.0.0.1:1"), "{said}");
    only(&directory, &[]);
    Ok(())
}
