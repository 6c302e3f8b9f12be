//! What the group commits, seen from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use numaflow_sdk::source::Message;
use rdkafka::producer::Producer;
use serde_json::Value;
use udf_server::kafka::{Durability, Start};

use crate::endpoint::Endpoint;
use crate::harness::{Guarded, PATIENCE, Platform, Stage, bounds, everywhere, start};

/// Every third record last, and backwards: as far from in order as it gets.
fn shuffled(messages: &[Message]) -> Vec<&Message> {
    let (thirds, rest): (Vec<_>, Vec<_>) = messages.iter().enumerate().partition(|(index, _)| index % 3 == 0);
    rest.into_iter().rev().chain(thirds).map(|(_, message)| message).collect()
}

/// With gaps between the records: each transaction leaves a marker, those aborted their records, too.
pub(crate) async fn acks_out_of_order_never_commit_past_the_smallest_unacked(stage: Stage) {
    stage.create_topic(3).await;
    let producer = stage.transactions();
    for transaction in 0..6 {
        producer.begin_transaction().unwrap();
        for number in 0..30 {
            stage.send(&producer, number % 3, "value");
        }
        producer.flush(PATIENCE).unwrap();
        match transaction % 3 {
            0 => producer.abort_transaction(PATIENCE).unwrap(),
            _ => producer.commit_transaction(PATIENCE).unwrap(),
        }
    }
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(120).await;
    let delivered = stage.places(&messages);
    let sampler = stage.sampler(3);

    let mut acked = Vec::new();
    for chunk in shuffled(&messages).chunks(10) {
        platform.ack(chunk.iter().copied()).await;
        acked.extend(chunk.iter().map(|message| stage.place(message)));
        // Nothing is acked meanwhile, so whatever the samples see was committed for what is acked by now.
        sampler.wait_for(&bounds(&delivered, &acked));
    }
    assert_eq!(source.in_flight(), 0);
    assert!(source.close(PATIENCE).await);
    sampler.wait_for(&bounds(&delivered, &acked));
}

/// The brokers answer a commit for each partition, and the client library makes one answer of it.
pub(crate) async fn a_commit_that_is_refused_for_one_topic_holds_up_no_other(_: Stage) {
    let broker = Guarded::start();
    let [read, denied] = broker.two_topics().await;
    for stage in [&read, &denied] {
        // Where the group begins, behind the records, is committed at once.
        broker.allow(&["--operation", "Describe", "--topic", &stage.topic]);
    }
    broker.allow(&["--operation", "Read", "--topic", &read.topic, "--group", &read.group]);
    let config = broker
        .config(&read, &[&read.topic, &denied.topic])
        .with_start(Start::Latest)
        .with_ack_durability(Durability::Committed);
    let source = start(config).await;
    let endpoint = Endpoint::of(&source);
    let mut platform = Platform::connect(&source).await;
    platform.wait_for_partitions(2).await;
    read.fill(1, 5, 10);
    let messages = platform.read_all(10).await;
    // Each of them waits for its commit.
    for part in messages.chunks(5) {
        platform.ack(part).await;
    }
    assert_eq!(read.sampler(1).committed(), BTreeMap::from([(0, 15)]));
    let page = endpoint.until("failing", |page| page["failing_commits_age"] != Value::Null).await;
    let right = page["denied_right"].as_str().unwrap();
    assert!(right.starts_with("READ on the topic (") && right.contains(&denied.topic), "{right}");

    broker.allow(&["--operation", "Read", "--topic", &denied.topic]);
    denied.sampler(1).wait_for(&everywhere(1, 5));
    endpoint.until("commits go on", |page| page["failing_commits_age"] == Value::Null).await;
    assert!(source.close(PATIENCE).await);
}

/// The sidecar lives on, and what its former client had and did not ack belongs to the new one.
pub(crate) async fn a_main_container_that_comes_back_gets_everything_unacked_again(stage: Stage) {
    stage.create_topic(4).await;
    stage.fill(4, 0, 10);
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(40).await;
    let (acked, unacked): (Vec<_>, Vec<_>) = messages.iter().partition(|message| stage.place(message).1 < 4);
    platform.ack(acked).await;
    drop(platform);

    let mut platform = Platform::connect(&source).await;
    let again = platform.read_all(24).await;
    assert_eq!(stage.places(&again), stage.places(unacked.iter().copied()));
    for message in &again {
        let first = unacked.iter().find(|first| first.offset() == message.offset()).unwrap();
        assert_eq!(message.value(), first.value());
    }
    assert!(platform.read(10, Duration::from_millis(100)).await.is_empty(), "each came once");
    stage.sampler(4).wait_for(&everywhere(4, 4));
    platform.ack(&again).await;
    stage.sampler(4).wait_for(&everywhere(4, 10));
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_durable_ack_is_answered_after_its_commit(stage: Stage) {
    stage.create_topic(1).await;
    stage.fill(1, 0, 10);
    let config = stage.config().with_ack_durability(Durability::Committed);
    let source = start(config.clone()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(10).await;
    let sampler = stage.sampler(1);
    // Before anything is done there is nothing to wait for.
    platform.ack(&messages[1..2]).await;
    // One behind a record that is not done is answered, or the platform could not ack that one.
    for (acked, committed) in [(0..1, 2), (2..5, 5), (6..7, 5), (5..6, 7)] {
        platform.ack(&messages[acked]).await;
        assert_eq!(sampler.committed()[&0], committed, "at once");
    }
    assert!(source.close(PATIENCE).await);

    // Also where an earlier member has committed.
    let source = start(config).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(3).await;
    platform.ack(&messages[2..]).await;
    assert_eq!(sampler.committed()[&0], 7);
    platform.ack(&messages[..2]).await;
    assert_eq!(sampler.committed()[&0], 10);
    assert_eq!(source.unknown_acks(), 0);
    assert!(source.close(PATIENCE).await);
}

/// What was committed of the former topic is more, and says nothing.
pub(crate) async fn a_durable_ack_of_a_new_topic_waits_for_its_own_commit(stage: Stage) {
    stage.create_topic(1).await;
    stage.fill(1, 0, 20);
    let source = start(stage.config().with_ack_durability(Durability::Committed)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(20).await;
    platform.ack(&messages).await;
    stage.delete_topic().await;
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    stage.create_topic(1).await;
    stage.fill(1, 0, 5);
    let messages = platform.read_all(5).await;
    let sampler = stage.sampler(1);
    for acked in [0..2, 2..5] {
        let committed = i64::try_from(acked.end).unwrap();
        platform.ack(&messages[acked]).await;
        assert_eq!(sampler.committed()[&0], committed, "at once");
    }
    assert!(source.close(PATIENCE).await);
}
