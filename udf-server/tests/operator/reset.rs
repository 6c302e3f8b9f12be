//! `kafka-source reset`: shown first, done when told to, refused while anybody is in the group.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::harness::{GROUP, Said, TOPIC, file, fill, run};

const PATIENCE: Duration = Duration::from_secs(40);

fn reset(brokers: &str, arguments: &[&str]) -> Said {
    let settings = ["kafka-source", "reset", "--brokers", brokers, "--topics", TOPIC, "--group", GROUP];
    run(&[&settings, arguments].concat(), &[])
}

/// What the group has committed of the topic's two partitions.
fn committed(brokers: &str) -> [Offset; 2] {
    [0, 1].map(|partition| commits(brokers).find_partition(TOPIC, partition).unwrap().offset())
}

fn commits(brokers: &str) -> TopicPartitionList {
    let config = ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", GROUP).clone();
    let consumer: BaseConsumer = config.create().unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_range(TOPIC, 0, 1);
    consumer.committed_offsets(partitions, PATIENCE).unwrap()
}

/// The cells of a partition's line.
fn line(said: &Said, partition: &str) -> String {
    let mut lines = said.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|cells| cells.first() == Some(&TOPIC) && cells.get(1) == Some(&partition)).unwrap()[2..].join(" ")
}

#[test]
fn it_is_shown_first_and_done_when_told_to() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 50);

    let said = reset(&brokers, &["--to", "latest"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        (line(&said, "0"), line(&said, "1")),
        ("nothing 50 50 skipped".to_owned(), "nothing 0 stays".to_owned())
    );
    assert!(said.out.contains("Nothing was changed: give --yes to do it."), "{}", said.out);
    assert_eq!(committed(&brokers), [Offset::Invalid; 2]);

    let said = reset(&brokers, &["--to", "latest", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("Done: the group readers goes on from there."), "{}", said.out);
    assert_eq!(committed(&brokers), [Offset::Offset(50), Offset::Offset(0)]);

    let said = reset(&brokers, &["--to", "20", "--topic", "orders:0", "--yes"]);
    assert_eq!((said.code, line(&said, "0")), (Some(0), "50 20 30 read again".to_owned()), "{said:?}");
    assert_eq!(committed(&brokers), [Offset::Offset(20), Offset::Offset(0)]);
    let commits = commits(&brokers);
    let marks: Vec<_> = commits.elements().iter().map(|element| element.metadata().to_owned()).collect();
    assert_eq!(marks, ["partitions at the group's start: 2"; 2], "a source takes them for its own group's");
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 50);
    for (arguments, problem) in [
        (
            &["--to", "51", "--topic", "orders:0"][..],
            "the partition orders:0 has offsets from 0 to 50, and 51 is none of them",
        ),
        (&["--to", "latest", "--topic", "invoices"], "no topic invoices is read"),
        (&["--to", "latest", "--topic", "orders:2"], "no topic orders with a partition 2 is read"),
        (&["--to", "yesterday"], "--to is \"yesterday\"; give earliest, latest"),
    ] {
        let said = reset(&brokers, &[arguments, &["--yes"]].concat());
        assert_eq!(said.code, Some(64), "{said:?}");
        assert!(said.err.contains(problem), "{}", said.err);
    }
    assert_eq!(committed(&brokers), [Offset::Invalid; 2]);
}

#[test]
fn it_is_refused_while_anybody_is_in_the_group() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 50);
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", GROUP)
        .set("session.timeout.ms", "4000")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    member.subscribe(&[TOPIC]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while member.assignment().unwrap().count() == 0 {
        assert!(Instant::now() < deadline);
        member.poll(Duration::from_millis(50));
    }
    let said = reset(&brokers, &["--to", "latest", "--yes"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("nothing was changed: the group readers has members"), "{}", said.err);
    assert_eq!(committed(&brokers), [Offset::Invalid; 2]);
}

#[test]
fn the_settings_of_the_source_serve_it() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 2, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 50);
    let yaml = file(&format!(
        "brokers: {brokers}\ntopics: orders\ngroup: readers\nstart: latest\nlinger: 5ms\nmax-in-flight-bytes: 64MiB\n\
         log-format: json\nstatic-member: true\nruntimes: {{other: [other]}}\n"
    ));
    let file = yaml.path().to_str().unwrap();
    let said = run(&["kafka-source", "reset", "--to", "earliest", "--config", file], &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    // As the group would have begun at the end.
    assert_eq!(line(&said, "0"), "nothing 0 50 read again");
}
