//! What the admin endpoint tells of the source: `/kafka`, `/metrics` and `/readyz`.

use std::time::Duration;

use numaflow_sdk::NackOptions;
use numaflow_sdk::source::{Message, NackOffset, Offset};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};
use udf_server::kafka::{Exhausted, KafkaConfig, KafkaSource};

use crate::endpoint::Endpoint;
use crate::harness::{self, PARTITIONS, PATIENCE, Platform, TOPIC, place};

/// A source, its platform, and those who operate it.
struct Watched {
    source: KafkaSource,
    platform: Platform,
    endpoint: Endpoint,
}

impl Watched {
    async fn start(config: KafkaConfig) -> Self {
        let source = tokio::task::spawn_blocking(move || KafkaSource::start(config)).await.unwrap().unwrap();
        Self { platform: Platform::connect(&source).await, endpoint: Endpoint::of(&source), source }
    }

    async fn metric(&self, sample: &str) -> f64 {
        let (_, page) = self.endpoint.get("/metrics").await;
        let start = format!("numaflow_udf_kafka_{sample} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        assert!(line.is_some(), "{sample} is missing from\n{page}");
        line.unwrap().parse().unwrap()
    }

    /// Of partition 0 of the topic.
    async fn of_partition(&self, name: &str) -> f64 {
        self.metric(&format!("{name}{{topic=\"numbers\",partition=\"0\"}}")).await
    }

    async fn nack(&self, offset: &Offset) {
        let options = NackOptions::new().with_delay(Duration::ZERO);
        self.platform.client.nack(vec![NackOffset::new(offset.clone(), options)]).await.unwrap();
    }
}

/// Those parts of a partition's status that are the same in every run.
fn steady(page: &Value) -> Value {
    let partition = &page["partitions"][0];
    let names =
        ["topic", "partition", "id", "position", "commit_point", "end", "lag", "held_records", "in_flight", "halted"];
    names.iter().map(|name| ((*name).to_owned(), partition[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn at(messages: &[Message], wanted: (i32, i64)) -> &Message {
    messages.iter().find(|message| place(message.offset()) == wanted).unwrap()
}

pub(crate) async fn the_page_and_the_metrics_follow_reads_acks_nacks_and_a_rebalance() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 10);
    // What is left unacked is not worth waiting for.
    let mut watched =
        Watched::start(harness::config(broker.addresses()).with_revoke_timeout(Duration::from_millis(100))).await;
    let page = watched.endpoint.page().await;
    assert_eq!((&page["group"], &page["topics"]), (&json!("readers"), &json!(["numbers"])));
    assert_eq!((&page["state"], &page["partitions"]), (&json!("joining"), &json!([])));
    assert_eq!(watched.metric("assigned").await, 0.0);
    let (status, reason) = watched.endpoint.get("/readyz").await;
    assert_eq!((status, &*reason), (503, "the group readers has not assigned partitions to this member yet\n"));

    let messages = watched.platform.read_all(60).await;
    watched.endpoint.becomes_ready().await;
    let page = watched.endpoint.page().await;
    assert_eq!((&page["state"], page["partitions"].as_array().unwrap().len()), (&json!("assigned"), 6));
    let read = json!({
        "topic": "numbers", "partition": 0, "id": 0, "position": 10, "commit_point": 0, "end": 10, "lag": 10,
        "held_records": 10, "in_flight": 10, "halted": null,
    });
    assert_eq!(steady(&page), read, "{page:#}");
    let oldest = &page["partitions"][0]["oldest_unacked"];
    assert_eq!((&oldest["offset"], &oldest["deliveries"]), (&json!(0), &json!(1)));
    let age = oldest["age"].as_f64().unwrap();
    assert!(age > 0.0 && age <= watched.of_partition("oldest_unacked_age_seconds").await, "{age}");
    assert!(page["partitions"][0]["held_bytes"].as_u64().unwrap() > 10);
    assert!(page["last_poll_age"].as_f64().unwrap() < 5.0);
    assert_eq!(watched.metric("fetched_records_total").await, 60.0);

    // All but the first: nothing may be committed.
    watched.platform.ack((1..5).map(|offset| at(&messages, (0, offset)))).await;
    let page = watched.endpoint.page().await;
    let partition = &page["partitions"][0];
    let figures = ["commit_point", "held_records", "in_flight"].map(|name| partition[name].as_i64().unwrap());
    assert_eq!(figures, [0, 10, 6], "{page:#}");
    watched.platform.ack([at(&messages, (0, 0))]).await;
    let page = watched.endpoint.until("committed", |page| page["partitions"][0]["committed"] == 5).await;
    let acked = json!({
        "topic": "numbers", "partition": 0, "id": 0, "position": 10, "commit_point": 5, "end": 10, "lag": 5,
        "held_records": 5, "in_flight": 5, "halted": null,
    });
    assert_eq!(steady(&page), acked, "{page:#}");
    for (name, value) in [
        ("position_offset", 10.0),
        ("commit_point_offset", 5.0),
        ("committed_offset", 5.0),
        ("end_offset", 10.0),
        ("lag_records", 5.0),
        ("held_records", 5.0),
        ("in_flight_records", 5.0),
        ("halted", 0.0),
    ] {
        assert_eq!(watched.of_partition(name).await, value, "{name}");
    }
    assert_eq!((&page["pending"], &page["totals"]["acked_records"]), (&json!(55), &json!(5)));
    assert!(page["totals"]["commits"].as_u64().unwrap() > 0);

    watched.nack(at(&messages, (0, 5)).offset()).await;
    let waiting = &watched.endpoint.page().await["partitions"][0];
    assert_eq!((&waiting["in_flight"], &waiting["oldest_unacked"]), (&json!(4), &Value::Null));
    assert_eq!(watched.of_partition("oldest_unacked_age_seconds").await, 0.0);
    let again = watched.platform.read_all(1).await;
    assert_eq!(place(again[0].offset()), (0, 5));
    let page = watched.endpoint.page().await;
    let oldest = &page["partitions"][0]["oldest_unacked"];
    assert_eq!((&oldest["offset"], &oldest["deliveries"]), (&json!(5), &json!(2)));
    assert_eq!((&page["totals"]["nacked_records"], &page["totals"]["redelivered_records"]), (&json!(1), &json!(1)));

    let before = page["totals"]["rebalances"].as_u64().unwrap();
    let second = harness::start(broker.addresses()).await;
    // Partitions are counted a moment after they went; where the group went on meanwhile, they count as lost.
    let gone = |page: &Value| {
        ["revoked_partitions", "lost_partitions"].map(|name| page["totals"][name].as_u64().unwrap()).iter().sum::<u64>()
    };
    let three = |page: &Value| page["partitions"].as_array().unwrap().len() == 3 && gone(page) > 0;
    let page = watched.endpoint.until("three", three).await;
    assert_eq!((&page["totals"]["assigned_partitions"], gone(&page)), (&json!(6), 3), "{page:#}");
    assert!(page["totals"]["rebalances"].as_u64().unwrap() > before, "{page:#}");
    assert_eq!(watched.metric("assigned_partitions").await, 3.0);
    watched.endpoint.becomes_ready().await;
    // Of the whole group, as soon as the brokers have told anew of the partitions that went.
    watched.endpoint.until("55 pending", |page| page["pending"] == 55).await;
    assert!(second.close(PATIENCE).await);
    assert!(watched.source.close(PATIENCE).await);
}

pub(crate) async fn a_partition_that_stands_still_and_a_broker_that_is_away_are_told() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 2);
    let config = harness::config(broker.addresses()).with_max_deliveries(1).with_exhausted(Exhausted::Halt);
    let mut watched = Watched::start(config).await;
    let messages = watched.platform.read_all(12).await;
    watched.nack(at(&messages, (0, 1)).offset()).await;
    watched.platform.ack([at(&messages, (0, 0))]).await;
    assert_eq!(watched.endpoint.page().await["partitions"][0]["halted"], 1);
    assert_eq!(watched.of_partition("halted").await, 1.0);
    let (status, reason) = watched.endpoint.get("/readyz").await;
    assert_eq!((status, &*reason), (503, "numbers:0 stands still at offset 1: the log says why\n"));
    assert_eq!(watched.endpoint.get("/livez").await.0, 200, "a restart is for people to decide");

    assert_eq!(watched.endpoint.page().await["last_broker_error"], Value::Null);
    drop(broker);
    let page = watched.endpoint.until("told", |page| page["last_broker_error"] != Value::Null).await;
    assert!(page["last_broker_error"]["reason"].as_str().unwrap().contains("127.0.0.1"), "{page:#}");
    assert!(watched.metric("broker_errors_total").await >= 1.0);
    assert_eq!(page["state"], "assigned", "it goes on when the broker is back");
}

/// More than a test lives to see.
const MANY: usize = 5_000;

fn cluster() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    harness::fill(&cluster.bootstrap_servers(), 0, 10);
    cluster
}

