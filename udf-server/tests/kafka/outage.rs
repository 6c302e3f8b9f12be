//! Brokers that are away: nothing fails, nothing is lost.

use std::time::Duration;

use rdkafka::mocking::MockCluster;

use crate::harness::{self, PARTITIONS, PATIENCE, Platform, Sampler, TOPIC, everywhere};

pub(crate) async fn a_broker_that_is_down_is_no_error_to_the_platform() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let addresses = cluster.bootstrap_servers();
    harness::fill(&addresses, 0, 10);
    let source = harness::start(&addresses).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(60).await;

    cluster.broker_down(-1).unwrap();
    assert!(platform.read(10, Duration::from_millis(300)).await.is_empty());
    platform.ack(&messages[..30]).await;
    assert!(platform.client.is_ready().await.unwrap());
    assert!(platform.client.pending().await.unwrap().is_some(), "the last known");

    cluster.broker_up(-1).unwrap();
    platform.ack(&messages[30..]).await;
    harness::fill(&addresses, 10, 5);
    let messages = platform.read_all(30).await;
    platform.ack(&messages).await;
    Sampler::new(&addresses).wait_for(&everywhere(15));
    assert!(source.close(PATIENCE).await);
}
