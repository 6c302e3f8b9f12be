//! The thread that owns the client: it alone polls, takes records, answers rebalances and stores offsets.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::alarms::Alarms;
use super::asker::Asker;
use super::brokers::Brokers;
use super::client;
use super::commit_scope::CommitScopes;
use super::commits::Commits;
use super::config::KafkaConfig;
use super::context::{Context, News};
use super::damage::Passing;
use super::dead_letter::{DeadLetters, Letter, Turn};
use super::identity::Identities;
use super::lane::Lane;
use super::native::commit::commit;
use super::native::fetch;
use super::native::generation::generation;
use super::native::position::positions;
use super::pending::Pending;
use super::policy::Oversize;
use super::protocol::GroupProtocol;
use super::rebalance::Rebalancing;
use super::relief::Relief;
use super::search::Search;
use super::secrets::let_go;
use super::shared::Shared;
use super::stall::Stalls;
use super::tracker::Cut;
use super::waiting::Waiting;

/// The longest the thread sleeps. Wake-ups of the client library can be lost, so they are only a hint.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Events served a turn; one poll serves one.
const EVENTS: usize = 16;
/// How long to wait before a client is made anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How often the thread looks for what does not show by itself: markers, records that are never acked.
const ROUND: Duration = Duration::from_millis(500);

/// The reading side of the source.
pub(super) struct Worker {
    pub(super) config: KafkaConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) lanes: Vec<Lane>,
    pub(super) rebalancing: Rebalancing,
    /// Where the brokers are asked what takes them time to answer.
    pub(super) asker: Asker,
    /// What the brokers said last of the ends of the partitions.
    pub(super) pending: Arc<Pending>,
    pub(super) alarms: Alarms,
    pub(super) letters: Option<DeadLetters>,
    stalls: Stalls,
    pub(super) relief: Relief,
    pub(super) search: Search,
    pub(super) identities: Identities,
    pub(super) waiting: Waiting,
    pub(super) commits: Commits,
    /// The partitions of the commit that was sent last.
    pub(super) committing: Vec<u16>,
    pub(super) commit_scopes: CommitScopes,
    subscription: watch::Receiver<Vec<String>>,
    pub(super) renewed: watch::Receiver<Option<Brokers>>,
    round: Instant,
}

impl Worker {
    pub(super) fn new(
        config: KafkaConfig,
        shared: Arc<Shared>,
        consumer: Arc<BaseConsumer<Context>>,
        asker: Asker,
        pending: Arc<Pending>,
        letters: Option<DeadLetters>,
    ) -> Self {
        let now = Instant::now();
        let commits = Commits::new(config.commit_interval(), now);
        let subscription = shared.subscription.subscribe();
        let renewed = shared.renewed.subscribe();
        Self {
            config,
            shared,
            consumer,
            subscription,
            renewed,
            lanes: Vec::new(),
            rebalancing: Rebalancing::default(),
            asker,
            pending,
            letters,
            stalls: Stalls::default(),
            alarms: Alarms::default(),
            relief: Relief::default(),
            search: Search::default(),
            identities: Identities::default(),
            waiting: Waiting::default(),
            commits,
            committing: Vec::new(),
            commit_scopes: CommitScopes::default(),
            round: now,
        }
    }