pub(crate) async fn a_right_that_is_taken_away_is_named_and_forgotten_when_it_is_back() {
    let cluster = cluster();
    let mut watched = Watched::start(harness::config(&cluster.bootstrap_servers())).await;
    let messages = watched.platform.read_all(60).await;
    cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; MANY],
    );
    watched.platform.ack(&messages).await;
    let page = watched.endpoint.until("denied", |page| page["denied_right"] != Value::Null).await;
    assert!(page["denied_right"].as_str().unwrap().starts_with("READ on the group"), "{page:#}");
    let (status, reason) = watched.endpoint.get("/readyz").await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.starts_with("the brokers deny this user a right: READ on the group"), "{reason}");
    assert_eq!(watched.metric("right_denied").await, 1.0);
    assert!(watched.metric("denied_requests_total").await >= 1.0);
    let failing = |page: &Value| page["failing_commits_age"].as_f64().is_some_and(|age| age > 0.0);
    watched.endpoint.until("failing", failing).await;

    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    let page = watched.endpoint.until("committing", |page| page["failing_commits_age"] == Value::Null).await;
    assert!(page["totals"]["commits"].as_u64().unwrap() > 0, "{page:#}");
    watched.endpoint.until("allowed", |page| page["denied_right"] == Value::Null).await;
    watched.endpoint.becomes_ready().await;
    assert!(watched.source.close(PATIENCE).await);
}

