//! `check-config`: mistakes, what would be used, and the way to the brokers.

use std::net::TcpListener;
use std::path::Path;

use rdkafka::mocking::MockCluster;
use serde_json::Value;

use crate::harness::{GROUP, Said, TOPIC, file, run};

fn check(arguments: &[&str]) -> Said {
    run(&[&["check-config"], arguments].concat(), &[])
}

/// Tries the way to these brokers; the steps with their outcomes, and all of the report.
fn tried(brokers: &str, topics: &str, more: &[&str]) -> (Option<i32>, Vec<(String, String)>, Value) {
    let arguments = ["--brokers", brokers, "--topics", topics, "--group", GROUP, "--connect", "--json"];
    let said = check(&[&arguments, more].concat());
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = report["connection"].as_array().unwrap();
    let steps = steps.iter().map(|step| (text(&step["step"]), text(&step["outcome"]))).collect();
    assert_eq!(report["ok"], said.code == Some(0), "{said:?}");
    (said.code, steps, report)
}

fn steps<const N: usize>(steps: [(&str, &str); N]) -> Vec<(String, String)> {
    steps.into_iter().map(|(step, outcome)| (step.to_owned(), outcome.to_owned())).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_mistake_is_told_at_once() {
    let yaml = file(
        "topics: [orders, orders]\nlinger: soon\ngrop: x\non-exhausted: dead-letter\nrevoke-timeout: 10m\n\
         static-member: true\nmax-in-flight: none\nlog-format: xml\n\
         properties: {group.id: g, fetch.wiat.max.ms: 1, sasl.oauthbearer.config: {}}\n",
    );
    let said = run(&["check-config", path(yaml.path())], &[("NUMAFLOW_RUNTIME", "haskell")]);
    assert_eq!(said.code, Some(64), "{said:?}");
    for mistake in [
        "brokers is not set",
        "group is not set",
        "has \"orders\" twice",
        "is \"soon\"; give a time",
        "grop in ",
        "on-exhausted is dead-letter, and there is no topic for it",
        "revoke-timeout is 600s, and at most a tenth of max.poll.interval.ms",
        "static-member needs the number of the replica",
        "is \"none\"; give a whole number",
        "is \"xml\"; give text or json",
        "the property group.id cannot be set: it is set by --group",
        "the property fetch.wiat.max.ms is not accepted",
        "the property sasl.oauthbearer.config is not a text",
        "NUMAFLOW_RUNTIME is \"haskell\", which is not a known runtime (known: rust)",
    ] {
        assert!(said.err.contains(mistake), "{mistake} is missing from: {}", said.err);
    }
    assert_eq!(said.err.lines().count(), 14, "{}", said.err);
    assert_eq!(said.out, "", "nothing would be used");
}

#[test]
fn mistakes_are_told_to_programs_too() {
    let said = check(&["--brokers", "b:1", "--json"]);
    assert_eq!(said.code, Some(64));
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&report["ok"], report["mistakes"].as_array().unwrap().len()), (&Value::Bool(false), 2), "{report}");
}

#[test]
fn what_would_be_used_is_shown_without_secrets() {
    let secret = file("hunter2\n");
    let yaml = file(&format!(
        "brokers: 127.0.0.1:1\ntopics: [orders]\n\
         properties: {{security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: me}}\n\
         properties-from-files: {{sasl.password: {}}}\n",
        path(secret.path())
    ));
    let arguments = ["check-config", path(yaml.path()), "--linger", "5ms", "--property", "ssl.key.password=hunter2"];
    let said = run(&arguments, &[("UDF_GROUP", "readers"), ("UDF_DRAIN_TIMEOUT", "20s")]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let line = |name: &str| {
        let line = said.out.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("brokers"), format!("127.0.0.1:1 brokers in {}", path(yaml.path())));
    assert_eq!(line("group"), "readers UDF_GROUP");
    assert_eq!(line("linger"), "5ms --linger");
    assert_eq!(line("start"), "earliest default");
    assert_eq!(line("drain-timeout"), "20s UDF_DRAIN_TIMEOUT");
    assert_eq!(line("socket"), "/var/run/numaflow/source.sock default");
    assert_eq!(line("sasl.username"), format!("me properties in {}", path(yaml.path())));
    assert_eq!(line("sasl.password"), format!("(hidden) {}", path(secret.path())));
    assert_eq!(line("ssl.key.password"), "(hidden) --property");
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
}

#[test]
fn what_the_library_refuses_only_together_is_a_mistake() {
    let property = ["--property", "session.timeout.ms=400000"];
    let said = check(&[&["--brokers", "b:1", "--topics", "t", "--group", "g"][..], &property].concat());
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.err.contains("`max.poll.interval.ms`must be >= `session.timeout.ms`"), "{}", said.err);
}

