//! Panics on the source's own threads.

use std::fmt;
use std::thread;

use rdkafka::mocking::MockCluster;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use udf_server::kafka::{Brokers, KafkaConfig};

use crate::harness::{self, GROUP, PATIENCE};

const TOPIC: &str = "panics";

/// A log that panics at the first line about the topic.
struct Panics;

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut names = NamesTopic(false);
        event.record(&mut names);
        assert!(!names.0 || thread::current().name() != Some("kafka"), "a panic on purpose");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct NamesTopic(bool);

impl Visit for NamesTopic {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0 |= format!("{value:?}").contains("panics:");
    }
}

/// The thread logs that it is assigned the topic's partitions, and panics there. Reads would be empty for ever.
pub(crate) async fn a_panic_on_the_thread_that_reads_fails_the_source() {
    // Of the other tests of this process no line names the topic.
    tracing::subscriber::set_global_default(Panics).unwrap();
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let brokers = Brokers::new(cluster.bootstrap_servers()).with_property("session.timeout.ms", "6000");
    let source = harness::start_with(KafkaConfig::new(brokers, TOPIC, GROUP)).await;
    let reason = timeout(PATIENCE, source.failed()).await.unwrap();
    assert_eq!(reason, "the thread kafka panicked: a panic on purpose");
    assert!(source.close(PATIENCE).await, "the group is left all the same");
}
