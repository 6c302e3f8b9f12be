//! A dead-letter topic that refuses records, and one whose brokers have trouble.

use numaflow_sdk::NackOptions;
use numaflow_sdk::source::NackOffset;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::Value;
use udf_server::kafka::KafkaSource;

use crate::endpoint::Endpoint;
use crate::harness::{self, PARTITIONS, PATIENCE, Platform, TOPIC, place};

const DEAD: &str = "dead";
/// More than a test lives to see.
const MANY: usize = 5_000;

/// A source with a dead-letter topic, whose platform has ten records of each partition.
struct Scene {
    cluster: MockCluster<'static, DefaultProducerContext>,
    source: KafkaSource,
    platform: Platform,
    endpoint: Endpoint,
}

impl Scene {
    async fn start(before: impl FnOnce(&MockCluster<'static, DefaultProducerContext>)) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
        cluster.create_topic(DEAD, 1, 1).unwrap();
        let addresses = cluster.bootstrap_servers();
        harness::fill(&addresses, 0, 10);
        before(&cluster);
        let config = harness::config(&addresses).with_dead_letter_topic(DEAD).with_max_deliveries(1);
        let source = harness::start_with(config).await;
        let (platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
        Self { cluster, source, platform, endpoint }
    }

    /// Acks all that is read but the first record of partition 0, which is given up.
    async fn give_up_one(&mut self) {
        let messages = self.platform.read_all(60).await;
        let (given_up, rest): (Vec<_>, Vec<_>) = messages.iter().partition(|message| place(message.offset()) == (0, 0));
        let nack = NackOffset::new(given_up[0].offset().clone(), NackOptions::new());
        self.platform.client.nack(vec![nack]).await.unwrap();
        self.platform.ack(rest).await;
    }

    /// Waits until the record is refused, and says why it is.
    async fn refused(&self) -> String {
        let page = self.endpoint.until("refused", |page| page["partitions"][0]["refused"] != Value::Null).await;
        let figures = ["commit_point", "halted"].map(|name| page["partitions"][0][name].as_i64());
        assert_eq!(figures, [Some(0), Some(0)], "a refused record is not done: {page:#}");
        assert_eq!(page["totals"]["dead_letter_records"], 0, "{page:#}");
        let (status, reason) = self.endpoint.get("/readyz").await;
        assert_eq!(status, 503, "{reason}");
        reason
    }

    /// Waits until the record is in the dead-letter topic.
    async fn written(self) -> Value {
        let is_written = |page: &Value| page["totals"]["dead_letter_records"] == 1;
        let page = self.endpoint.until("written", is_written).await;
        let page_after = self.endpoint.until("committed", |page| page["partitions"][0]["committed"] == 10).await;
        assert_eq!(page_after["partitions"][0]["halted"], Value::Null, "{page_after:#}");
        self.endpoint.becomes_ready().await;
        assert!(self.source.close(PATIENCE).await);
        page
    }
}

pub(crate) async fn a_missing_right_on_the_dead_letter_topic_is_named_until_it_is_given() {
    let mut scene = Scene::start(|_| {}).await;
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    scene.cluster.request_errors(RDKafkaApiKey::Produce, &[denied; MANY]);
    scene.give_up_one().await;
    let reason = scene.refused().await;
    assert!(reason.contains("the dead-letter topic dead refuses the record"), "{reason}");
    assert!(reason.contains("give this user the right WRITE on the topic"), "{reason}");
    scene.cluster.clear_request_errors(RDKafkaApiKey::Produce);
    scene.written().await;
}

/// The client comes to an end where it may not number its records: a new one has to take its place.
pub(crate) async fn a_producer_of_dead_letters_that_has_come_to_an_end_is_made_anew() {
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    let mut scene = Scene::start(|cluster| {
        cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied; MANY]);
    })
    .await;
    scene.give_up_one().await;
    let reason = scene.refused().await;
    assert!(reason.contains("IDEMPOTENT_WRITE on the cluster"), "{reason}");
    scene.cluster.clear_request_errors(RDKafkaApiKey::InitProducerId);
    scene.written().await;
}

pub(crate) async fn an_error_that_may_pass_stops_no_partition() {
    let mut scene = Scene::start(|_| {}).await;
    scene.cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; 1]);
    scene.give_up_one().await;
    let waits = |page: &Value| page["totals"]["failed_dead_letters"] == 1;
    let page = scene.endpoint.until("failed", waits).await;
    assert_eq!(page["partitions"][0]["halted"], Value::Null, "{page:#}");
    let page = scene.written().await;
    assert_eq!(page["dead_letters"]["waiting"], 0, "{page:#}");
}
