//! What becomes of records that are nacked, or never answered.

use std::time::Duration;

use numaflow_sdk::NackOptions;
use numaflow_sdk::source::Message;
use tokio::time::Instant;
use udf_server::kafka::Exhausted;

use crate::harness::{Bounds, PATIENCE, Platform, Stage, deadline, everywhere, start};

/// How often a message says that it was delivered.
fn deliveries(message: &Message) -> Option<&str> {
    message.user_metadata().get("kafka-delivery", "deliveries").map(|times| str::from_utf8(times).unwrap())
}

fn assert_again(again: &Message, first: &Message, times: &str) {
    assert_eq!((again.offset(), again.value(), again.keys()), (first.offset(), first.value(), first.keys()));
    assert_eq!(again.event_time(), first.event_time());
    assert_eq!((deliveries(first), deliveries(again)), (None, Some(times)));
}

pub(crate) async fn a_nacked_record_comes_again_from_memory_and_no_sooner_than_its_delay(stage: Stage) {
    const DELAY: Duration = Duration::from_millis(500);
    stage.create_topic(2).await;
    stage.fill(2, 0, 3);
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(6).await;
    let (nacked, acked): (Vec<_>, Vec<_>) = messages.iter().partition(|message| stage.place(message) == (0, 0));
    let nacked_at = Instant::now();
    platform.nack(nacked.iter().copied(), NackOptions::new().with_delay(DELAY)).await;
    platform.ack(acked).await;
    // The brokers could not give it again.
    stage.delete_records(0, 3).await;

    let again = platform.read_all(1).await;
    assert!(nacked_at.elapsed() >= DELAY, "after {:?}", nacked_at.elapsed());
    assert_again(&again[0], nacked[0], "2");
    // One that is out again holds the offset, too.
    stage.sampler(2).wait_for(&Bounds::from([(0, (0, 0)), (1, (3, 3))]));
    platform.nack(&again, NackOptions::new()).await;
    let again = platform.read_all(1).await;
    assert_again(&again[0], nacked[0], "3");
    platform.ack(&again).await;
    stage.sampler(2).wait_for(&everywhere(2, 3));
    assert_eq!(source.unknown_acks(), 0);
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn what_is_never_answered_comes_again_and_a_late_ack_of_it_counts(stage: Stage) {
    stage.create_topic(1).await;
    stage.fill(1, 0, 2);
    let source = start(stage.config().with_inflight_timeout(Duration::from_millis(300))).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(2).await;
    let deadline = deadline();
    while source.in_flight() > 0 {
        assert!(Instant::now() < deadline, "{} are still in flight", source.in_flight());
        platform.assigned().await;
    }
    // Late, but before it is handed out again: then it isn't.
    platform.ack(&messages[..1]).await;
    let again = platform.read_all(1).await;
    assert_again(&again[0], &messages[1], "2");
    // Late, and the second copy is out.
    platform.ack(&messages[1..]).await;
    stage.sampler(1).wait_for(&everywhere(1, 2));
    assert!(platform.read(10, Duration::from_millis(100)).await.is_empty());
    assert_eq!((source.in_flight(), source.unknown_acks()), (0, 0));
    platform.ack(&again).await;
    assert_eq!(source.unknown_acks(), 1, "once is enough");
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_partition_halts_at_a_record_that_is_nacked_too_often(stage: Stage) {
    stage.create_topic(2).await;
    stage.fill(2, 0, 4);
    let source = start(stage.config().with_exhausted(Exhausted::Halt).with_max_deliveries(2)).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(8).await;
    let (nacked, acked): (Vec<_>, Vec<_>) = messages.iter().partition(|message| stage.place(message) == (0, 1));
    platform.ack(acked).await;
    platform.nack(nacked, NackOptions::new()).await;
    let again = platform.read_all(1).await;
    assert_eq!((stage.place(&again[0]), deliveries(&again[0])), ((0, 1), Some("2")));
    platform.nack(&again, NackOptions::new()).await;

    // The other partition goes on.
    stage.fill(2, 4, 2);
    let messages = platform.read_all(2).await;
    assert_eq!(stage.places(&messages), [(1, 4), (1, 5)]);
    platform.ack(&messages).await;
    assert!(platform.read(10, Duration::from_millis(300)).await.is_empty());
    let halted = Bounds::from([(0, (1, 1)), (1, (6, 6))]);
    stage.sampler(2).wait_for(&halted);
    assert!(source.close(PATIENCE).await);
    stage.sampler(2).wait_for(&halted);

    // Nothing of it is lost.
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(5).await;
    assert_eq!(stage.places(&messages), (1..6).map(|offset| (0, offset)).collect::<Vec<_>>());
    assert!(messages.iter().all(|message| deliveries(message).is_none()));
    assert!(source.close(PATIENCE).await);
}
