//! Topics that are missing and partitions that cannot be asked for: they hold up no other, and are told.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_broker::{Broker, Options};
use numaflow_sdk::source::Message;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::Producer as _;
use serde_json::Value;
use tokio::task::block_in_place;
use tokio::time::Instant;
use udf_server::kafka::{GroupProtocol, Start};

use crate::endpoint::Endpoint;
use crate::harness::{Nodes, PATIENCE, Platform, Stage, answer, deadline, start};

/// The topic and the value of a message.
fn read(message: &Message) -> (String, String) {
    let token = str::from_utf8(message.offset().as_bytes()).unwrap();
    let topic = token.split(':').next().unwrap().to_owned();
    (topic, String::from_utf8(message.value().to_vec()).unwrap())
}

/// The places in one of the lists of `/kafka`.
fn named(page: &Value, list: &str) -> Vec<(String, Option<i64>)> {
    let list = page[list].as_array().unwrap().iter();
    list.map(|it| (it["topic"].as_str().unwrap().to_owned(), it["partition"].as_i64())).collect()
}

/// Pending is what the platform scales by: to zero over a backlog, if it stayed what it was.
pub(crate) async fn a_topic_that_is_deleted_leaves_pending_of_the_others_true(stage: Stage) {
    let other = stage.beside("other");
    for stage in [&stage, &other] {
        stage.create_topic(2).await;
        stage.fill(2, 0, 5);
    }
    let source = start(stage.config().with_topics([&stage.topic, &other.topic])).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let messages = platform.read_all(20).await;
    platform.ack(&messages).await;
    endpoint.until("done", |page| page["pending"] == 0).await;

    other.delete_topic().await;
    let missing = vec![(other.topic.clone(), None)];
    endpoint.until("missing a topic", |page| named(page, "missing_topics") == missing).await;
    let (status, reason) = endpoint.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains(&format!("the topic {} has been missing for", other.topic)), "{reason}");
    stage.fill(2, 5, 4);
    let messages = platform.read_all(8).await;
    endpoint.until("behind", |page| page["pending"] == 8).await;
    platform.ack(&messages).await;
    endpoint.until("done again", |page| page["pending"] == 0).await;

    other.create_topic(2).await;
    other.fill(2, 0, 3);
    endpoint.until("whole again", |page| named(page, "missing_topics").is_empty()).await;
    let messages = platform.read_all(6).await;
    assert!(messages.iter().all(|message| read(message).0 == other.topic));
    platform.ack(&messages).await;
    endpoint.becomes_ready().await;
    assert!(source.close(PATIENCE).await);
}

