//! Partitions that go to another member.

use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::harness::{PATIENCE, Platform, Stage, everywhere, start};

/// However long the next commit would have been in coming: what is acked is not for the new owner to deliver again.
pub(crate) async fn what_is_acked_is_committed_before_its_partition_goes(stage: Stage) {
    stage.create_topic(2).await;
    stage.fill(2, 0, 10);
    let source = start(stage.config_with_interval("600000")).await;
    let (mut platform, endpoint) = (Platform::connect(&source).await, Endpoint::of(&source));
    let messages = platform.read_all(20).await;
    // A partition's first commit does not wait.
    platform.ack(messages.iter().filter(|message| stage.place(message).1 < 2)).await;
    let is_committed = |page: &serde_json::Value| (0..2).all(|place| page["partitions"][place]["committed"] == 2);
    endpoint.until("committed", is_committed).await;
    platform.ack(messages.iter().filter(|message| stage.place(message).1 < 5)).await;
    endpoint.until("acked", |page| page["totals"]["acked_records"] == 10).await;
    assert_eq!(stage.sampler(2).committed(), [(0, 2), (1, 2)].into());

    let second = stage.start().await;
    let mut other = Platform::connect(&second).await;
    let taken = other.read_all(5).await;
    let partition = stage.place(&taken[0]).0;
    assert_eq!(stage.places(&taken), (5..10).map(|offset| (partition, offset)).collect::<Vec<_>>());
    assert!(other.read(10, Duration::from_millis(100)).await.is_empty());

    other.ack(&taken).await;
    platform.ack(&messages).await;
    for source in [source, second] {
        assert!(source.close(PATIENCE).await);
    }
    stage.sampler(2).wait_for(&everywhere(2, 10));
}