    /// Joins the group and works until [`Shared::stop`], then leaves the group.
    pub(super) fn run(&mut self) {
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

    fn subscribe(&mut self) {
        let topics = self.subscription.borrow_and_update().clone();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        if topics.is_empty() {
            tracing::warn!(topics = self.config.topics.join(","), "no topic is found yet");
        } else if let Err(error) = self.consumer.subscribe(&topics) {
            tracing::error!(%error, "the topics cannot be subscribed to");
        }
    }

    /// Does all there is to do now; `true` when there is likely more.
    fn turn(&mut self) -> KafkaResult<bool> {
        let now = Instant::now();
        self.shared.progress.poll(now);
        self.serve_events()?;
        self.rebalance(now);
        self.validate();
        self.shared.progress.set_rebalancing(self.rebalancing.waits_for(), now);
        let fetched = self.fetch();
        self.relieve(now);
        self.send_letters(now);
        if now.duration_since(self.round) >= ROUND {
            self.round = now;
            self.make_round(now);
        }
        self.store();
        if self.commits.are_due(now) {
            self.commit(now);
        }
        self.note_commits();
        Ok(fetched)
    }

    /// Serves the client's events. Only an error that the client does not survive is one here: of all others it recovers
    /// by itself, and its error callback has told of them.
    pub(super) fn serve_events(&mut self) -> KafkaResult<()> {
        for _ in 0..EVENTS {
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                Some(Err(error)) => tracing::debug!(%error, "the client goes on"),
                // Records come by the partitions' own queues. One that was on its way before the split comes here.
                Some(Ok(message)) => {
                    let (topic, partition) = (rdkafka::Message::topic(&message), rdkafka::Message::partition(&message));
                    if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.is(topic, partition)) {
                        fetch::with_record(&message, |record| lane.take(&record));
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
            let mut left = if assignment.is_draining() { 0 } else { assignment.room() };
            let is_scarce = left < self.shared.budget.of_all() / 2;
            for lane in &mut self.lanes {
                let tracker = assignment.tracker(lane.id).filter(|_| lane.has_begun());
                let room = tracker.map_or(0, |tracker| tracker.room());
                // Records of a size unlike the last ones may pass what is left.
                lane.room = room.min(left.div_ceil(lane.mean.max(1)));
                if is_scarce && lane.room > 0 {
                    left = left.saturating_sub(lane.queued().min(lane.room) * lane.mean);
                }
            }
        }
        for lane in &mut self.lanes {
            lane.fetch();
            if lane.empty_answers > 0 {
                self.consumer.context().note_unreadable(std::mem::take(&mut lane.empty_answers));
            }
            if let Some(code) = lane.trouble.take() {
                let about = format!("{}:{}: {code}", lane.topic, lane.partition);
                self.consumer.context().note_error(code, &about);
            }
        }
        self.go_back();
        self.count_gone();
        let fetched: usize = self.lanes.iter().map(|lane| lane.fetched.len()).sum();
        if fetched == 0 {
            self.meet_damage();
            return false;
        }
        self.consumer.context().note_served();
        let mut oversize = Vec::new();
        let mut bytes = 0;
        let lacks_topic = self.config.on_oversize == Oversize::DeadLetter && self.letters.is_none();
        let on_oversize = if lacks_topic { Oversize::Halt } else { self.config.on_oversize };
        let mut assignment = self.shared.lock();
        for lane in &mut self.lanes {
            let Some(tracker) = assignment.tracker_mut(lane.id) else { continue };
            lane.note_mean();
            if let Some(first) = lane.fetched.first().map(|(offset, _)| *offset) {
                if first == 0 {
                    self.identities.note_first_record(lane.id, Instant::now());
                }
                // The first record after the group's commit may show that the log was cut while nobody read it.
                let cut = lane.committed.take().and_then(|committed| Cut::before(committed, first));
                lane.cut = cut.map(|cut| (first, cut)).or(lane.cut);
            }
            for (offset, record) in lane.fetched.drain(..) {
                let len = record.len();
                bytes += len;
                let too_large = (len > self.config.max_record_bytes).then(|| record.clone());
                if let Some(cut) = tracker.push(offset, len, record) {
                    lane.cut = Some((offset, cut));
                }
                if let Some(record) = too_large {
                    let cuts = tracker.spend(offset).unwrap_or_default();
                    oversize.push(Letter {
                        id: lane.id,
                        offset,
                        topic: lane.topic.clone(),
                        partition: lane.partition,
                        record,
                        deliveries: 0,
                        cuts,
                        reason: format!("{len} bytes are more than the platform is given"),
                    });
                    match on_oversize {
                        Oversize::Halt => tracker.halt(offset),
                        Oversize::Skip => _ = tracker.settle(offset, cuts),
                        Oversize::DeadLetter => {}
                    }
                }
            }
        }
        drop(assignment);
        self.meet_cuts();
        self.meet_damage();
        self.shared.counters.fetched.add(fetched);
        self.shared.counters.fetched_bytes.add(bytes);
        self.refuse(oversize, on_oversize);
        self.shared.arrived.notify_one();
        true
    }

    /// Tells of records that the platform cannot take, and sends them where they are to go instead.
    fn refuse(&mut self, oversize: Vec<Letter>, then: Oversize) {
        for letter in &oversize {
            tracing::error!(
                topic = letter.topic,
                partition = letter.partition,
                offset = letter.offset,
                bytes = letter.record.len(),
                ?then,
                "the record is larger than --max-record-bytes"
            );
        }
        match (then, &mut self.letters) {
            (Oversize::DeadLetter, Some(letters)) => letters.post(oversize, Instant::now()),
            (Oversize::Skip, _) => self.shared.counters.skipped.add(oversize.len()),
            (Oversize::Halt | Oversize::DeadLetter, _) => {}
        }
    }

    /// Sends what is given up to the dead-letter topic; what is confirmed there is done.
    fn send_letters(&mut self, now: Instant) {
        let posted = self.shared.posted();
        let Some(letters) = &mut self.letters else { return };
        letters.post(posted, now);
        let Turn { written, refused, failures } = letters.turn(now);
        if !written.is_empty() || !refused.is_empty() {
            let mut assignment = self.shared.lock();
            for letter in &written {
                if let Some(tracker) = assignment.tracker_mut(letter.id) {
                    tracker.settle(letter.offset, letter.cuts);
                }
            }
            for (id, offset) in refused {
                if let Some(tracker) = assignment.tracker_mut(id) {
                    tracker.refuse(offset);
                }
            }
            drop(assignment);
            // A partition that stood still may go on.
            self.shared.arrived.notify_one();
        }
        self.shared.counters.dead_letters.add(written.len());
        self.shared.counters.failed_letters.add(failures);
        if let Some(backlog) = letters.news() {
            self.shared.backlog.send_replace(backlog);
        }
    }

    /// Looks for what does not show by itself.
    fn make_round(&mut self, now: Instant) {
        let progress = &self.shared.progress;
        if !progress.is_assigned() && self.config.group_protocol.is_new() && generation(&self.consumer) > 0 {
            progress.set_assigned(true);
        }
        if matches!(self.rebalancing, Rebalancing::No) && self.subscription.has_changed().unwrap_or(false) {
            self.subscribe();
        }
        self.begin_anew();
        self.search(now);
        self.look_after_waiting(now);
        self.renew_in_turn(now);
        self.consumer.context().bootstrap.repeat_if_due(self.consumer.client(), &self.config.brokers);
        self.skip_markers();
        if let Some(timeout) = self.config.inflight_timeout {
            self.expire(now, timeout);
        }
        let assignment = self.shared.lock();
        let mut named = Vec::new();
        for lane in &self.lanes {
            let front = assignment.tracker(lane.id).and_then(|tracker| tracker.front());
            if let Some(alarm) = self.stalls.look(lane.id, front, now) {
                named.push((lane, alarm));
            }
        }
        self.stalls.keep(|id| assignment.tracker(id).is_some());
        if let Some(letters) = &mut self.letters {
            letters.keep(|letter| assignment.tracker(letter.id).is_some_and(|tracker| tracker.is_spent(letter.offset)));
        }
        drop(assignment);
        for (lane, (front, age)) in named {
            tracing::warn!(
                topic = lane.topic,
                partition = lane.partition,
                offset = front.offset,
                deliveries = front.deliveries,
                ?age,
                "the partition waits for this record, which the platform has and does not ack; --inflight-timeout would \
                 deliver it again after a time"
            );
        }
        let refusal = self.consumer.context().refused(now);
        self.shared.progress.set_refusal(refusal.clone());
        if let Some(reason) = refusal.and_then(|refusal| refusal.ends()) {
            self.shared.fail(reason);
        }
        let News { errors, last, denials, denied } = self.consumer.context().take_news();
        if let (1.., Some(error)) = (errors, last) {
            self.shared.progress.note_broker_error(error, now);
        }
        self.shared.counters.broker_errors.add(errors);
        self.shared.counters.denials.add(denials);
        self.shared.progress.trouble().denied = denied;
        if let Some(brokers) = self.consumer.context().take_figures() {
            self.shared.progress.trouble().brokers = brokers;
        }
        self.look_for_trouble(now);
    }

    /// Where everything is done, what the client has passed over is done too: the markers of transactions, and records
    /// of those that were aborted. Without this, pending would never come to nothing.
    fn skip_markers(&mut self) {
        let idle = self.shared.lock().idle();
        if idle.is_empty() {
            return;
        }
        let positions = positions(&self.consumer, self.lanes.iter().filter(|lane| idle.contains(&lane.id)));
        let mut assignment = self.shared.lock();
        for lane in self.lanes.iter_mut().filter(|lane| idle.contains(&lane.id)) {
            let position = positions.iter().find(|(id, _)| *id == lane.id).map(|(_, position)| *position);
            // Another position than that of before the log was cut is one of after.
            if position != lane.outdated {
                lane.outdated = None;
            }
            // Behind the position may be records that were dropped: they come again once the partition is read from there.
            if lane.back.is_some() || lane.broken.is_some() {
                continue;
            }
            // The position among damaged records says nothing.
            let position = match (lane.passing, position) {
                (Some(Passing { next, .. }), _) => next,
                (None, Some(position)) if lane.outdated.is_none() => position,
                (None, _) => continue,
            };
            if let Some(tracker) = assignment.tracker_mut(lane.id) {
                tracker.skip_to(position);
            }
        }
    }

    /// Delivers again what the platform has had for too long.
    fn expire(&mut self, now: Instant, timeout: Duration) {
        let expired = self.shared.lock().expire(now, timeout);
        for (id, count) in &expired {
            self.shared.counters.expired.add(*count);
            if let Some(lane) = self.lanes.iter().find(|lane| lane.id == *id)
                && let Some(held_back) = self.alarms.expired.admit(*id, now)
            {
                let (topic, partition, records) = (&lane.topic, lane.partition, count);
                tracing::warn!(
                    topic,
                    partition,
                    records,
                    held_back,
                    ?timeout,
                    "not acked in time, and delivered again"
                );
            }
        }
        if !expired.is_empty() {
            self.shared.arrived.notify_one();
        }
    }

    /// Stores the last offsets and leaves the group.
    fn leave(&mut self) {
        self.await_commit();
        self.store();
        let uncertain = self.stored(|lane| lane.uncertain);
        if uncertain.count() > 0
            && let Err(error) = commit(&self.consumer, Some(&uncertain))
        {
            tracing::info!(%error, "the last offsets of partitions are not committed: they are delivered again");
        }
        self.answer_all(Instant::now());
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
    pub(super) fn forget(&mut self) {
        let ids: Vec<u16> = self.lanes.drain(..).map(|lane| lane.id).collect();
        self.forget_unread(None);
        self.rebalancing = Rebalancing::default();
        self.commits.answered(false);
        self.shared.progress.set_assigned(false);
        self.shared.lock().lose(&ids);
        self.shared.committed.send_modify(std::collections::BTreeMap::clear);
    }

    /// Puts a new client in the place of one that cannot go on. Its assignment is lost, so nothing is stored.
    fn restart(&mut self, error: &KafkaError) {
        self.forget();
        self.consumer.context().leave();
        let is_unknown = error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnsupportedVersion);
        if is_unknown && self.config.group_protocol == GroupProtocol::Auto {
            tracing::warn!("the brokers do not know the group protocol of Kafka 4; the classic one takes its place");
            self.config.group_protocol = GroupProtocol::Classic;
        } else if let Some(reason) = final_reason(error) {
            self.shared.fail(reason.to_owned());
            while !self.shared.stopped() {
                thread::park();
            }
            return;
        } else {
            tracing::error!(%error, "the Kafka client cannot go on; a new one takes its place");
        }
        self.shared.counters.restarts.add(1);
        self.begin_with_new_client(RESTART_PAUSE);
    }

    /// Joins the group with a new client, after a pause.
    pub(super) fn begin_with_new_client(&mut self, mut pause: Duration) {
        while !self.shared.stopped() {
            thread::park_timeout(std::mem::replace(&mut pause, RESTART_PAUSE));
            match client::consumer(&self.config) {
                Ok(consumer) => {
                    let_go(std::mem::replace(&mut self.consumer, consumer));
                    self.shared.progress.begin_anew(Instant::now());
                    self.subscribe();
                    return;
                }
                Err(error) => tracing::error!(%error, "there is no new client yet"),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The client ends only when what is revoked then is answered, and nobody else does so any more.
        self.consumer.context().leave();
    }
}

/// What a new client could not change either.
fn final_reason(error: &KafkaError) -> Option<&'static str> {
    let code = error.rdkafka_error_code()?;
    if code == RDKafkaErrorCode::FencedInstanceId {
        return Some("another process is the group's static member of this name (group.instance.id)");
    }
    let is_unknown = code == RDKafkaErrorCode::UnsupportedVersion;
    is_unknown.then_some("the brokers do not know --group-protocol consumer (KIP-848): give auto or classic")
}
