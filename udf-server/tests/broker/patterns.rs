//! Topics that are found by a pattern.

use std::time::Duration;

use tokio::time::Instant;
use udf_server::kafka::Start;

use crate::harness::{PATIENCE, Platform, Stage, deadline, everywhere, start};

/// The group begins with what comes; but of a topic that comes later everything is read.
pub(crate) async fn topics_that_match_are_read_also_those_that_come_later(stage: Stage) {
    let [first, second, later, dead, other] = ["1", "2", "3", "dead", "no"].map(|name| stage.beside(name));
    for stage in [&first, &second, &dead, &other] {
        stage.create_topic(2).await;
        stage.fill(2, 0, 5);
    }
    let pattern = format!("^{}[.](dead|[0-9])$", stage.topic);
    let config = stage.config().with_topics([pattern]).with_replica_id(7).with_start(Start::Latest);
    let source = start(config.with_dead_letter_topic(&dead.topic)).await;
    let mut platform = Platform::connect(&source).await;
    let partitions = platform.client.partitions().await.unwrap();
    assert_eq!((partitions.active, partitions.total), (vec![7], None));
    for stage in [&first, &second] {
        stage.sampler(2).wait_for(&everywhere(2, 5));
    }

    later.create_topic(2).await;
    later.fill(2, 0, 5);
    let messages = platform.read_all(10).await;
    let topic = |message: &numaflow_sdk::source::Message| {
        let token = str::from_utf8(message.offset().as_bytes()).unwrap();
        assert_eq!(message.offset().partition_id(), 7);
        token.split(':').next().unwrap().to_owned()
    };
    assert!(messages.iter().all(|message| topic(message) == later.topic), "{messages:?}");
    platform.ack(&messages).await;
    later.sampler(2).wait_for(&everywhere(2, 5));

    for stage in [&first, &second, &later, &dead, &other] {
        stage.fill(2, 5, 1);
    }
    let messages = platform.read_all(6).await;
    let mut topics: Vec<_> = messages.iter().map(topic).collect();
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics, [&*first.topic, &second.topic, &later.topic]);
    platform.nack(&messages[..1], numaflow_sdk::NackOptions::new()).await;
    let again = platform.read_all(1).await;
    assert_eq!(again[0].offset(), messages[0].offset());
    platform.ack(&messages).await;
    for stage in [&first, &second, &later] {
        stage.sampler(2).wait_for(&everywhere(2, 6));
    }
    let deadline = deadline();
    while platform.client.pending().await.unwrap() != Some(0) {
        assert!(Instant::now() < deadline, "{:?} pending", platform.client.pending().await.unwrap());
        assert!(platform.read(1, Duration::from_millis(50)).await.is_empty());
    }
    assert!(source.close(PATIENCE).await);
}
