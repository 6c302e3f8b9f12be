//! Several members, and what the group as a whole has left.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use udf_server::kafka::{Brokers, KafkaConfig, KafkaSource};

use crate::harness::{self, GROUP, PATIENCE, Platform, Sampler, TOPIC, everywhere};

async fn read_and_ack(platform: &mut Platform) -> Vec<Bytes> {
    let messages = platform.read(500, Duration::from_millis(100)).await;
    platform.ack(&messages).await;
    messages.iter().map(|message| message.value().clone()).collect()
}

/// How many records there are in all partitions.
fn count(each: i64) -> usize {
    usize::try_from(each).unwrap() * 6
}

pub(crate) async fn members_hand_partitions_over_without_loss() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 100);
    let first = harness::start(broker.addresses()).await;
    let mut one = Platform::connect(&first).await;
    let messages = one.read_all(300).await;
    let mut seen: BTreeSet<_> = messages.iter().map(|message| message.value().clone()).collect();
    one.ack(&messages).await;

    let second = harness::start(broker.addresses()).await;
    let mut other = Platform::connect(&second).await;
    let deadline = Instant::now() + PATIENCE;
    // Records come all the while, until the second member has partitions of its own and everything is read.
    let mut produced = 100;
    let mut handed_over = false;
    while !handed_over || seen.len() < count(produced) {
        assert!(Instant::now() < deadline, "{} of {} messages came", seen.len(), count(produced));
        if !handed_over && seen.len() == count(produced) {
            harness::fill(broker.addresses(), produced, 10);
            produced += 10;
        }
        for platform in [&mut one, &mut other] {
            seen.extend(read_and_ack(platform).await);
        }
        handed_over = !other.client.partitions().await.unwrap().active.is_empty();
    }
    let ours = one.client.partitions().await.unwrap().active;
    let theirs = other.client.partitions().await.unwrap().active;
    assert!(ours.iter().all(|id| !theirs.contains(id)), "{ours:?} {theirs:?}");

    // The first leaves; the second takes over the rest and what comes.
    drop(one);
    assert!(first.close(PATIENCE).await);
    harness::fill(broker.addresses(), produced, 20);
    produced += 20;
    while seen.len() < count(produced) {
        assert!(Instant::now() < deadline, "{} of {} messages came", seen.len(), count(produced));
        seen.extend(read_and_ack(&mut other).await);
    }
    Sampler::new(broker.addresses()).wait_for(&everywhere(produced));
    assert!(second.close(PATIENCE).await);
}

pub(crate) async fn pending_counts_the_whole_group_and_comes_to_nothing() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 10);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let deadline = Instant::now() + PATIENCE;
    while platform.client.pending().await.unwrap().is_none() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(platform.client.pending().await.unwrap(), Some(60), "partitions that nobody reads yet count");
    let messages = platform.read_all(60).await;
    let partitions = platform.client.partitions().await.unwrap();
    assert_eq!((partitions.active, partitions.total), (vec![0, 1, 2, 3, 4, 5], Some(6)));
    assert_eq!(platform.client.pending().await.unwrap(), Some(60), "read is not done");
    platform.ack(&messages).await;
    assert_eq!(platform.client.pending().await.unwrap(), Some(0));
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_start_that_cannot_work_says_why() {
    let broker = harness::broker();
    let start = |addresses: &str, topic: &str, property: Option<(&str, &str)>| {
        let mut brokers = Brokers::new(addresses).with_connect_timeout(Duration::from_millis(700));
        if let Some((name, value)) = property {
            brokers = brokers.with_property(name, value);
        }
        let config = KafkaConfig::new(brokers, topic, GROUP);
        async move {
            let began = Instant::now();
            let error = tokio::task::spawn_blocking(|| KafkaSource::start(config)).await.unwrap().unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            error.to_string()
        }
    };
    let error = start("127.0.0.1:1", TOPIC, None).await;
    assert!(error.starts_with("no broker of 127.0.0.1:1 answered within 0.7 s"), "{error}");
    assert!(error.contains("onnect"), "the reason is told: {error}");
    let error = start(broker.addresses(), TOPIC, Some(("no.such.property", "1"))).await;
    assert!(error.contains("no.such.property"), "{error}");
}