#[test]
fn a_connection_that_works_is_told_step_by_step() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 3, 1).unwrap();
    let brokers = format!("127.0.0.1:1,{}", cluster.bootstrap_servers());
    let (code, found, report) = tried(&brokers, TOPIC, &[]);
    let expected = [
        ("resolve", "ok"),
        ("resolve", "ok"),
        // One that is away does no harm.
        ("connect", "failed"),
        ("connect", "ok"),
        ("tls", "skipped"),
        ("sasl", "skipped"),
        ("metadata", "ok"),
        ("metadata", "ok"),
        ("group", "ok"),
    ];
    assert_eq!((code, found), (Some(0), steps(expected)), "{report}");
    let group = report["connection"].as_array().unwrap().last().unwrap();
    assert!(group["detail"].as_str().unwrap().contains("committed offsets of 0 of 3 partitions"), "{group}");
}

#[test]
fn brokers_that_are_not_there_fail_first() {
    let (code, found, report) = tried("127.0.0.1:1,no-such-host.invalid:1", TOPIC, &[]);
    let expected = [
        ("resolve", "ok"),
        ("resolve", "failed"),
        ("connect", "failed"),
        ("tls", "skipped"),
        ("sasl", "skipped"),
        ("metadata", "skipped"),
        ("group", "skipped"),
    ];
    assert_eq!((code, found), (Some(1), steps(expected)), "{report}");
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 3, 1).unwrap();
    let more = ["--dead-letter-topic", "dead"];
    let (code, found, report) = tried(&cluster.bootstrap_servers(), TOPIC, &more);
    assert_eq!(code, Some(1));
    assert_eq!(
        found[4..],
        steps([("metadata", "ok"), ("metadata", "ok"), ("metadata", "failed"), ("group", "skipped")])
    );
    let missing = &report["connection"][6];
    assert!(missing["detail"].as_str().unwrap().contains("there is no topic dead"), "{missing}");
    assert!(missing["advice"].as_str().unwrap().contains("create it"), "{missing}");
}

#[test]
fn a_broker_without_tls_fails_at_tls() {
    let cluster = MockCluster::new(1).unwrap();
    let more = ["--property", "security.protocol=ssl", "--connect-timeout", "5s"];
    let (code, found, report) = tried(&cluster.bootstrap_servers(), TOPIC, &more);
    assert_eq!((code, &found[2]), (Some(1), &("tls".to_owned(), "failed".to_owned())), "{report}");
    assert_eq!(found[3..], steps([("sasl", "skipped"), ("metadata", "skipped"), ("group", "skipped")]));
}

#[test]
fn a_broker_that_hangs_up_may_want_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Goes on until the test's process ends.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let (code, found, report) = tried(&address, TOPIC, &["--connect-timeout", "1s"]);
    assert_eq!((code, &found[2]), (Some(1), &("tls".to_owned(), "failed".to_owned())), "{report}");
    let advice = report["connection"][2]["advice"].as_str().unwrap();
    assert!(advice.contains("set security.protocol to ssl, sasl_ssl or sasl_plaintext"), "{advice}");
}
