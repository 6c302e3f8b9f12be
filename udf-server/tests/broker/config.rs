//! What is configured reaches the broker as it was written.

use std::io::Write as _;

use numaflow_sdk::Environment;
use rdkafka::consumer::{BaseConsumer, Consumer};
use udf_server::config::Layers;
use udf_server::kafka::KafkaArgs;

use crate::harness::{PATIENCE, Platform, Stage, answer, start};

struct Nothing;

impl Environment for Nothing {
    fn get(&self, _name: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
}

pub(crate) async fn a_value_with_colons_reaches_the_broker_whole(stage: Stage) {
    const NAME: &str = "https://host:8443/a:b?c=d";
    stage.create_topic(1).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let Stage { address, topic, group } = &stage;
    writeln!(file, "brokers: {address}\ntopics: {topic}\ngroup: {group}\nproperties: {{client.id: '{NAME}'}}").unwrap();
    let mut layers = Layers::new(&Nothing, Some(file.path())).unwrap();
    let settings = layers.platform();
    let config = KafkaArgs::default().config(&mut layers, &settings).unwrap();
    layers.finish().unwrap();

    let source = start(config).await;
    let mut platform = Platform::connect(&source).await;
    platform.wait_for_partitions(1).await;
    let observer: BaseConsumer = stage.client().create().unwrap();
    let groups = answer(|| observer.fetch_group_list(Some(group), PATIENCE));
    let clients: Vec<&str> = groups.groups()[0].members().iter().map(|member| member.client_id()).collect();
    assert_eq!(clients, [NAME]);
    assert!(source.close(PATIENCE).await);
}
