//! What is in the topics, by the word of a reader that has nothing to do with the source.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Outcome;
use super::clock::Micros;
use super::journal::Place;
use super::producers;
use super::stage::Stage;

/// How long the broker may take for the next record.
const PATIENCE: Duration = Duration::from_secs(30);

/// All records that a reader of committed records finds.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// The number of each record.
    pub(super) records: BTreeMap<Place, u64>,
    /// The offset after the last record of each partition.
    pub(super) ends: BTreeMap<i32, i64>,
}

/// A record by its place and its number: after a log was cut there is another one at the place.
pub(super) type Numbered = (Place, u64);

/// What was given up, and when a broker has written it to the dead-letter topic, in the order of these times.
pub(super) type DeadLetters = Vec<(Micros, Numbered)>;

impl Truth {
    /// Reads all partitions of the topic from their beginning to their end.
    pub(super) fn read(stage: &Stage) -> Outcome<Self> {
        let mut truth = Self::default();
        read(stage, &stage.topic, stage.partitions(), |message| {
            let place = (message.partition(), message.offset());
            let number = message.payload().and_then(producers::number_of);
            let number = number.ok_or_else(|| format!("the record {place:?} of the topic has no number"))?;
            truth.records.insert(place, number);
            truth.ends.insert(place.0, place.1 + 1);
            Ok(())
        })?;
        Ok(truth)
    }
}

/// Reads the dead-letter topic.
pub(super) fn read_dead_letters(stage: &Stage) -> Outcome<DeadLetters> {
    let mut letters = DeadLetters::new();
    read(stage, &stage.dead_letter_topic(), 1, |message| {
        let header = |name: &str| {
            let headers = message.headers()?;
            let found = headers.iter().find(|header| header.key == name)?;
            str::from_utf8(found.value?).ok()?.parse::<i64>().ok()
        };
        let partition = header("numaflow.dlq.partition").and_then(|partition| i32::try_from(partition).ok());
        let place = partition.zip(header("numaflow.dlq.offset"));
        let place =
            place.ok_or_else(|| format!("the dead letter {} does not say where it is from", message.offset()))?;
        let number = message.payload().and_then(producers::number_of);
        let number = number.ok_or_else(|| format!("the dead letter {} has no number", message.offset()))?;
        let written = message.timestamp().to_millis().and_then(|millis| Micros::try_from(millis).ok());
        let written = written.ok_or_else(|| format!("the dead letter {} has no time", message.offset()))?;
        letters.push((written * 1000, (place, number)));
        Ok(())
    })?;
    letters.sort_unstable();
    Ok(letters)
}

fn read(
    stage: &Stage,
    topic: &str,
    partitions: i32,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let reader: BaseConsumer = stage
        .client()
        .set("group.id", format!("truth of {topic}"))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    reader.assign(&assignment)?;
    // A partition that grows comes to its end more than once.
    let mut open: BTreeSet<i32> = (0..partitions).collect();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match reader.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                take(&message)?;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = open.remove(&partition),
            // The client goes on by itself.
            Some(Err(_)) | None if heard.elapsed() < PATIENCE => {}
            Some(Err(error)) => return Err(error.into()),
            None => {
                return Err(
                    format!("nothing more of {topic} comes, and the partitions {open:?} are not at their end").into()
                );
            }
        }
    }
    Ok(())
}
