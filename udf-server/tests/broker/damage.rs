//! Records that were damaged where the broker keeps them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use kafka_broker::{Broker, Options};
use rdkafka::producer::{BaseProducer, Producer as _};
use udf_server::kafka::Damaged;

use crate::harness::{Bounds, PATIENCE, Platform, Stage, everywhere, start};

/// What of a batch lies before the value of its first record, where that has no key and is short.
const BEFORE_VALUE: usize = 67;
/// Where in a batch its format is named, which no checksum covers.
const FORMAT: usize = 16;
/// Where in a batch is the byte of its first offset that counts 65,536s, which no checksum covers either.
const OFFSET: usize = 5;

/// Everything before what is damaged is delivered and committed, and everything after it where it is passed over, up to the
/// end of the log.
pub(crate) async fn a_damaged_record_stops_its_partition_or_is_passed_over(stage: Stage) {
    let broker = Broker::start(Options::new()).unwrap();
    let stage = Stage::new(broker.address(), stage.topic);
    stage.create_topic(4).await;
    // What comes before a flush is one batch.
    let producer: BaseProducer = stage.client().set("linger.ms", "10000").create().unwrap();
    for (partition, batches) in [
        (0, [&["before"][..], &["the first of a batch", "the middle", "the last of a batch"], &["after"]]),
        (1, [&["before"][..], &["a damaged batch"], &["and another", "of the log's last records", "of all"]]),
        (2, [&["before"][..], &["of no format", "that there is"], &["after", "it"]]),
        (3, [&["before"][..], &["of no place", "in the log"], &["after", "it"]]),
    ] {
        for values in batches {
            for value in values {
                stage.send(&producer, partition, value);
            }
            producer.flush(PATIENCE).unwrap();
        }
    }
    let damage = |partition, text: &str, back: usize| {
        let path = broker.segment(&stage.topic, partition);
        let bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() - back;
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&[bytes[place] ^ 8], place.try_into().unwrap()).unwrap();
    };
    damage(0, "middle", 0);
    damage(1, "damaged batch", 0);
    damage(1, "last records", 0);
    damage(2, "of no format", BEFORE_VALUE - FORMAT);
    damage(3, "of no place", BEFORE_VALUE - OFFSET);
    damage(3, "of no place", 0);

    let (halts, skips) = (stage.in_group("halts"), stage.in_group("skips"));
    let source = start(halts.config()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(4).await;
    assert_eq!(halts.places(&messages), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    platform.ack(&messages).await;
    halts.sampler(4).wait_for(&everywhere(4, 1));
    assert!(platform.read(10, Duration::from_millis(300)).await.is_empty());
    assert!(source.close(PATIENCE).await);
    halts.sampler(4).wait_for(&everywhere(4, 1));
    assert_eq!((source.damaged_offsets(), source.resets()), (0, 0));

    let source = start(skips.config().with_damaged(Damaged::Skip)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(5).await;
    assert_eq!(skips.places(&messages), [(0, 0), (0, 4), (1, 0), (2, 0), (3, 0)]);
    platform.ack(&messages).await;
    // What is in no known form cannot be passed over, nor what is nowhere in the log.
    skips.sampler(4).wait_for(&Bounds::from([(0, (5, 5)), (1, (5, 5)), (2, (1, 1)), (3, (1, 1))]));
    assert!(source.close(PATIENCE).await);
    assert_eq!(source.resets(), 0);
    assert_eq!(source.damaged_offsets(), 7);
}
