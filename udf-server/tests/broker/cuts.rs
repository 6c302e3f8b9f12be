//! Logs that the brokers have cut, as they do after an unclean leader election.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use kafka_broker::proxy::Link;
use kafka_broker::{Broker, Options};
use numaflow_sdk::NackOptions;
use numaflow_sdk::source::Message;
use rdkafka::producer::Producer as _;
use tokio::time::Instant;
use udf_server::kafka::{Brokers, KafkaConfig};

use crate::endpoint::Endpoint;
use crate::harness::{Bounds, Nodes, PATIENCE, Platform, Stage, deadline, everywhere, start};

/// Where in a batch its length is, and how much of the batch that length leaves out.
const LENGTH: usize = 8;
const BEFORE: usize = 12;

/// The broker comes back without the records from an offset on, and others take their offsets. The records before it are
/// still to be done; an answer for one that is gone says nothing of the one that has its offset.
pub(crate) async fn a_log_that_is_cut_loses_nothing_that_is_in_it(stage: Stage) {
    let mut broker = Broker::start(Options::new()).unwrap();
    let stage = Stage::new(broker.address(), stage.topic);
    stage.create_topic(1).await;
    fill(&stage, "old", 30);
    // The session outlasts the broker's restart, or the partition would be lost and read anew.
    let brokers = Brokers::new(&stage.address)
        .with_property("session.timeout.ms", "120000")
        .with_property("auto.commit.interval.ms", "100");
    let source = start(KafkaConfig::new(brokers, &stage.topic, &stage.group)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let former = platform.read_all(30).await;
    platform.ack(&former[..10]).await;
    stage.sampler(1).wait_for(&everywhere(1, 10));
    platform.ack(&former[15..18]).await;

    broker.crash().unwrap();
    cut(&broker, &stage.topic, 20);
    broker.restart().unwrap();
    fill(&stage, "new", 10);
    endpoint.until("cut", |page| page["totals"]["rewinds"] == 1).await;
    let none = platform.read(10, Duration::from_millis(300)).await;
    assert!(none.is_empty(), "the platform would take them for those that it has: {:?}", stage.places(&none));

    // Those before the cut can be given back, and hold the commit point where it is.
    let sampler = stage.sampler(1);
    sampler.wait_for(&Bounds::from([(0, (10, 10))]));
    platform.nack(&former[12..13], NackOptions::new()).await;
    let again = platform.read_all(1).await;
    assert_eq!(stage.places(&again), [(0, 12)]);
    assert_eq!(again[0].value(), "old");

    platform.ack(&former[25..]).await;
    platform.nack(&former[20..25], NackOptions::new()).await;
    let new = platform.read_all(10).await;
    assert_eq!(stage.places(&new), (20..30).map(|offset| (0, offset)).collect::<Vec<_>>());
    assert!(new.iter().all(|message| message.value() == "new"));
    platform.ack(&new).await;
    sampler.wait_for(&Bounds::from([(0, (10, 10))]));
    platform.ack(&again).await;
    platform.ack([&former[10..12], &former[13..15], &former[18..20]].into_iter().flatten()).await;
    sampler.wait_for(&everywhere(1, 30));
    assert!(source.close(PATIENCE).await);
}

/// The log is cut while nobody reads it, and has grown beyond the group's commit when a source begins.
pub(crate) async fn a_log_that_is_cut_between_two_owners_loses_nothing_that_is_in_it(stage: Stage) {
    let mut broker = Broker::start(Options::new()).unwrap();
    let stage = Stage::new(broker.address(), stage.topic);
    stage.create_topic(1).await;
    fill(&stage, "old", 30);
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let old = platform.read_all(30).await;
    platform.ack(&old).await;
    assert!(source.close(PATIENCE).await);
    let sampler = stage.sampler(1);
    sampler.wait_for(&everywhere(1, 30));

    broker.crash().unwrap();
    cut(&broker, &stage.topic, 20);
    broker.restart().unwrap();
    fill(&stage, "new", 15);
    let source = stage.start().await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let new = platform.read_all(15).await;
    assert_eq!(stage.places(&new), (20..35).map(|offset| (0, offset)).collect::<Vec<_>>());
    assert!(new.iter().all(|message| message.value() == "new"));
    endpoint.until("cut", |page| page["totals"]["rewinds"] == 1).await;
    platform.ack(&new).await;
    sampler.wait_for(&everywhere(1, 35));
    assert!(source.close(PATIENCE).await);
}

/// The client library keeps the position in the former topic, and would go on from there after a rebalance.
pub(crate) async fn a_topic_that_is_made_anew_is_read_whole_through_a_rebalance(stage: Stage) {
    stage.create_topic(2).await;
    stage.fill(2, 0, 20);
    let source = start(stage.config().with_partition_limits(5, 1 << 20)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let mut count = 0;
    while count < 40 {
        count += platform.read_and_ack().await.len();
    }
    stage.sampler(2).wait_for(&everywhere(2, 20));
    stage.delete_topic().await;
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    stage.create_topic(2).await;
    // The client library sees that the topic is another one only while it has fewer records than were read of the former.
    stage.fill(2, 0, 1);
    endpoint.until("cut", |page| page["totals"]["rewinds"] == 2).await;
    stage.fill(2, 1, 59);
    let first = platform.read_all(10).await;

    let second = stage.start().await;
    let mut other = Platform::connect(&second).await;
    let deadline = deadline();
    while platform.assigned().await != 1 || other.assigned().await != 1 {
        assert!(Instant::now() < deadline);
    }
    let mut seen: BTreeSet<_> = stage.places(&first).into_iter().collect();
    platform.ack(&first).await;
    while seen.len() < 120 {
        assert!(Instant::now() < deadline, "{} of 120 records came: {seen:?}", seen.len());
        for platform in [&mut platform, &mut other] {
            seen.extend(stage.places(&platform.read_and_ack().await));
        }
    }
    for source in [source, second] {
        assert!(source.close(PATIENCE).await);
    }
    stage.sampler(2).wait_for(&everywhere(2, 60));
}

/// The source is cut off while the topic is deleted and created anew, and when it is back the offset that it would read next
/// is one of the new topic. Only the topic's id tells the two apart.
pub(crate) async fn a_topic_that_is_made_anew_and_longer_is_read_from_its_beginning(stage: Stage) {
    let mut nodes = Nodes::start(1);
    let cluster = nodes.cluster();
    let stage = Stage { address: cluster.direct(), ..stage };
    stage.create_topic(2).await;
    stage.fill(2, 0, 20);
    // The session outlasts the cut, or the partitions would be lost and read anew.
    let brokers = Brokers::new(cluster.address())
        .with_property("session.timeout.ms", "120000")
        .with_property("reconnect.backoff.max.ms", "500")
        .with_property("auto.commit.interval.ms", "100");
    let source = start(KafkaConfig::new(brokers, &stage.topic, &stage.group)).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let former = platform.read_all(40).await;
    let is_late = |message: &&Message| stage.place(message) >= (1, 10);
    platform.ack(former.iter().filter(|message| !is_late(message))).await;
    stage.sampler(2).wait_for(&Bounds::from([(0, (20, 20)), (1, (10, 10))]));

    let links = || cluster.links(|way| way.is_of_clients_of(1));
    links().for_each(Link::cut);
    stage.delete_topic().await;
    stage.create_topic(2).await;
    stage.fill(2, 100, 60);
    links().for_each(Link::heal);
    let (mut seen, until) = (BTreeSet::new(), deadline());
    let values = |messages: Vec<Message>| messages.into_iter().map(|message| value(&message));
    while endpoint.page().await["totals"]["rewinds"] != 2 {
        assert!(Instant::now() < until, "only these came: {seen:?}");
        seen.extend(values(platform.read_and_ack().await));
    }
    // The answers for former records let the new ones of the same offsets go, and do not count for them.
    platform.ack(former.iter().filter(is_late)).await;
    let all = (0..2).flat_map(|partition| (100..160).map(move |number| format!("{partition}:{number}")));
    let all: BTreeSet<_> = all.collect();
    while !seen.is_superset(&all) {
        assert!(Instant::now() < until, "{} of 120 records came: {seen:?}", seen.len());
        seen.extend(values(platform.read_and_ack().await));
    }
    stage.sampler(2).wait_for(&everywhere(2, 60));
    assert!(source.close(PATIENCE).await);
}

fn value(message: &Message) -> String {
    String::from_utf8(message.value().to_vec()).unwrap()
}

/// Records of partition 0, each in a batch of its own.
fn fill(stage: &Stage, value: &str, count: usize) {
    let producer = stage.producer();
    for _ in 0..count {
        stage.send(&producer, 0, value);
        producer.flush(PATIENCE).unwrap();
    }
}

/// Cuts the log of partition 0 before the batch of this number.
fn cut(broker: &Broker, topic: &str, batches: usize) {
    let path = broker.segment(topic, 0);
    let bytes = std::fs::read(&path).unwrap();
    let mut end = 0;
    for _ in 0..batches {
        let length = bytes[end + LENGTH..end + BEFORE].try_into().unwrap();
        end += BEFORE + usize::try_from(u32::from_be_bytes(length)).unwrap();
    }
    assert!(end < bytes.len());
    File::options().write(true).open(path).unwrap().set_len(end.try_into().unwrap()).unwrap();
}
