//! The Kafka source as `udf-server kafka-source` serves it with nothing but brokers, topic and group given.

use numaflow_sdk::source;
use udf_server::kafka::{Brokers, KafkaConfig, KafkaSource};

use super::{Serving, Topic};
use crate::Outcome;

pub(super) fn source(serving: Serving) -> Outcome<()> {
    let Topic { broker, topic, group } = serving.topic()?;
    let source = KafkaSource::start(KafkaConfig::new(Brokers::new(broker), topic, group))?;
    super::ours::serve(serving, source::service(source))
}
