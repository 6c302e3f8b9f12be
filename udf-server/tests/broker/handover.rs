//! Partitions that go to another member.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::harness::{PATIENCE, Platform, Stage, deadline, everywhere, start};

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

/// All that was handed out is done, and more was fetched.
pub(crate) async fn what_was_fetched_and_never_handed_out_is_the_new_owners(stage: Stage) {
    stage.create_topic(2).await;
    stage.fill(2, 0, 20);
    let first = stage.start().await;
    let (mut one, endpoint) = (Platform::connect(&first).await, Endpoint::of(&first));
    let fetched = |page: &serde_json::Value| page["totals"]["fetched_records"] == 40;
    endpoint.until("fetched", fetched).await;
    let messages = one.read_all(20).await;
    let mut seen: BTreeSet<_> = stage.places(&messages).into_iter().collect();
    one.ack(&messages).await;

    let second = stage.start().await;
    let mut other = Platform::connect(&second).await;
    let deadline = deadline();
    while one.assigned().await != 1 || other.assigned().await != 1 {
        assert!(Instant::now() < deadline, "{} and {} partitions", one.assigned().await, other.assigned().await);
    }
    while seen.len() < 40 {
        assert!(Instant::now() < deadline, "{} of 40 records came", seen.len());
        for platform in [&mut one, &mut other] {
            let places = stage.places(&platform.read_and_ack().await);
            assert!(places.into_iter().all(|place| seen.insert(place)), "what was acked comes again");
        }
    }
    for source in [first, second] {
        assert!(source.close(PATIENCE).await);
    }
    stage.sampler(2).wait_for(&everywhere(2, 20));
}
