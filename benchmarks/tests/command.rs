//! The program as its users run it. Nothing here looks at how fast anything is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// With the folders of its servers in `folder`.
fn benchmarks(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_benchmarks"));
    command.args(arguments).env("TMPDIR", folder).current_dir(folder);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    benchmarks(folder, arguments).output().unwrap()
}

fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_scenario_works_and_becomes_a_page() {
    let folder = TempDir::new().unwrap();
    let text = succeed(folder.path(), &["map", "--quick", "--seconds", "0.05", "--json", "map.json"]);
    assert!(text.contains("Identity map, 65536 B, default settings"), "{text}");
    succeed(folder.path(), &["source", "--quick", "--seconds", "0.05", "--json", "source.json"]);

    let map: Value = serde_json::from_slice(&std::fs::read(folder.path().join("map.json")).unwrap()).unwrap();
    let comparisons = map["comparisons"].as_array().unwrap();
    // Four sizes with two settings; batch, mixed, compute, wait, two latencies, start.
    assert_eq!(comparisons.len(), 15);
    for comparison in comparisons {
        for subject in comparison["subjects"].as_array().unwrap() {
            let sample = &comparison["rounds"][0][subject.as_str().unwrap()];
            let figure = sample.get("cpu_microseconds").or(sample.get("start_milliseconds"));
            assert!(figure.unwrap().as_f64().unwrap() > 0.0, "{comparison}");
        }
    }

    succeed(folder.path(), &["report", "--json", "map.json,source.json", "--out", "docs"]);
    let page = std::fs::read_to_string(folder.path().join("docs/performance.md")).unwrap();
    for expected in ["## Goals", "| published | ", "Generated records of 256 B", "map --quick", "| numaflow | 0.6.0 |"]
    {
        assert!(page.contains(expected), "{expected} is not in:\n{page}");
    }
    let chart = std::fs::read_to_string(folder.path().join("docs/performance.svg")).unwrap();
    assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"), "{chart}");
    assert_eq!(chart.matches(">64 KiB<").count(), 1);
}

#[test]
fn a_page_of_something_else_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("other.json"), "{}").unwrap();
    let output = run(folder.path(), &["report", "--json", "other.json", "--out", "docs"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("other.json is not a file of `--json`"), "{error}");
    assert!(!folder.path().join("docs").exists());
}

#[test]
fn a_build_is_measured_beside_another_one() {
    let folder = TempDir::new().unwrap();
    let this = env!("CARGO_BIN_EXE_benchmarks");
    let quick = ["map", "--quick", "--seconds", "0.05", "--rounds", "2", "--json", "pairs.json", "--beside", this];
    let text = succeed(folder.path(), &quick);
    assert!(text.contains("this build beside the other") && text.contains("too few pairs"), "{text}");
    let run: Value = serde_json::from_slice(&std::fs::read(folder.path().join("pairs.json")).unwrap()).unwrap();
    let [comparison] = &run["comparisons"].as_array().unwrap()[..] else { panic!("{run}") };
    assert_eq!(comparison["subjects"], serde_json::json!(["ours", "beside"]));
    assert_eq!(comparison["rounds"].as_array().unwrap().len(), 2);
}

#[test]
fn a_program_that_is_not_there_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let output = run(folder.path(), &["map", "--beside", "./before"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("'./before' for '--beside <PROGRAM>': cannot be read: No such file"), "{error}");
}

#[test]
fn without_java_there_is_no_kafka() {
    let folder = TempDir::new().unwrap();
    let output = benchmarks(folder.path(), &["kafka", "--quick"]).env("PATH", "").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    let (_, error) = error.split_once('\n').unwrap();
    assert!(error.starts_with("benchmarks: Apache Kafka cannot run here: there is no java on the PATH; "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn an_interrupted_run_leaves_no_process_and_no_file() {
    let mut running = Running::start();
    running.signal(Signal::INT);
    assert_eq!(running.process.wait().unwrap().code(), Some(1));
    running.until(|running| running.servers().is_empty());
    assert_eq!(std::fs::read_dir(running.folder.path()).unwrap().count(), 0);
}

#[test]
fn a_killed_run_leaves_no_process() {
    let mut running = Running::start();
    running.signal(Signal::KILL);
    assert_eq!(running.process.wait().unwrap().signal(), Some(9));
    running.until(|running| running.servers().is_empty());
}

#[test]
fn a_server_that_dies_fails_the_run() {
    let running = Running::start();
    for server in running.servers() {
        kill_process(server, Signal::KILL).unwrap();
    }
    let output = running.output();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("Identity map, 100 B, equal settings, round 1, h2: "), "{error}");
}

/// A run that would take minutes, with its server up.
struct Running {
    process: Child,
    folder: TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let arguments = ["map", "--only", "h2", "--size", "100", "--seconds", "100"];
        let process =
            benchmarks(folder.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Self { process, folder };
        let mut line = String::new();
        BufReader::with_capacity(1, running.process.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("round 1 of 5: h2"), "{line}");
        running.until(|running| running.server_listens());
        assert_eq!(running.servers().len(), 1);
        running
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn output(mut self) -> Output {
        let stderr = self.process.stderr.take().unwrap();
        let status = self.process.wait().unwrap();
        let stderr = BufReader::new(stderr).lines().map(|line| line.unwrap() + "\n").collect::<String>().into();
        Output { status, stdout: Vec::new(), stderr }
    }

    fn server_listens(&self) -> bool {
        let folders = std::fs::read_dir(self.folder.path()).unwrap();
        folders.filter_map(Result::ok).any(|folder| folder.path().join("s.sock").exists())
    }

    /// The servers of this run: they have its folder in their arguments.
    fn servers(&self) -> Vec<Pid> {
        let folder = self.folder.path().to_str().unwrap();
        let processes =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        processes
            .filter(|process| {
                let arguments = std::fs::read(PathBuf::from("/proc").join(process).join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&arguments).contains(folder)
            })
            .filter_map(|process| Pid::from_raw(process.parse().ok()?))
            .collect()
    }

    /// Looks until it is so. Processes that are not this one's own children say nothing when they end.
    fn until(&self, condition: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self) {
            assert!(started.elapsed() < Duration::from_secs(30), "it never came to that");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
