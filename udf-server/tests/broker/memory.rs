//! What brokers send, and what it becomes, stays within the budget.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use udf_server::kafka::Oversize;

use crate::endpoint::Endpoint;
use crate::harness::{PATIENCE, Platform, Stage, deadline, send, start};
use crate::program::{Program, halted};

const MIB: usize = 1 << 20;

/// A producer whose batches are what is sent between two flushes.
fn in_batches(stage: &Stage, codec: &str) -> BaseProducer {
    let mut config = stage.client();
    config.set("compression.codec", codec).set("linger.ms", "100000");
    config.set("message.max.bytes", "120000000").set("batch.size", "120000000").set("batch.num.messages", "100000");
    config.create().unwrap()
}

/// So many records of zeros, of a mebibyte each, as one batch of each partition from `first` to `last`.
fn fill(stage: &Stage, codec: &str, partitions: std::ops::Range<i32>, records: usize) {
    let (producer, zeros) = (in_batches(stage, codec), vec![0_u8; MIB]);
    for partition in partitions {
        for _ in 0..records {
            send(&producer, BaseRecord::<(), [u8]>::to(&stage.topic).partition(partition).payload(&zeros));
        }
        producer.flush(PATIENCE).unwrap();
    }
}

/// Batches that become half of the budget and less are delivered, however many there are, and whatever compressed them.
pub(crate) async fn batches_that_expand_are_decompressed_within_the_budget(stage: Stage) {
    const PARTITIONS: i32 = 8;
    const RECORDS: usize = 12;
    let codecs = ["zstd", "gzip", "lz4", "snappy"];
    let topics = codecs.map(|codec| stage.beside(codec));
    for (topic, codec) in topics.iter().zip(codecs) {
        topic.create_topic_with(PARTITIONS, &[("max.message.bytes", "20000000")]).await;
        fill(topic, codec, 0..PARTITIONS, RECORDS);
    }
    let names = topics.each_ref().map(|topic| &*topic.topic).join(",");
    let arguments = ["--brokers", &stage.address, "--topics", &names, "--group", &stage.group];
    let program = Program::start(&arguments).await;
    let mut platform = program.connect().await;
    let mut left = codecs.len() * usize::try_from(PARTITIONS).unwrap() * RECORDS;
    let mut last = deadline();
    while left > 0 {
        assert!(tokio::time::Instant::now() < last, "{left} records are left\n{}", program.log());
        let messages = platform.read(8, Duration::from_millis(500)).await;
        if !messages.is_empty() {
            last = deadline();
        }
        assert!(messages.iter().all(|message| message.value().len() == MIB));
        platform.ack(&messages).await;
        left -= messages.len();
    }
    program.assert_within_budget();
    let page = program.until("is all committed", |page| page["pending"] == 0).await;
    assert_eq!(halted(&page), []);
}

/// One that becomes more stops its partition, and no other, and says so.
pub(crate) async fn a_batch_that_becomes_more_than_half_of_the_budget_stops_its_partition(stage: Stage) {
    const PARTITIONS: i32 = 8;
    let codecs = ["zstd", "gzip", "lz4", "snappy"];
    let topics = codecs.map(|codec| stage.beside(codec));
    for (topic, codec) in topics.iter().zip(codecs) {
        topic.create_topic_with(PARTITIONS + 1, &[("max.message.bytes", "20000000")]).await;
        let producer = topic.producer();
        topic.send(&producer, 0, "before");
        producer.flush(PATIENCE).unwrap();
        fill(topic, codec, 0..PARTITIONS, 50);
        topic.send(&producer, PARTITIONS, "of another partition");
        producer.flush(PATIENCE).unwrap();
    }
    let names = topics.each_ref().map(|topic| &*topic.topic).join(",");
    let arguments = ["--brokers", &stage.address, "--topics", &names, "--group", &stage.group];
    let program = Program::start(&arguments).await;
    let mut platform = program.connect().await;
    let messages = platform.read_all(2 * codecs.len()).await;
    platform.ack(&messages).await;
    let expected = codecs.len() * usize::try_from(PARTITIONS).unwrap();
    let page = program.until("stops", |page| halted(page).len() == expected).await;
    for (_, partition, offset) in halted(&page) {
        assert_eq!(offset, i64::from(partition == 0), "partition {partition}");
    }
    assert_eq!(page["totals"]["oversize_batches"], expected);
    let (status, reason) = program.get("/readyz").await;
    assert_eq!((status, reason.contains("stands still at offset")), (503, true), "{reason}");
    assert!(program.log().contains("raise --max-in-flight-bytes"), "{}", program.log());
    assert!(platform.read(10, Duration::from_millis(200)).await.is_empty());
    program.assert_within_budget();
}

