//! Where a group begins that has committed nothing yet, or whose next record is gone.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::time::Instant;
use udf_server::kafka::Start;

use crate::harness::{Bounds, PATIENCE, Platform, Stage, deadline, everywhere, send, start};

/// Or a crash before the first ack would begin again at a later "latest", and lose what lies between.
pub(crate) async fn a_group_that_starts_with_the_latest_commits_where_that_is(stage: Stage) {
    stage.create_topic(2).await;
    stage.fill(2, 0, 10);
    let source = start(stage.config().with_start(Start::Latest)).await;
    let mut platform = Platform::connect(&source).await;
    platform.wait_for_partitions(2).await;
    // At once: nothing has come, and nothing was acked.
    stage.sampler(2).wait_for(&everywhere(2, 10));
    drop((platform, source));
    stage.fill(2, 10, 5);

    let source = start(stage.config().with_start(Start::Latest)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(10).await;
    let expected: Vec<_> = (0..2).flat_map(|partition| (10..15).map(move |number| (partition, number))).collect();
    assert_eq!(stage.places(&messages), expected);
    platform.ack(&messages).await;
    stage.sampler(2).wait_for(&everywhere(2, 15));
    assert!(source.close(PATIENCE).await);
}

/// Neither takes the other's first commits for those of a group that has long been at work.
pub(crate) async fn members_that_start_together_with_the_latest_begin_where_that_is(stage: Stage) {
    stage.create_topic(4).await;
    stage.fill(4, 0, 10);
    let latest = || start(stage.config().with_start(Start::Latest));
    let (first, second) = tokio::join!(latest(), latest());
    let (mut one, mut other) = (Platform::connect(&first).await, Platform::connect(&second).await);
    let deadline = deadline();
    let mut seen = BTreeSet::new();
    while one.assigned().await != 2 || other.assigned().await != 2 {
        assert!(Instant::now() < deadline, "{} and {} partitions", one.assigned().await, other.assigned().await);
        for platform in [&mut one, &mut other] {
            seen.extend(stage.places(&platform.read(10, Duration::from_millis(50)).await));
        }
    }
    assert_eq!(seen, BTreeSet::new(), "nothing has come since");
    stage.sampler(4).wait_for(&everywhere(4, 10));
    stage.fill(4, 10, 5);
    while seen.len() < 20 {
        assert!(Instant::now() < deadline, "{} records came", seen.len());
        for platform in [&mut one, &mut other] {
            seen.extend(stage.places(&platform.read_and_ack().await));
        }
    }
    assert!(seen.iter().all(|(_, offset)| *offset >= 10), "{seen:?}");
    stage.sampler(4).wait_for(&everywhere(4, 15));
    assert!(first.close(PATIENCE).await);
    assert!(second.close(PATIENCE).await);
}

pub(crate) async fn a_start_at_a_time_begins_with_the_first_record_of_then(stage: Stage) {
    const HOUR: Duration = Duration::from_secs(3600);
    stage.create_topic(2).await;
    let producer = stage.producer();
    let now = SystemTime::now();
    let send_of = |partition, hours: u32| {
        let millis = (now - hours * HOUR).duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
        let record = BaseRecord::<(), str>::to(&stage.topic).partition(partition);
        send(&producer, record.payload(&format!("of {hours} hours ago")).timestamp(millis));
    };
    for (partition, hours) in [(0, 9), (0, 7), (0, 5), (0, 3), (1, 9), (1, 7)] {
        send_of(partition, hours);
    }
    producer.flush(PATIENCE).unwrap();
    let mut begun = Vec::new();
    for (group, from) in [("at a time", Start::At(now - 6 * HOUR)), ("of late", Start::parse("6h").unwrap())] {
        let stage = stage.in_group(group);
        let source = start(stage.config().with_start(from)).await;
        let mut platform = Platform::connect(&source).await;
        let messages = platform.read_all(2).await;
        assert_eq!(stage.places(&messages), [(0, 2), (0, 3)], "{group}");
        // Where there is nothing of that time yet, with what comes; and that is settled, too.
        stage.sampler(2).wait_for(&Bounds::from([(0, (2, 2)), (1, (2, 2))]));
        begun.push((stage, source, platform));
    }
    send_of(1, 0);
    producer.flush(PATIENCE).unwrap();
    for (stage, source, mut platform) in begun {
        assert_eq!(stage.places(&platform.read_all(1).await), [(1, 2)]);
        assert!(source.close(PATIENCE).await);
    }
}

/// Retention is not an error of anybody's, and still a loss: it is counted, and no more is lost than is gone.
pub(crate) async fn records_that_are_gone_before_they_are_read_are_counted(stage: Stage) {
    stage.create_topic(1).await;
    stage.fill(1, 0, 10);
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(10).await;
    platform.ack(&messages[..3]).await;
    stage.sampler(1).wait_for(&everywhere(1, 3));
    assert!(source.close(PATIENCE).await);
    assert_eq!(source.resets(), 0, "to begin with the oldest record is no loss");

    stage.delete_records(0, 8).await;
    // Wherever a new group would begin.
    let source = start(stage.config().with_start(Start::Latest)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(2).await;
    assert_eq!(stage.places(&messages), [(0, 8), (0, 9)]);
    platform.ack(&messages).await;
    stage.sampler(1).wait_for(&everywhere(1, 10));
    let deadline = deadline();
    while source.resets() == 0 {
        assert!(Instant::now() < deadline, "it is not counted");
        platform.assigned().await;
    }
    assert_eq!((source.resets(), source.gone_offsets()), (1, 5));
    assert!(source.close(PATIENCE).await);
}
