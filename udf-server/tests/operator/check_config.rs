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
        "item 2, line 1: give each item of the list once",
        "line 2: give a time",
        "line 3: the key is not a setting of this command; did you mean group?",
        "on-exhausted is dead-letter, and there is no topic for it",
        "revoke-timeout is longer than a tenth of max.poll.interval.ms, here 30s",
        "static-member needs the number of the replica",
        "line 7: is not a setting of this command, but of others",
        "line 8: give text or json",
        "the property group.id cannot be set: it is set by --group",
        "line 9: the key is not a property of librdkafka",
        "line 9: the value is not a text, a number or true or false",
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
fn what_is_no_address_is_a_mistake() {
    for brokers in
        ["127.0.0.1:99999", "a:1;b:2", "http://k:9092", "${BROKERS}", "a:1 b:2", "SASL_SSL://k:9092", "a:1,,b:2"]
    {
        let said = check(&["--brokers", brokers, "--topics", "a", "--group", "g"]);
        assert_eq!(said.code, Some(64), "{brokers}: {said:?}");
        assert!(said.err.starts_with("error: --brokers") && said.err.contains("give "), "{}", said.err);
    }
    let said = check(&["--brokers", "[::1]:9092,k", "--topics", "a", "--group", "g"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn scalars_are_used_as_they_stand_in_the_file() {
    let yaml = file(
        "brokers: 127.0.0.1:23092\ntopics: [0017, '^a{1,2}$']\ngroup: 1.10\nsocket-mode: 0660\npartition-ids: replica\n\
         properties:\n  client.id: 007\n  client.rack: 0x10\n  security.protocol: sasl_plaintext\n  sasl.mechanism: PLAIN\n  \
         sasl.username: 00123\n  sasl.password: 012345\n",
    );
    let said = run(&["check-config", path(yaml.path()), "--json"], &[("NUMAFLOW_REPLICA", "0")]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let value = |section: &str, name: &str| {
        let settings = report[section].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap()["value"].as_str().map(str::to_owned)
    };
    assert_eq!(value("kafka", "topics").as_deref(), Some("0017,^a{1,2}$"));
    assert_eq!(value("kafka", "group").as_deref(), Some("1.10"));
    assert_eq!(value("server", "socket-mode").as_deref(), Some("0660"));
    assert_eq!(value("properties", "client.id").as_deref(), Some("007"));
    assert_eq!(value("properties", "client.rack").as_deref(), Some("0x10"));
    assert_eq!(value("properties", "sasl.username").as_deref(), Some("00123"));
    assert_eq!(value("properties", "sasl.password"), None);
}

#[test]
fn a_mistake_in_yaml_shows_no_secret_anywhere() {
    for broken in [
        "sasl.password: %hunter2",
        "sasl.password: 'hunter2",
        " sasl.password: hunter2",
        "sasl.password: hunter2\n  sasl.password: hunter2",
        "sasl.password: hunter2: hunter2",
        "sasl.password: {hunter2: hunter2}",
        "sasl.password: !hunter2",
        "fetch.min.bytes: hunter2",
    ] {
        let yaml = file(&format!("brokers: b:1\ntopics: t\ngroup: g\nproperties:\n  client.id: me\n  {broken}\n"));
        for arguments in [
            &["check-config", path(yaml.path())][..],
            &["check-config", path(yaml.path()), "--json"],
            &["kafka-source", "--config", path(yaml.path())],
            &["kafka-source", "reset", "--to", "earliest", "--config", path(yaml.path())],
        ] {
            let said = run(arguments, &[("RUST_LOG", "trace")]);
            assert_eq!(said.code, Some(64), "{broken}: {said:?}");
            assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
            assert!(said.err.contains("line "), "{said:?}");
        }
    }
}

#[test]
fn a_file_without_end_is_refused() {
    let said = check(&["/dev/zero"]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert_eq!(
        said.err,
        "error: the file /dev/zero cannot be read: it is larger than 1024 KiB, which no settings are\n"
    );
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_as_at_the_start() {
    let socket = format!("./{}.sock", "a".repeat(130));
    let settings = ["--brokers", "k:1", "--topics", "a", "--group", "g", "--socket", &socket];
    let checked = check(&settings);
    let started = run(&[&["kafka-source"], &settings[..]].concat(), &[]);
    assert_eq!((checked.code, started.code), (Some(64), Some(64)));
    assert_eq!(checked.err, started.err);
    assert!(checked.err.contains("it has 137 bytes, and the system allows 107"), "{}", checked.err);
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
