//! Topics that change while they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::producer::Producer as _;
use tokio::time::Instant;
use udf_server::kafka::{KafkaSource, Start};

use crate::harness::{PATIENCE, Platform, Stage, deadline, everywhere, start};

pub(crate) async fn a_topic_that_is_made_anew_is_read_from_its_beginning(stage: Stage) {
    let (source, _platform) = made_anew(&stage).await;
    assert_eq!(source.unknown_acks(), 0);
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_topic_that_is_made_anew_is_committed_anew(stage: Stage) {
    let (source, mut platform) = made_anew(&stage).await;
    // What was committed of the former topic may stand for a while.
    let (sampler, deadline) = (stage.sampler(2), deadline());
    let all = BTreeMap::from([(0, 5), (1, 5)]);
    while sampler.committed() != all {
        assert!(Instant::now() < deadline, "committed {:?}", sampler.committed());
    }
    // Nor does it come again, when the source looks for markers of transactions behind the records that are done, and when
    // it asks for the topic's id, which it does every five seconds.
    assert!(platform.read(10, Duration::from_secs(7)).await.is_empty());
    assert!(source.close(PATIENCE).await);
    assert_eq!(sampler.committed(), all, "records that are still to come would be passed over");
}

/// A source whose topic was deleted and made anew, with all acked of both: first 20, then 5 records of each partition.
async fn made_anew(stage: &Stage) -> (KafkaSource, Platform) {
    stage.create_topic(2).await;
    stage.fill(2, 0, 20);
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(40).await;
    platform.ack(&messages).await;
    stage.sampler(2).wait_for(&everywhere(2, 20));

    stage.delete_topic().await;
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    assert!(platform.client.is_ready().await.unwrap());
    stage.create_topic(2).await;
    stage.fill(2, 0, 5);
    let messages = platform.read_all(10).await;
    let expected: Vec<_> = (0..2).flat_map(|partition| (0..5).map(move |number| (partition, number))).collect();
    assert_eq!(stage.places(&messages), expected);
    platform.ack(&messages).await;
    (source, platform)
}

pub(crate) async fn partitions_that_are_added_are_read_from_their_beginning(stage: Stage) {
    added(&stage, Start::Earliest).await;
}

pub(crate) async fn partitions_that_are_added_lose_nothing_to_a_start_with_the_latest(stage: Stage) {
    added(&stage, Start::Latest).await;
}

/// Adds partitions and fills them before the source can know of them.
async fn added(stage: &Stage, from: Start) {
    stage.create_topic(2).await;
    let source = start(stage.config().with_start(from)).await;
    let mut platform = Platform::connect(&source).await;
    platform.wait_for_partitions(2).await;
    // Where "latest" is, is known for sure only when something has come.
    let (mut begun, mut produced) = (BTreeSet::new(), 0);
    while begun.len() < 2 {
        stage.fill(2, produced, 1);
        produced += 1;
        let messages = platform.read_and_ack().await;
        begun.extend(stage.places(&messages).into_iter().map(|(partition, _)| partition));
    }

    stage.grow_topic(4).await;
    let producer = stage.producer();
    for number in 0..10 {
        for partition in 2..4 {
            stage.send(&producer, partition, &format!("{partition}:{number}"));
        }
    }
    producer.flush(PATIENCE).unwrap();
    let mut messages = Vec::new();
    while messages.len() < 20 {
        messages.extend(platform.read_all(1).await);
        // What of the first ones came late.
        messages.retain(|message| stage.place(message).0 >= 2);
    }
    let expected: Vec<_> = (2..4).flat_map(|partition| (0..10).map(move |number| (partition, number))).collect();
    assert_eq!(stage.places(&messages), expected);
    platform.ack(&messages).await;
    assert_eq!(platform.assigned().await, 4);
    assert!(source.close(PATIENCE).await);
    assert_eq!(stage.sampler(4).committed()[&3], 10);
}
