//! How often the client is polled. A group gives a member up that does not poll for `max.poll.interval.ms`.

use std::time::Duration;

use numaflow_sdk::source::ReadRequest;
use rdkafka::mocking::MockCluster;
use serde_json::Value;
use udf_server::kafka::{KafkaSource, Start};

use crate::endpoint::Endpoint;
use crate::harness::{self, PARTITIONS, PATIENCE, Platform, TOPIC};

/// In the library's test cluster there is one broker, and this is its name.
const BROKER: i32 = 1;
/// How long an answer of the broker takes.
const TRIP: Duration = Duration::from_millis(1_100);
/// The most that may be between two polls, in seconds.
const BOUND: f64 = 1.0;

/// Everything that takes time takes longer than may be between two polls: where to begin is looked up, records are read,
/// commits are answered and the broker is away while a platform leaves a read as it is.
pub(crate) async fn a_slow_platform_and_slow_brokers_do_not_keep_the_client_from_being_polled() {
    let cluster = MockCluster::new(BROKER).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let addresses = cluster.bootstrap_servers();
    let config = harness::config(&addresses).with_start(Start::Latest);
    let source = tokio::task::spawn_blocking(move || KafkaSource::start(config)).await.unwrap().unwrap();
    let slow = |slow| cluster.broker_round_trip_time(BROKER, if slow { TRIP } else { Duration::ZERO }).unwrap();
    slow(true);
    let endpoint = Endpoint::of(&source);
    let mut platform = Platform::connect(&source).await;
    let mut watch = endpoint.until("assigned", |page| page["state"] == "assigned").await;
    assert!(gap(&watch) < BOUND, "{} s without a poll while it was looked up where to begin", gap(&watch));

    slow(false);
    harness::fill(&addresses, 0, 100);
    let messages = platform.read_all(500).await;
    slow(true);
    // Nobody takes what this read brings.
    platform.reads.request(ReadRequest::new(500, PATIENCE)).await.unwrap();
    for (acked, away) in [(0..200, false), (200..500, true)] {
        let before = watch["totals"]["commits"].as_u64();
        if away {
            cluster.broker_down(BROKER).unwrap();
            endpoint.until("told", |page| page["last_broker_error"] != Value::Null).await;
        }
        platform.ack(&messages[acked]).await;
        if away {
            // It takes a dozen questions to find back.
            slow(false);
            cluster.broker_up(BROKER).unwrap();
        }
        watch = endpoint.until("committed", |page| page["totals"]["commits"].as_u64() > before).await;
    }
    assert!(gap(&watch) > 0.0 && gap(&watch) < BOUND, "{} s without a poll", gap(&watch));
    drop(platform);
    assert!(source.close(PATIENCE).await);
}

fn gap(page: &Value) -> f64 {
    page["longest_poll_gap"].as_f64().unwrap()
}
