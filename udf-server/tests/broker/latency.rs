//! How soon a record is with the platform.

use std::time::Duration;

use numaflow_sdk::source::ReadRequest;
use numaflow_sdk::testing::ReadEvent;
use tokio::time::Instant;

use crate::harness::{PATIENCE, Platform, Stage};

/// The default linger and 10 ms are the aim; five times that is for machines that do other things, too. A source that
/// waits for a whole batch or its timeout takes a second.
const BOUND: Duration = Duration::from_millis(5 * (2 + 10));
const ROUNDS: usize = 7;

pub(crate) async fn a_first_record_after_a_pause_arrives_at_once(stage: Stage) {
    stage.create_topic(3).await;
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    platform.wait_for_partitions(3).await;
    let producer = stage.producer();
    // The first of all finds connections that are still to be made.
    stage.send(&producer, 0, "first");
    let first = platform.read_all(1).await;
    // With it in flight, reads would end early.
    platform.ack(&first).await;

    let mut latencies = Vec::new();
    for round in 0..ROUNDS {
        // A record a second: a read of the platform goes by without one.
        platform.read(500, Duration::from_secs(1)).await;
        platform.reads.request(ReadRequest::new(500, Duration::from_secs(1))).await.unwrap();
        let sent = Instant::now();
        stage.send(&producer, i32::try_from(round % 3).unwrap(), "later");
        let mut messages = Vec::new();
        // With the end of its batch: the platform does nothing before that.
        while let ReadEvent::Message(message) = platform.reads.next().await.unwrap() {
            messages.push(message);
        }
        // A producer that the machine keeps waiting may be later than the read.
        if messages.is_empty() {
            messages = platform.read_all(1).await;
        }
        latencies.push(sent.elapsed());
        assert_eq!(messages.len(), 1);
        platform.ack(&messages).await;
    }
    latencies.sort_unstable();
    assert!(latencies[ROUNDS / 2] < BOUND, "{latencies:?}");
    assert!(source.close(PATIENCE).await);
}
