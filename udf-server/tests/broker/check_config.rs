//! `check-config --connect` against Apache Kafka: topics, the dead-letter topic, limits and rights.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Guarded, Stage};

/// The exit code and the lines about topics and the group: outcome, what was found, what to do.
fn check(brokers: &str, topics: &str, more: &[&str]) -> (Option<i32>, Vec<(String, String, String)>) {
    let output = Command::new(env!("CARGO_BIN_EXE_udf-server"))
        .args(["check-config", "--connect", "--json", "--brokers", brokers, "--topics", topics, "--group", "readers"])
        .args(more)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = report["connection"].as_array().unwrap();
    let is_late = |step: &&Value| matches!(step["step"].as_str(), Some("metadata" | "group"));
    let lines =
        steps.iter().filter(is_late).map(|step| (text(&step["outcome"]), text(&step["detail"]), text(&step["advice"])));
    (output.status.code(), lines.collect())
}

/// What is said with this outcome.
fn with<'a>(outcome: &str, lines: &'a [(String, String, String)]) -> Vec<(&'a str, &'a str)> {
    let of = lines.iter().filter(|line| line.0 == outcome);
    of.map(|(_, detail, advice)| (detail.as_str(), advice.as_str())).collect()
}

pub(crate) async fn the_dead_letter_topic_is_checked_for_what_it_is_for(stage: Stage) {
    let (other, dead) = (stage.beside("other"), stage.beside("dead"));
    stage.create_topic(1).await;
    other.create_topic_with(1, &[("max.message.bytes", "5000")]).await;
    // Its partitions have no ids, as it is none of the topics that are read.
    dead.create_topic_with(2, &[("max.message.bytes", "2000000")]).await;
    let topics = format!("{},{}", stage.topic, other.topic);
    let (code, lines) = check(&stage.address, &topics, &["--dead-letter-topic", &dead.topic]);
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(lines.iter().all(|line| line.0 == "ok"), "{lines:?}");

    let small = stage.beside("small");
    small.create_topic_with(1, &[("max.message.bytes", "6000")]).await;
    let (code, lines) = check(&stage.address, &topics, &["--dead-letter-topic", &small.topic]);
    assert_eq!(code, Some(0), "a warning is no failure: {lines:?}");
    let warnings = with("warning", &lines);
    assert_eq!(warnings.len(), 1, "{lines:?}");
    let (detail, advice) = warnings[0];
    assert!(detail.contains("takes records of 6000 bytes") && detail.contains("1048588"), "{detail}");
    assert!(advice.contains("set max.message.bytes of"), "{advice}");
    let (code, lines) = check(&stage.address, &other.topic, &["--dead-letter-topic", &small.topic]);
    assert_eq!((code, with("warning", &lines).len()), (Some(0), 1), "with its headers it may be too large: {lines:?}");
}

pub(crate) async fn a_right_that_is_missing_is_named(_: Stage) {
    let broker = Guarded::start();
    let (input, dead) = (broker.stage("input"), broker.stage("dead"));
    input.create_topic(1).await;
    dead.create_topic_with(1, &[("max.message.bytes", "2000000")]).await;
    let allow = |rights: &[&str]| broker.allow(rights);
    let check = || {
        let properties = Guarded::login().map(|(name, value)| format!("{name}={value}"));
        let more: Vec<&str> = properties.iter().flat_map(|property| ["--property", property]).collect();
        check(&broker.address(), "input", &[&more[..], &["--dead-letter-topic", "dead"]].concat())
    };
    let failed = |(code, lines): &(Option<i32>, Vec<(String, String, String)>), rights: &[&str]| {
        let failed = with("failed", lines);
        assert_eq!((*code, failed.len()), (Some(1), rights.len()), "{lines:?}");
        for ((detail, advice), right) in failed.iter().zip(rights) {
            assert!(detail.contains(&format!("the right {right} is missing")), "{detail}");
            assert_eq!(*advice, format!("allow {right} to this user"));
        }
    };
    allow(&["--operation", "Describe", "--topic", "input", "--topic", "dead"]);
    failed(&check(), &["READ on TOPIC input", "WRITE on TOPIC dead"]);
    allow(&["--operation", "Read", "--topic", "input"]);
    allow(&["--operation", "Write", "--topic", "dead"]);
    failed(&check(), &["READ on GROUP readers"]);
    allow(&["--operation", "Describe", "--group", "readers"]);
    failed(&check(), &["READ on GROUP readers"]);
    allow(&["--operation", "Read", "--group", "readers"]);
    let (code, lines) = check();
    assert_eq!((code, with("failed", &lines).len()), (Some(0), 0), "{lines:?}");
}
