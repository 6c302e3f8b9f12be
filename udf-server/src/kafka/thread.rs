//! The thread that owns the client: it alone polls, takes records, answers rebalances and stores offsets.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use numaflow_sdk::source::EncodedMessage;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use tokio::time::Instant;

use super::client;
use super::config::KafkaConfig;
use super::context::{self, Context, Rebalance};
use super::fetch;
use super::record::Encoder;
use super::shared::Shared;

/// The longest the thread sleeps. Wake-ups of the client library can be lost, so they are only a hint.
const TICK: Duration = Duration::from_millis(20);
/// Events served a turn; one poll serves one.
const EVENTS: usize = 16;
/// The most records taken from one partition a turn, so that no partition waits long for the others.
const BATCH: usize = 500;
/// And the most bytes.
const BATCH_BYTES: usize = 1 << 20;
/// The least time between two commits of our own; the library's own commits come on top.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait before a client is made anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The reading side of the source.
pub(super) struct Worker {
    config: KafkaConfig,
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Context>>,
    lanes: Vec<Lane>,
    /// All records of some partition became done, so pending and committed should meet soon.
    commit_wanted: bool,
    committed: Instant,
}

/// One assigned partition.
struct Lane {
    topic: String,
    partition: i32,
    id: u16,
    queue: PartitionQueue<Context>,
    encoder: Encoder,
    /// How many records this turn may take.
    room: usize,
    fetched: Vec<(i64, EncodedMessage)>,
    /// The offset that was stored last.
    stored: Option<i64>,
}

impl Worker {
    pub(super) fn new(config: KafkaConfig, shared: Arc<Shared>, consumer: Arc<BaseConsumer<Context>>) -> Self {
        Self { config, shared, consumer, lanes: Vec::new(), commit_wanted: false, committed: Instant::now() }
    }