pub(crate) async fn records_that_do_not_come_although_the_broker_answers_are_told() {
    let cluster = cluster();
    cluster.request_errors(RDKafkaApiKey::Fetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT; MANY]);
    let mut watched = Watched::start(harness::config(&cluster.bootstrap_servers())).await;
    let starving = |page: &Value| {
        let partitions = page["partitions"].as_array().unwrap();
        !partitions.is_empty() && partitions.iter().all(|partition| partition["starving_age"].as_f64() > Some(0.0))
    };
    let page = watched.endpoint.until("starving", starving).await;
    assert_ne!(page["last_broker_error"], Value::Null, "{page:#}");
    assert!(watched.of_partition("starving_age_seconds").await > 0.0);
    assert!(watched.metric("broker_errors_total").await >= 1.0);

    cluster.clear_request_errors(RDKafkaApiKey::Fetch);
    let messages = watched.platform.read_all(60).await;
    watched.platform.ack(&messages).await;
    let fed = |page: &Value| {
        page["partitions"].as_array().unwrap().iter().all(|partition| partition["starving_age"] == Value::Null)
    };
    watched.endpoint.until("fed", fed).await;
    assert!(watched.metric("fetched_bytes_total").await > 60.0);
    assert_eq!(watched.metric("ack_duration_seconds_count").await, 1.0);
    watched.endpoint.until("measured", |page| page["brokers"][0]["received_bytes"].as_u64() > Some(0)).await;
    assert!(watched.source.close(PATIENCE).await);
}

/// The cluster of the client library tells no ids.
pub(crate) async fn a_topic_without_an_id_is_told() {
    let cluster = cluster();
    let mut watched = Watched::start(harness::config(&cluster.bootstrap_servers())).await;
    let messages = watched.platform.read_all(60).await;
    watched.platform.ack(&messages).await;
    assert_eq!(watched.metric("unidentified_topics").await, 0.0);
    watched.endpoint.until("told", |page| page["unidentified_topics"] == json!([TOPIC])).await;
    assert_eq!(watched.metric("unidentified_topics").await, 1.0);
    assert!(watched.source.close(PATIENCE).await);
}

/// The client library counts an error in the place of a record as one that was handed out.
pub(crate) async fn a_partition_whose_fetches_fail_is_read_on_where_it_was() {
    let cluster = cluster();
    let mut watched = Watched::start(harness::config(&cluster.bootstrap_servers())).await;
    let messages = watched.platform.read_all(60).await;
    watched.platform.ack(&messages).await;
    let committed = |page: &Value| page["partitions"][0]["committed"] == 10;
    watched.endpoint.until("committed", committed).await;
    cluster.request_errors(RDKafkaApiKey::Fetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; MANY]);
    let errors = |page: &Value| page["totals"]["broker_errors"].as_u64() > Some(40);
    let page = watched.endpoint.until("failing", errors).await;
    for partition in page["partitions"].as_array().unwrap() {
        let figures = ["position", "commit_point"].map(|name| partition[name].as_i64());
        assert_eq!(figures, [Some(10), Some(10)], "{page:#}");
    }
    cluster.clear_request_errors(RDKafkaApiKey::Fetch);
    harness::fill(&cluster.bootstrap_servers(), 10, 1);
    let messages = watched.platform.read_all(6).await;
    let places: std::collections::BTreeSet<_> = messages.iter().map(|message| place(message.offset())).collect();
    assert_eq!(places, (0..PARTITIONS).map(|partition| (partition, 10)).collect());
    assert!(watched.source.close(PATIENCE).await);
}
