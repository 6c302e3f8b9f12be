//! In which order records come.

use std::collections::BTreeMap;
use std::time::Duration;

use numaflow_sdk::NackOptions;
use numaflow_sdk::source::Message;
use rdkafka::producer::Producer as _;
use tokio::time::Instant;

use crate::harness::{PATIENCE, Platform, Stage, deadline};

/// Whatever comes a second time in between: reads are small and large, every seventh record is nacked, and the stream is
/// replaced. Records come while others are read, and between them are the markers of transactions.
pub(crate) async fn first_deliveries_come_in_the_order_of_their_offsets(stage: Stage) {
    const PARTITIONS: i32 = 3;
    const RECORDS: i32 = 360;
    stage.create_topic(PARTITIONS).await;
    let producer = stage.transactions();
    let source = stage.start().await;
    let mut platform = Platform::connect(&source).await;
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    let (mut produced, mut done, mut reads) = (0, 0, 0);
    let deadline = deadline();
    while done < usize::try_from(RECORDS).unwrap() {
        assert!(Instant::now() < deadline, "{done} of {RECORDS} records are done");
        if produced < RECORDS {
            producer.begin_transaction().unwrap();
            for _ in 0..20 * PARTITIONS {
                stage.send(&producer, produced % PARTITIONS, "value");
                produced += 1;
            }
            producer.commit_transaction(PATIENCE).unwrap();
        }
        reads += 1;
        let messages = platform.read(1 + 37 * reads % 100, Duration::from_millis(300)).await;
        let is_first = |message: &Message| message.user_metadata().get("kafka-delivery", "deliveries").is_none();
        for (partition, offset) in messages.iter().filter(|message| is_first(message)).map(|it| stage.place(it)) {
            let before = last.insert(partition, offset);
            assert!(before < Some(offset), "{partition}: {offset} came after {before:?}");
        }
        if reads % 3 == 0 {
            platform.reads = platform.client.read_stream().await.unwrap();
        }
        let (nacked, acked): (Vec<_>, Vec<_>) =
            messages.iter().partition(|message| is_first(message) && stage.place(message).1 % 7 == 0);
        platform.nack(nacked, NackOptions::new()).await;
        done += acked.len();
        platform.ack(acked).await;
    }
    assert_eq!(source.in_flight(), 0);
    assert!(source.close(PATIENCE).await);
}