    /// Joins the group and works until [`Shared::stop`], then leaves the group.
    pub(super) fn run(mut self) {
        self.shared.set_worker(thread::current());
        self.subscribe();
        while !self.shared.stopped() {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => thread::park_timeout(TICK),
                Err(error) => self.restart(&error),
            }
        }
        self.leave();
    }

    fn subscribe(&self) {
        let topics: Vec<&str> = self.config.topics().collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            tracing::error!(%error, "the topics cannot be subscribed to");
        }
    }

    /// Does all there is to do now; `true` when there is likely more.
    fn turn(&mut self) -> KafkaResult<bool> {
        self.serve_events()?;
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => self.assign(&partitions),
                Rebalance::Revoke { partitions, lost } => self.revoke(&partitions, lost),
            }
        }
        let fetched = self.fetch();
        self.store();
        Ok(fetched)
    }

    /// Serves the client's events. Only an error that the client does not survive is one here: of all others it recovers
    /// by itself, and its error callback has told of them.
    fn serve_events(&mut self) -> KafkaResult<()> {
        for _ in 0..EVENTS {
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                Some(Err(error)) => tracing::debug!(%error, "the client goes on"),
                // Records come by the partitions' own queues. One that was on its way before the split comes here.
                Some(Ok(message)) => {
                    let (topic, partition) = (rdkafka::Message::topic(&message), rdkafka::Message::partition(&message));
                    let lane = self.lanes.iter_mut().find(|lane| lane.topic == topic && lane.partition == partition);
                    if let Some(lane) = lane {
                        fetch::with_record(&message, |record| {
                            let encoded = lane.encoder.encode(record);
                            lane.fetched.push((record.offset, encoded));
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what has come of every partition that has room, and puts it where reads find it.
    fn fetch(&mut self) -> bool {
        {
            let assignment = self.shared.lock();
            for lane in &mut self.lanes {
                let room = assignment.tracker(lane.id).map_or(0, |tracker| tracker.room());
                lane.room = if assignment.is_draining() { 0 } else { room.min(BATCH) };
            }
        }
        for lane in &mut self.lanes {
            let mut bytes = 0;
            let Lane { queue, encoder, fetched, room, .. } = lane;
            let result = fetch::fetch(queue, room.saturating_sub(fetched.len()), |record| {
                let encoded = encoder.encode(record);
                bytes += encoded.len();
                fetched.push((record.offset, encoded));
                bytes < BATCH_BYTES
            });
            if let Err(error) = result {
                tracing::debug!(%error, topic = lane.topic, partition = lane.partition, "the partition's queue");
            }
        }
        if self.lanes.iter().all(|lane| lane.fetched.is_empty()) {
            return false;
        }
        let mut assignment = self.shared.lock();
        for lane in &mut self.lanes {
            let Some(tracker) = assignment.tracker_mut(lane.id) else { continue };
            for (offset, record) in lane.fetched.drain(..) {
                if !tracker.push(offset, record.len(), record) {
                    tracing::warn!(
                        topic = lane.topic,
                        partition = lane.partition,
                        offset,
                        "the partition's offsets begin again: its log was cut or the topic was made anew"
                    );
                }
            }
        }
        drop(assignment);
        self.shared.arrived.notify_one();
        true
    }

    /// Stores the offsets that may be committed, where they have moved. The library commits what is stored, and refuses
    /// to store for a partition that is not ours: a late ack can't move another member's offset.
    fn store(&mut self) {
        let mut moved = None;
        {
            let assignment = self.shared.lock();
            for lane in &mut self.lanes {
                let Some(tracker) = assignment.tracker(lane.id) else { continue };
                let point = tracker.commit_point();
                if point != lane.stored {
                    lane.stored = point;
                    let moved = moved.get_or_insert_with(TopicPartitionList::new);
                    add(moved, &lane.topic, lane.partition, point);
                    self.commit_wanted |= tracker.is_idle();
                }
            }
        }
        if let Some(moved) = moved {
            store(&self.consumer, &moved);
        }
        if self.commit_wanted && self.committed.elapsed() >= COMMIT_PAUSE {
            self.commit_wanted = false;
            self.committed = Instant::now();
            if let Err(error) = self.consumer.commit_consumer_state(CommitMode::Async) {
                tracing::debug!(%error, "nothing to commit");
            }
        }
    }

    fn assign(&mut self, partitions: &TopicPartitionList) {
        for element in partitions.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let Some(id) = self.shared.topics.partition_id(topic, partition) else {
                tracing::error!(topic, partition, "the partition has no id for the platform and is not read");
                continue;
            };
            // A queue left over would leave the new one empty.
            self.lanes.retain(|lane| lane.id != id);
            // The queue must be split off before the partition is read, or its first records come by the wrong one.
            let Some(mut queue) = self.consumer.split_partition_queue(topic, partition) else {
                tracing::error!(topic, partition, "the partition has no queue and is not read");
                continue;
            };
            let worker = thread::current();
            queue.set_nonempty_callback(move || worker.unpark());
            self.lanes.push(Lane {
                topic: topic.to_owned(),
                partition,
                id,
                queue,
                encoder: Encoder::new(topic, partition, id),
                room: 0,
                fetched: Vec::new(),
                stored: None,
            });
            self.shared.lock().assign(id);
        }
        tracing::info!(partitions = %names(partitions), "assigned");
        context::assign(&self.consumer, partitions);
    }

    /// Gives partitions back: their last offsets are stored first, unless they are another member's already.
    fn revoke(&mut self, partitions: &TopicPartitionList, lost: bool) {
        let mut last = TopicPartitionList::new();
        for element in partitions.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let Some(place) = self.lanes.iter().position(|lane| lane.topic == topic && lane.partition == partition)
            else {
                continue;
            };
            let lane = self.lanes.swap_remove(place);
            let mut assignment = self.shared.lock();
            add(&mut last, topic, partition, assignment.tracker(lane.id).and_then(|tracker| tracker.commit_point()));
            assignment.revoke(lane.id);
        }
        tracing::info!(partitions = %names(partitions), lost, "revoked");
        if !lost {
            store(&self.consumer, &last);
        }
        context::unassign(&self.consumer, Some(partitions));
    }

    /// Stores the last offsets and leaves the group.
    fn leave(mut self) {
        self.store();
        self.forget();
        self.consumer.context().leave();
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!(%error, "the client is closed already");
            return;
        }
        while !self.consumer.closed() {
            self.consumer.poll(TICK);
        }
        tracing::info!(group = self.config.group(), "left the group");
    }

    /// Forgets the assignment: from here on acks have no effect.
    fn forget(&mut self) {
        let mut assignment = self.shared.lock();
        for lane in self.lanes.drain(..) {
            assignment.revoke(lane.id);
        }
    }

    /// Puts a new client in the place of one that cannot go on. Its assignment is lost, so nothing is stored.
    fn restart(&mut self, error: &KafkaError) {
        tracing::error!(%error, "the Kafka client cannot go on; a new one takes its place");
        self.forget();
        self.consumer.context().leave();
        while !self.shared.stopped() {
            thread::park_timeout(RESTART_PAUSE);
            match client::consumer(&self.config) {
                Ok(consumer) => {
                    self.consumer = consumer;
                    self.subscribe();
                    return;
                }
                Err(error) => tracing::error!(%error, "there is no new client yet"),
            }
        }
    }
}

fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, offset: Option<i64>) {
    if let Some(offset) = offset
        && let Err(error) = list.add_partition_offset(topic, partition, Offset::Offset(offset))
    {
        tracing::error!(%error, topic, partition, offset, "the offset cannot be stored");
    }
}

fn store(consumer: &BaseConsumer<Context>, offsets: &TopicPartitionList) {
    if offsets.count() > 0
        && let Err(error) = consumer.store_offsets(offsets)
    {
        tracing::info!(%error, "offsets are not stored: a partition is not ours any more");
    }
}

/// The partitions as text for the log: `topic:partition`, with spaces between.
fn names(partitions: &TopicPartitionList) -> String {
    let name = |element: &TopicPartitionListElem<'_>| format!("{}:{}", element.topic(), element.partition());
    partitions.elements().iter().map(name).collect::<Vec<_>>().join(" ")
}
