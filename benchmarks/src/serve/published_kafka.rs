//! A Kafka source on the crate `numaflow` 0.6.0, in the shape of the one that is built into the platform: records awaited
//! one by one until the read is full or its time is over, each copied into values of its own, and with every ack a commit
//! of the highest offset of each partition, which is waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use numaflow::shared::ServerExtras;
use numaflow::source::{self, Message, NackOffset, Offset, SourceReadRequest, Sourcer};
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message as _, TopicPartitionList};
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use super::{Serving, Topic};
use crate::Outcome;

/// Where the built-in source says which topic a record is of.
const TOPIC_HEADER: &str = "X-NF-Kafka-TopicName";

pub(super) async fn source(serving: Serving) -> Outcome<()> {
    let Topic { broker, topic, group } = serving.topic()?;
    // Its properties; all others are the client library's own.
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .create()?;
    consumer.subscribe(&[topic])?;
    let source = Awaiting { consumer: Arc::new(consumer) };
    let Serving { socket, info, .. } = serving;
    source::Server::new(source).with_socket_file(socket).with_server_info_file(info).start().await
}

struct Awaiting {
    consumer: Arc<StreamConsumer>,
}

#[tonic::async_trait]
impl Sourcer for Awaiting {
    async fn read(&self, request: SourceReadRequest, transmitter: Sender<Message>) {
        let mut over = std::pin::pin!(sleep(request.timeout));
        for _ in 0..request.count {
            let message = tokio::select! {
                biased;
                () = &mut over => return,
                received = self.consumer.recv() => match received {
                    Ok(message) => copied(&message),
                    // Brokers that are away come back; the load client notices when nothing comes.
                    Err(_) => continue,
                },
            };
            if transmitter.send(message).await.is_err() {
                return;
            }
        }
    }

    async fn ack(&self, offsets: Vec<Offset>) {
        let mut highest: HashMap<String, HashMap<i32, i64>> = HashMap::new();
        for Offset { offset, .. } in offsets {
            let Some((topic, partition, offset)) = parsed(&offset) else { continue };
            let known = highest.entry(topic).or_default().entry(partition).or_insert(offset);
            *known = offset.max(*known);
        }
        for (topic, partitions) in highest {
            let mut next = TopicPartitionList::new();
            for (partition, offset) in partitions {
                // Fails for offsets that do not exist only.
                drop(next.add_partition_offset(&topic, partition, rdkafka::Offset::Offset(offset + 1)));
            }
            let consumer = self.consumer.clone();
            // A commit that fails is made up for by the next, since it is of the highest.
            drop(tokio::task::spawn_blocking(move || consumer.commit(&next, CommitMode::Sync)).await);
        }
    }

    async fn nack(&self, _offsets: Vec<NackOffset>) {}

    async fn pending(&self) -> Option<usize> {
        None
    }
}

fn copied(message: &BorrowedMessage<'_>) -> Message {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    let millis = message.timestamp().to_millis().and_then(|millis| u64::try_from(millis).ok()).unwrap_or_default();
    Message {
        value: message.payload().unwrap_or_default().to_vec(),
        offset: Offset { offset: format!("{topic}:{partition}:{offset}").into_bytes(), partition_id: partition },
        event_time: (UNIX_EPOCH + Duration::from_millis(millis)).into(),
        keys: message.key().map(|key| String::from_utf8_lossy(key).into_owned()).into_iter().collect(),
        headers: HashMap::from([(TOPIC_HEADER.to_owned(), topic.to_owned())]),
        user_metadata: None,
    }
}

fn parsed(offset: &[u8]) -> Option<(String, i32, i64)> {
    let mut parts = str::from_utf8(offset).ok()?.split(':');
    Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
