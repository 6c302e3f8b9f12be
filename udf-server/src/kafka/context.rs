//! What the client library tells us by callback.
//!
//! Callbacks run on the thread that polls, in the middle of a poll. They only note what happened; the thread acts on it
//! after the poll.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::time::Instant;

use super::gone::Reset;

/// How long the same broker error stays out of the log after it was told.
const QUIET: Duration = Duration::from_secs(30);

/// A refusal that is older than this is over: the library tries again within seconds.
const PAUSE: Duration = Duration::from_secs(60);

/// The context of every client that this crate makes.
#[derive(Debug, Default)]
pub(crate) struct Context {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Set when the client leaves the group: a revoke is then answered in place.
    leaving: AtomicBool,
    errors: Mutex<Errors>,
    /// Partitions whose next records were gone. They are rare, and looked for before every record that could follow.
    resets: Mutex<Vec<Reset>>,
    has_resets: AtomicBool,
    commits: Mutex<Commits>,
}

/// What the brokers have answered to commits.
#[derive(Debug, Default)]
pub(super) struct Commits {
    pub(super) succeeded: usize,
    pub(super) failed: usize,
    /// Topic, partition and offset of what was committed.
    pub(super) offsets: Vec<(String, i32, i64)>,
    /// By answer: the partitions that it is about.
    pub(super) answers: Vec<Vec<(String, i32)>>,
}

/// A change of the assignment that waits for its answer.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke { partitions: TopicPartitionList, lost: bool },
}

#[derive(Debug, Default)]
struct Errors {
    told: Option<(RDKafkaErrorCode, Instant)>,
    last: Option<String>,
    refused: Option<Refusal>,
    /// How many there were since the last look.
    count: usize,
}

/// The brokers refuse us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Since when, without a pause.
    pub(super) since: Instant,
    last: Instant,
}

impl Context {
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    /// From here on the client answers a revoke by itself. Its last offsets must have been stored before.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// What was committed since the last call.
    pub(super) fn take_commits(&self) -> Commits {
        std::mem::take(&mut *lock(&self.commits))
    }

    /// How many errors there were since the last call.
    pub(super) fn take_errors(&self) -> usize {
        std::mem::take(&mut lock(&self.errors).count)
    }

    /// The partitions of which records were found gone since the last call.
    pub(super) fn take_resets(&self) -> Vec<Reset> {
        if self.has_resets.swap(false, Ordering::Acquire) {
            std::mem::take(&mut *lock(&self.resets))
        } else {
            Vec::new()
        }
    }

    /// Why the brokers refuse us, if they do now: a failed authentication rarely mends itself.
    pub(super) fn refused(&self, now: Instant) -> Option<Refusal> {
        lock(&self.errors).refused.clone().filter(|refusal| now.duration_since(refusal.last) < PAUSE)
    }

    /// The last thing that went wrong with a broker.
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.errors).last.clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // The library says this nowhere else: records that were still to be read are gone, by retention or because the
        // topic was cut, and it goes on elsewhere.
        if fac == "OFFSET"
            && !matches!(level, RDKafkaLogLevel::Debug)
            && let Some(reset) = Reset::parse(message)
        {
            lock(&self.resets).push(reset);
            self.has_resets.store(true, Ordering::Release);
            tracing::error!("records are gone before they were read: {message}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(fac, "librdkafka: {message}");
            }
            // A broker that is away is an "error" to the library, and told by its error callback too.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::debug!(fac, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::trace!(fac, "librdkafka: {message}"),
        }
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::AllBrokersDown {
            // It follows from what is said of each broker, and says less.
            tracing::debug!(reason, "no broker is connected");
            return;
        }
        // What comes after this is of use to the library's authors only, and never the same twice.
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        if lock(&self.errors).note(code, reason, Instant::now()) {
            tracing::warn!(reason, "trouble with a broker; the client goes on trying");
        }
    }
}

impl Errors {
    /// Keeps an error; `true` when it is worth telling.
    fn note(&mut self, code: RDKafkaErrorCode, reason: &str, now: Instant) -> bool {
        if code == RDKafkaErrorCode::Authentication {
            let before = self.refused.take().filter(|refusal| now.duration_since(refusal.last) < PAUSE);
            let since = before.map_or(now, |refusal| refusal.since);
            self.refused = Some(Refusal { reason: reason.to_owned(), since, last: now });
        }
        self.last = Some(reason.to_owned());
        self.count += 1;
        let known = self.told.is_some_and(|(told, at)| told == code && now.duration_since(at) < QUIET);
        if !known {
            self.told = Some((code, now));
        }
        !known
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assign = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Ordering::Relaxed) {
            let partitions = if assign { None } else { Some(&*partitions) };
            unassign(consumer, partitions);
            return;
        }
        let rebalance = if assign {
            Rebalance::Assign(partitions.clone())
        } else {
            Rebalance::Revoke { partitions: partitions.clone(), lost: consumer.assignment_lost() }
        };
        lock(&self.rebalances).push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let about = offsets.elements().iter().map(|it| (it.topic().to_owned(), it.partition())).collect();
        lock(&self.commits).answers.push(about);
        match result {
            Ok(()) => {
                tracing::debug!(partitions = offsets.count(), "committed");
                let mut commits = lock(&self.commits);
                commits.succeeded += 1;
                for element in offsets.elements() {
                    if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                        commits.offsets.push((element.topic().to_owned(), element.partition(), offset));
                    }
                }
            }
            // There was nothing to commit.
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            // While a broker is away or a rebalance runs this is usual.
            Err(error) => {
                lock(&self.commits).failed += 1;
                tracing::info!(%error, "a commit did not succeed; it is tried again");
            }
        }
    }
}

/// Confirms an assignment in the way that the group's protocol wants it.
pub(super) fn assign(consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
    let result = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(partitions),
    };
    if let Err(error) = result {
        tracing::error!(%error, "the assigned partitions cannot be read");
    }
}

/// Gives partitions back, or all of them.
pub(super) fn unassign(consumer: &BaseConsumer<Context>, partitions: Option<&TopicPartitionList>) {
    let result = match (consumer.rebalance_protocol(), partitions) {
        (RebalanceProtocol::Cooperative, Some(partitions)) => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    };
    if let Err(error) = result {
        tracing::error!(%error, "the revoked partitions cannot be given back");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_once_in_a_while() {
        let mut errors = Errors::default();
        let now = Instant::now();
        assert!(errors.note(RDKafkaErrorCode::BrokerTransportFailure, "refused", now));
        assert!(!errors.note(RDKafkaErrorCode::BrokerTransportFailure, "reset", now + QUIET / 2));
        assert_eq!(errors.last.as_deref(), Some("reset"), "and remembered all the same");
        assert!(errors.note(RDKafkaErrorCode::BrokerTransportFailure, "reset", now + QUIET));
        assert_eq!(errors.refused, None);
        assert!(errors.note(RDKafkaErrorCode::Authentication, "wrong password", now + QUIET));
        let refused = |errors: &Errors| errors.refused.clone().unwrap();
        assert_eq!(refused(&errors).reason, "wrong password");
        let first = now + QUIET;
        errors.note(RDKafkaErrorCode::Authentication, "wrong password", first + PAUSE / 2);
        assert_eq!(refused(&errors).since, first, "it goes on");
        let again = first + PAUSE * 2;
        errors.note(RDKafkaErrorCode::Authentication, "wrong password", again);
        assert_eq!(refused(&errors).since, again, "it was over, and begins anew");
    }
}