/// Topics that a pattern finds later come to two hundred partitions, all with a backlog that nobody reads at first.
pub(crate) async fn a_backlog_on_patterns_that_grow_stays_within_the_budget(stage: Stage) {
    const TOPICS: usize = 10;
    const PARTITIONS: i32 = 20;
    const BATCHES: usize = 4;
    const RECORDS: usize = 400;
    let first = stage.beside("0");
    first.create_topic(1).await;
    first.fill(1, 0, 1);
    let pattern = format!("^{}\\..*", stage.topic.replace('.', "\\."));
    let arguments =
        ["--brokers", &stage.address, "--topics", &pattern, "--group", &stage.group, "--partition-ids", "replica"];
    let refresh = ["--property", "topic.metadata.refresh.interval.ms=1000"];
    let program = Program::start(&[&arguments[..], &refresh].concat()).await;
    let mut platform = program.connect().await;
    let messages = platform.read_all(1).await;
    platform.ack(&messages).await;
    // As random as it has to be for no compression on the way to help.
    let payload: Vec<u8> = (0..1000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    for topic in 1..=TOPICS {
        let topic = stage.beside(&topic.to_string());
        topic.create_topic(PARTITIONS).await;
        let mut config = topic.client();
        // Each partition's records are one batch.
        let producer: BaseProducer =
            config.set("linger.ms", "100000").set("batch.num.messages", RECORDS.to_string()).create().unwrap();
        for _ in 0..BATCHES {
            for partition in 0..PARTITIONS {
                for _ in 0..RECORDS {
                    send(&producer, BaseRecord::<(), [u8]>::to(&topic.topic).partition(partition).payload(&payload));
                }
            }
            producer.flush(PATIENCE).unwrap();
        }
    }
    let partitions = TOPICS * usize::try_from(PARTITIONS).unwrap();
    // Every partition has come, and found no room for all that it has.
    let is_full = |page: &serde_json::Value| {
        let held =
            page["partitions"].as_array().unwrap().iter().map(|it| it["held_bytes"].as_u64().unwrap()).sum::<u64>();
        page["partitions"].as_array().unwrap().len() == partitions + 1 && held > 20 * MIB as u64
    };
    program.until("holds what it may", is_full).await;
    program.assert_within_budget();
    let mut left = partitions * BATCHES * RECORDS;
    let mut last = deadline();
    while left > 0 {
        assert!(tokio::time::Instant::now() < last, "{left} records are left\n{}", program.log());
        let messages = platform.read(5000, Duration::from_millis(500)).await;
        if !messages.is_empty() {
            last = deadline();
        }
        platform.ack(&messages).await;
        left -= messages.len();
    }
    program.assert_within_budget();
    program.until("is all committed", |page| page["pending"] == 0).await;
}

/// A record that is larger than what is taken from a broker stops its partition, whatever the policy; one that is smaller
/// reaches the policy.
pub(crate) async fn a_record_that_brokers_may_send_and_the_source_not_take_stops_its_partition(stage: Stage) {
    stage.create_topic_with(2, &[("max.message.bytes", "100000000")]).await;
    let (producer, large) = (in_batches(&stage, "none"), vec![7_u8; 70 * MIB]);
    stage.send(&producer, 0, "before");
    producer.flush(PATIENCE).unwrap();
    send(&producer, BaseRecord::<(), [u8]>::to(&stage.topic).partition(0).payload(&large));
    producer.flush(PATIENCE).unwrap();
    stage.send(&producer, 0, "after");
    stage.send(&producer, 1, "of the other partition");
    producer.flush(PATIENCE).unwrap();

    let skips = stage.config().with_max_record_bytes(60 * MIB, Oversize::Skip);
    let source = start(skips.clone().with_budget(64 * MIB)).await;
    let endpoint = Endpoint::of(&source);
    let mut platform = Platform::connect(&source).await;
    let mut messages = platform.read_all(2).await;
    assert_eq!(stage.places(&messages), [(0, 0), (1, 0)]);
    let page = endpoint.until("stops", |page| !halted(page).is_empty()).await;
    assert_eq!(halted(&page), [(&*stage.topic, 0, 1)]);
    assert_eq!(page["totals"]["oversize_batches"], 1);
    assert_eq!(endpoint.get("/readyz").await.0, 503);
    // The other partition goes on as if nothing were.
    stage.send(&producer, 1, "more of the other partition");
    producer.flush(PATIENCE).unwrap();
    messages.extend(platform.read_all(1).await);
    platform.ack(&messages).await;
    stage.sampler(2).wait_for(&[(0, (1, 1)), (1, (2, 2))].into());
    assert!(source.close(PATIENCE).await);

    let source = start(skips.with_budget(256 * MIB)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(1).await;
    assert_eq!(stage.places(&messages), [(0, 2)], "what is larger than the platform takes is skipped");
    platform.ack(&messages).await;
    stage.sampler(2).wait_for(&[(0, (3, 3)), (1, (2, 2))].into());
    assert!(source.close(PATIENCE).await);
}