/// Its producers did not wait to be found, so it is read from its first record.
pub(crate) async fn a_topic_that_is_missing_at_the_start_is_waited_for(stage: Stage) {
    let late = stage.beside("late");
    stage.create_topic(1).await;
    stage.fill(1, 0, 5);
    let config = stage.config().with_topics([&stage.topic, &late.topic]).with_start(Start::Latest);
    let source = start(config).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let missing = vec![(late.topic.clone(), None)];
    endpoint.until("missing a topic", |page| named(page, "missing_topics") == missing).await;
    let (status, reason) = endpoint.get("/readyz").await;
    assert!(status == 503 && reason.contains(&format!("the topic {} has been missing", late.topic)), "{reason}");
    assert!(platform.client.is_ready().await.unwrap(), "a restart of the pod would not create the topic");
    // The other is read meanwhile.
    platform.wait_for_partitions(1).await;
    stage.sampler(1).wait_for(&crate::harness::everywhere(1, 5));
    stage.fill(1, 5, 1);
    assert_eq!(read(&platform.read_all(1).await[0]).1, "0:5");

    late.create_topic(2).await;
    late.fill(2, 0, 3);
    let mut values = BTreeSet::new();
    while values.len() < 6 {
        let messages = platform.read_all(1).await;
        values.extend(messages.iter().map(read).filter(|(topic, _)| *topic == late.topic).map(|(_, value)| value));
        platform.ack(&messages).await;
    }
    endpoint.until("whole", |page| named(page, "missing_topics").is_empty()).await;
    endpoint.becomes_ready().await;
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_topic_that_does_not_come_ends_the_source(stage: Stage) {
    let config = stage.config().with_missing_topic_timeout(Some(Duration::from_millis(1)));
    let source = start(config).await;
    let reason = tokio::time::timeout(PATIENCE, source.failed()).await.unwrap();
    assert!(reason.contains(&format!("have had no topic {} for", stage.topic)), "{reason}");
    assert!(reason.contains("create it, correct --topics"), "{reason}");
    assert!(source.close(PATIENCE).await);
}

/// With one replica of each partition, a broker that is away leaves its partitions without a leader.
pub(crate) async fn a_partition_without_a_leader_holds_up_no_other(stage: Stage) {
    let mut nodes = Nodes::start(3);
    let cluster = nodes.cluster();
    let stage = Stage { address: cluster.direct(), ..stage };
    stage.create_topic(3).await;
    stage.fill(3, 0, 5);
    let leader = leader(&stage, 0).unwrap();
    // The group's offsets have to be there before a broker goes.
    stage.sampler(3).committed();
    cluster.node_mut(leader).unwrap().crash().unwrap();
    let until = deadline();
    while self::leader(&stage, 0).is_some() {
        assert!(Instant::now() < until, "partition 0 has a leader");
    }

    // With the default session timeout: three brokers that start and end leave this process little time.
    let config = stage.config_by(GroupProtocol::default()).with_start(Start::Latest);
    let source = start(config.with_revoke_timeout(Duration::from_millis(100))).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let waiting = vec![(stage.topic.clone(), Some(0))];
    let is_read = |partition: usize, page: &Value| page["partitions"][partition]["committed"] == 5;
    let page = endpoint.until("read but for one", |page| (1..3).all(|number| is_read(number, page))).await;
    assert!(page["partitions"][0]["waits"].as_str().unwrap().contains("no leader"), "{page:#}");
    endpoint.until("named", |page| named(page, "unanswered_partitions") == waiting).await;
    let (status, reason) = endpoint.get("/readyz").await;
    assert!(status == 503 && reason.contains(&format!("{}:0 is not read yet", stage.topic)), "{reason}");
    let producer = stage.producer();
    for partition in 1..3 {
        stage.send(&producer, partition, "meanwhile");
    }
    producer.flush(PATIENCE).unwrap();
    let messages = platform.read_all(2).await;
    assert_eq!(stage.places(&messages), [(1, 5), (2, 5)]);
    platform.ack(&messages).await;

    block_in_place(|| cluster.node_mut(leader).unwrap().restart().unwrap());
    let is_whole = |page: &Value| is_read(0, page) && page["partitions"][0]["waits"].is_null();
    endpoint.until("read whole", is_whole).await;
    stage.fill(1, 5, 1);
    let messages = platform.read_all(1).await;
    assert_eq!(stage.places(&messages), [(0, 5)], "it begins where the group was told to");
    platform.ack(&messages).await;
    endpoint.until("done", |page| page["pending"] == 0 && page["partitions"][0]["committed"] == 6).await;
    endpoint.becomes_ready().await;
    assert!(source.close(PATIENCE).await);
}

/// The node that leads a partition, as the brokers tell.
fn leader(stage: &Stage, partition: usize) -> Option<u32> {
    let consumer: BaseConsumer = stage.client().create().unwrap();
    let metadata = answer(|| consumer.fetch_metadata(Some(&stage.topic), PATIENCE));
    u32::try_from(metadata.topics()[0].partitions()[partition].leader()).ok()
}

/// Nobody gets their records, and nothing of them is committed.
pub(crate) async fn partitions_beyond_the_last_id_are_told_and_not_read(stage: Stage) {
    const IDS: i32 = 1024;
    // So many partitions would slow the others' broker down.
    let broker = Broker::start(Options::new()).unwrap();
    let stage = Stage { address: broker.address(), ..stage };
    let other = stage.beside("other");
    stage.create_topic(1).await;
    other.create_topic(IDS).await;
    let source = start(stage.config().with_topics([&stage.topic, &other.topic])).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    endpoint.until("assigned", |page| page["partitions"].as_array().unwrap().len() == 1025).await;
    endpoint.becomes_ready().await;

    other.grow_topic(1025).await;
    let unread = vec![(other.topic.clone(), Some(i64::from(IDS)))];
    endpoint.until("told", |page| named(page, "unread_partitions") == unread).await;
    let (status, reason) = endpoint.get("/readyz").await;
    assert!(status == 503 && reason.contains("there is no partition id left for it"), "{reason}");
    let producer = stage.producer();
    for (stage, partition) in [(&other, IDS), (&other, IDS - 1), (&stage, 0)] {
        stage.send(&producer, partition, "value");
    }
    producer.flush(PATIENCE).unwrap();
    let messages = platform.read_all(2).await;
    platform.ack(&messages).await;
    let mut topics: Vec<_> = messages.iter().map(|message| read(message).0).collect();
    topics.sort_unstable();
    assert_eq!(topics, [&*stage.topic, &other.topic]);
    // What is left is the record that nobody reads: the platform does not scale to zero over it.
    endpoint.until("done", |page| page["pending"] == 1).await;
    let partitions = platform.client.partitions().await.unwrap();
    assert_eq!((partitions.active.len(), partitions.total), (1025, Some(1025)));
    assert!(source.close(PATIENCE).await);
    assert_eq!(other.sampler(1025).committed()[&IDS], 0);

    // A source that starts again reads the others as before.
    let source = start(stage.config().with_topics([&stage.topic, &other.topic])).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    stage.send(&producer, 0, "value");
    producer.flush(PATIENCE).unwrap();
    assert_eq!(read(&platform.read_all(1).await[0]).0, stage.topic);
    endpoint.until("told", |page| named(page, "unread_partitions") == unread).await;
    assert!(source.close(PATIENCE).await);
}
