//! A partition that has no leader: nobody can say where to begin with it.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use serde_json::Value;
use udf_server::kafka::Start;

use crate::endpoint::Endpoint;
use crate::harness::{self, PATIENCE, Platform, TOPIC};

/// How many partitions there are.
const PARTITIONS: i32 = 3;

/// It is not read, the others are, and it begins where the group was told to once it has a leader.
pub(crate) async fn a_partition_without_a_leader_holds_up_no_other() {
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    harness::fill_partitions(&brokers, 0..PARTITIONS, 0, 5);
    cluster.partition_leader(TOPIC, 0, None).unwrap();

    let source = harness::start_with(harness::config(&brokers).with_start(Start::Latest)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let is_begun = |number: usize, page: &Value| page["partitions"][number]["commit_point"] == 5;
    let waits = |page: &Value| page["partitions"][0]["waits"].as_str().is_some_and(|it| it.contains("no leader"));
    let is_but_for_one = |page: &Value| waits(page) && (1..3).all(|number| is_begun(number, page));
    let page = endpoint.until("read but for one", is_but_for_one).await;
    let partition = &page["partitions"][0];
    assert_eq!(partition["commit_point"], Value::Null, "nothing of it can be committed");
    let is_named = |page: &Value| page["unanswered_partitions"][0]["partition"] == 0;
    let page = endpoint.until("named", is_named).await;
    assert_eq!(page["unanswered_partitions"].as_array().unwrap().len(), 1, "{page:#}");
    let (status, reason) = endpoint.get("/readyz").await;
    assert!(
        status == 503 && reason.contains(&format!("{TOPIC}:0 is not read yet: the partition has no leader")),
        "{reason}"
    );
    assert_eq!(platform.client.pending().await.unwrap(), None, "of one partition nothing is known");
    harness::fill_partitions(&brokers, 1..PARTITIONS, 5, 1);
    let messages = platform.read_all(2).await;
    let values = |messages: &[numaflow_sdk::source::Message]| {
        let mut values: Vec<_> = messages.iter().map(|it| str::from_utf8(it.value()).unwrap().to_owned()).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(&messages), ["1:5", "2:5"]);
    platform.ack(&messages).await;

    cluster.partition_leader(TOPIC, 0, Some(1)).unwrap();
    endpoint.until("begun", |page| is_begun(0, page) && page["partitions"][0]["waits"].is_null()).await;
    harness::fill_partitions(&brokers, 0..1, 5, 1);
    let messages = platform.read_all(1).await;
    assert_eq!(values(&messages), ["0:5"], "it begins where the group was told to");
    platform.ack(&messages).await;
    endpoint.until("done", |page| page["pending"] == 0).await;
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    endpoint.becomes_ready().await;
    assert!(source.close(PATIENCE).await);
}
