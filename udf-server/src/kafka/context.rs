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

use super::bootstrap::Bootstrap;
use super::gone::Reset;
use super::rights::{self, Denial};
use super::search::refused_size;
use super::statistics::{self, BrokerFigures};
use super::throttle::Throttle;

/// How long brokers may refuse a client that they had taken before, for whoever has to renew a password or a certificate.
const REFUSED: Duration = Duration::from_secs(5 * 60);

/// A refusal that is older than this is over: the library tries again within seconds.
const PAUSE: Duration = Duration::from_secs(60);

/// The context of every client that this crate makes.
#[derive(Debug, Default)]
pub(crate) struct Context {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Set when the client leaves the group: a revoke is then answered in place.
    leaving: AtomicBool,
    errors: Mutex<Errors>,
    /// Whether the brokers have refused us since they served us last. Looked at for every batch of records.
    is_refused: AtomicBool,
    /// Partitions whose next records were gone. They are rare, and looked for before every record that could follow.
    resets: Mutex<Vec<Reset>>,
    has_resets: AtomicBool,
    commits: Mutex<Vec<Committed>>,
    brokers: Mutex<Option<Vec<BrokerFigures>>>,
    pub(super) bootstrap: Bootstrap,
}

/// An answer to a commit.
#[derive(Debug)]
pub(super) struct Committed {
    /// Topic and partition, and the offset where there was one to commit.
    pub(super) about: Vec<(String, i32, Option<i64>)>,
    /// Where it is an error of one partition, it is that of all.
    pub(super) result: Result<(), RDKafkaErrorCode>,
}

/// A change of the assignment that waits for its answer.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke { partitions: TopicPartitionList, lost: bool },
}

#[derive(Debug, Default)]
struct Errors {
    /// By error code, and by the client library's facility where there is no code.
    log: Throttle<String>,
    last: Option<String>,
    refused: Option<Refusal>,
    denied: Option<Denial>,
    /// A broker's answer was larger than the library takes.
    oversize: bool,
    /// How many answers to fetches could not be read since the last look.
    unreadable: usize,
    /// How many there were since the last look.
    count: usize,
    /// How many of them denied a right.
    denials: usize,
}

/// What the thread takes note of.
#[derive(Debug, Default)]
pub(super) struct News {
    /// How many errors there were.
    pub(super) errors: usize,
    /// The last of them.
    pub(super) last: Option<String>,
    /// How many of them denied a right.
    pub(super) denials: usize,
    /// The right that was denied last.
    pub(super) denied: Option<Denial>,
}

/// The brokers refuse us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Since when, without a pause.
    pub(super) since: Instant,
    last: Instant,
}

impl Refusal {
    /// Why the source ends, once a refusal has come that is so long after the first.
    pub(super) fn ends(&self) -> Option<String> {
        let has_lasted = self.last.duration_since(self.since) >= REFUSED;
        has_lasted
            .then(|| format!("the brokers have refused us for {} minutes: {}", REFUSED.as_secs() / 60, self.reason))
    }
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
    pub(super) fn take_commits(&self) -> Vec<Committed> {
        std::mem::take(&mut *lock(&self.commits))
    }

    /// What went wrong since the last call.
    pub(super) fn take_news(&self) -> News {
        let mut errors = lock(&self.errors);
        News {
            errors: std::mem::take(&mut errors.count),
            last: errors.last.clone(),
            denials: std::mem::take(&mut errors.denials),
            denied: errors.denied.clone(),
        }
    }

    /// Takes note of answers to fetches of which there was nothing to be read.
    pub(super) fn note_unreadable(&self, answers: usize) {
        lock(&self.errors).unreadable += answers;
    }

    /// How many answers to fetches could not be read since the last call.
    pub(super) fn take_unreadable(&self) -> usize {
        std::mem::take(&mut lock(&self.errors).unreadable)
    }

    /// Takes note of an error of the brokers, and tells of it now and then. `about` is what it is about.
    pub(super) fn note_error(&self, code: RDKafkaErrorCode, about: &str) {
        let now = Instant::now();
        let mut errors = lock(&self.errors);
        let held_back = errors.note(code, about, now);
        self.is_refused.store(errors.refused.is_some(), Ordering::Release);
        let right = rights::missing(code, about);
        if let Some(right) = &right {
            errors.denials += 1;
            errors.denied = Some(Denial { code, right: right.clone(), last: now });
        }
        drop(errors);
        match (held_back, right) {
            (None, _) => {}
            (Some(held_back), Some(right)) => tracing::error!(
                right,
                held_back,
                "the brokers deny a right; nothing goes on that needs it until it is given back"
            ),
            (Some(held_back), None) if is_refusal(code, about) => tracing::error!(
                reason = about,
                held_back,
                "a broker refuses this source; it tries again, with new secrets as soon as their files have some, and \
                 ends after {} minutes: check the sasl.* and ssl.* properties and their files",
                REFUSED.as_secs() / 60
            ),
            (Some(held_back), None) => {
                tracing::warn!(reason = about, held_back, "trouble with a broker; the client goes on trying");
            }
        }
    }

    /// The partitions of which records were found gone since the last call.
    pub(super) fn take_resets(&self) -> Vec<Reset> {
        if self.has_resets.swap(false, Ordering::Acquire) {
            std::mem::take(&mut *lock(&self.resets))
        } else {
            Vec::new()
        }
    }

    /// Writes to the log that records are gone.
    pub(super) fn tell_gone(&self, Reset { topic, partition, message, .. }: &Reset) {
        if let Some(held_back) = lock(&self.errors).log.admit(format!("{topic}:{partition}"), Instant::now()) {
            tracing::error!(held_back, "records are gone before they were read: {message}");
        }
    }

    /// Why the brokers refuse us, if they do now: a failed authentication rarely mends itself.
    pub(super) fn refused(&self, now: Instant) -> Option<Refusal> {
        lock(&self.errors).refused.clone().filter(|refusal| now.duration_since(refusal.last) < PAUSE)
    }

    /// Takes note that the brokers have served us: a refusal of before is over.
    pub(super) fn note_served(&self) {
        if self.is_refused.swap(false, Ordering::AcqRel) {
            lock(&self.errors).refused = None;
        }
    }

    /// What the client library has measured of the brokers, if it has told since the last call.
    pub(super) fn take_figures(&self) -> Option<Vec<BrokerFigures>> {
        lock(&self.brokers).take()
    }

    /// Whether there was an answer since the last call that is larger than the library takes.
    pub(super) fn take_oversize(&self) -> bool {
        std::mem::take(&mut lock(&self.errors).oversize)
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
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                let held_back = lock(&self.errors).log.admit(fac.to_owned(), Instant::now());
                if let Some(held_back) = held_back {
                    tracing::error!(fac, held_back, "librdkafka: {message}");
                }
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Info
                if is_told_here_only(level, fac) =>
            {
                if let Some(held_back) = lock(&self.errors).note_line(fac, message, Instant::now()) {
                    tracing::warn!(
                        fac,
                        reason = message,
                        held_back,
                        "trouble with what a broker answers; the client goes on trying"
                    );
                }
            }
            // A broker that is away is an "error" to the library, and told by its error callback too.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::debug!(fac, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::trace!(fac, "librdkafka: {message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(told) = statistics::read(statistics) {
            self.bootstrap.note(&told);
            *lock(&self.brokers) = Some(told.brokers);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::AllBrokersDown {
            // It follows from what is said of each broker, and says less.
            tracing::debug!(reason, "no broker is connected");
            return;
        }
        // What comes after this is of use to the library's authors only, and never the same twice.
        let reason = reason.split(" (after ").next().unwrap_or(reason);
        self.note_error(code, reason);
    }
}

/// Whether the client library tells of this trouble with a broker in its log and nowhere else: answers that cannot be read,
/// requests without an answer, connections that are closed while something is asked.
fn is_told_here_only(level: RDKafkaLogLevel, fac: &str) -> bool {
    match fac {
        "PROTOERR" | "PROTOUFLOW" | "REQTMOUT" | "FETCH" | "APIVERSION" | "METADATA" => true,
        // At the level of errors its callback tells of it too. Where it was idle, a connection that is closed is no trouble,
        // and told at the level of debugging.
        "FAIL" => matches!(level, RDKafkaLogLevel::Warning | RDKafkaLogLevel::Info),
        _ => false,
    }
}

/// Whether the brokers refuse us, or we them: a wrong password or certificate, or none that is valid any more. A broker
/// that does not like a client's certificate says so when the library takes the connection for made, and that comes as the
/// text of OpenSSL only.
fn is_refusal(code: RDKafkaErrorCode, reason: &str) -> bool {
    matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
        || reason.contains("SSL routines") && reason.contains("alert")
}

impl Errors {
    /// Keeps an error; when it is to be told, how many of its kind were not since the last time.
    fn note(&mut self, code: RDKafkaErrorCode, reason: &str, now: Instant) -> Option<usize> {
        if is_refusal(code, reason) {
            let before = self.refused.take().filter(|refusal| now.duration_since(refusal.last) < PAUSE);
            let since = before.map_or(now, |refusal| refusal.since);
            self.refused = Some(Refusal { reason: reason.to_owned(), since, last: now });
        }
        self.note_line(&format!("{code:?}"), reason, now)
    }

    /// As [`Errors::note`], of what the client library tells without a code.
    fn note_line(&mut self, fac: &str, reason: &str, now: Instant) -> Option<usize> {
        self.oversize |= refused_size(reason).is_some();
        self.unreadable += usize::from(matches!(fac, "PROTOERR" | "PROTOUFLOW") && reason.contains(" for Fetch "));
        self.last = Some(reason.to_owned());
        self.count += 1;
        self.log.admit(fac.to_owned(), now)
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
            self.note_served();
            Rebalance::Assign(partitions.clone())
        } else {
            Rebalance::Revoke { partitions: partitions.clone(), lost: consumer.assignment_lost() }
        };
        lock(&self.rebalances).push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let code = |error: KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let result = result.map_err(code);
        if result.is_ok() {
            tracing::debug!(partitions = offsets.count(), "committed");
            let is_of_group = |denied: &mut Denial| denied.code == RDKafkaErrorCode::GroupAuthorizationFailed;
            lock(&self.errors).denied.take_if(is_of_group);
        }
        let about = offsets.elements().into_iter().map(|it| {
            let offset = if let Offset::Offset(offset) = it.offset() { Some(offset) } else { None };
            (it.topic().to_owned(), it.partition(), offset)
        });
        lock(&self.commits).push(Committed { about: about.collect(), result });
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
    use super::super::throttle::QUIET;
    use super::*;

    #[test]
    fn answers_that_cannot_be_read_and_connections_that_are_closed_are_told() {
        let context = Context::default();
        context.log(RDKafkaLogLevel::Error, "PROTOUFLOW", "[thrd:b]: b/1: Protocol read buffer underflow for Fetch");
        context.log(RDKafkaLogLevel::Warning, "FAIL", "[thrd:b]: b/1: Disconnected (after 12ms in state UP)");
        let news = context.take_news();
        assert_eq!((news.errors, news.denials), (2, 0));
        assert!(news.last.unwrap().contains("Disconnected"));
        // The error callback has this one too, and a configuration is no broker's trouble.
        context.log(RDKafkaLogLevel::Error, "FAIL", "[thrd:b]: b/1: Connect to 127.0.0.1:1 failed");
        context.log(RDKafkaLogLevel::Warning, "CONFWARN", "a property has no effect");
        context.log(RDKafkaLogLevel::Debug, "FAIL", "[thrd:b]: b/1: Disconnected (after 600000ms in state UP)");
        assert_eq!(context.take_news().errors, 0);
    }

    #[test]
    fn a_right_that_is_denied_is_named() {
        let context = Context::default();
        context.error(KafkaError::Global(RDKafkaErrorCode::GroupAuthorizationFailed), "JoinGroup of readers failed");
        let news = context.take_news();
        assert_eq!((news.errors, news.denials), (1, 1));
        assert_eq!(news.denied.unwrap().right, "READ on the group (JoinGroup of readers failed)");
        context.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "refused");
        let news = context.take_news();
        assert_eq!((news.errors, news.denials), (1, 0));
        assert!(news.denied.is_some(), "it is remembered");
    }

    #[test]
    fn what_tls_refuses_is_a_refusal() {
        let alert = "b:9093/1: Receive failed: ssl/record/rec_layer_s3.c:918: error:0A000412:SSL routines::ssl/tls alert \
                     bad certificate: SSL alert number 42";
        assert!(is_refusal(RDKafkaErrorCode::BrokerTransportFailure, alert));
        assert!(is_refusal(RDKafkaErrorCode::SSL, "b:9093/1: SSL handshake failed: certificate verify failed"));
        assert!(is_refusal(RDKafkaErrorCode::Authentication, "b:9094/1: SASL authentication error"));
        let gone = "b:9093/1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?";
        assert!(!is_refusal(RDKafkaErrorCode::BrokerTransportFailure, gone));
    }

    #[test]
    fn a_refusal_is_over_once_the_brokers_serve_us() {
        let context = Context::default();
        let refused = || context.refused(Instant::now()).map(|refusal| refusal.reason);
        context.note_error(RDKafkaErrorCode::Authentication, "wrong password");
        assert_eq!(refused().as_deref(), Some("wrong password"));
        context.note_served();
        assert_eq!(refused(), None);
        context.note_error(RDKafkaErrorCode::BrokerTransportFailure, "b:9092/1: Connection refused");
        assert_eq!(refused(), None);
        context.note_error(RDKafkaErrorCode::Authentication, "wrong password again");
        assert_eq!(refused().as_deref(), Some("wrong password again"));
    }

    #[test]
    fn the_same_trouble_is_told_once_in_a_while() {
        let mut errors = Errors::default();
        let now = Instant::now();
        assert_eq!(errors.note(RDKafkaErrorCode::BrokerTransportFailure, "refused", now), Some(0));
        for _ in 0..5 {
            assert_eq!(errors.note(RDKafkaErrorCode::BrokerTransportFailure, "reset", now + QUIET / 2), None);
            errors.note(RDKafkaErrorCode::RequestTimedOut, "silent", now + QUIET / 2);
        }
        assert_eq!(errors.last.as_deref(), Some("silent"), "and remembered all the same");
        assert_eq!(errors.note(RDKafkaErrorCode::BrokerTransportFailure, "reset", now + QUIET), Some(5));
        assert_eq!(errors.refused, None);
        assert_eq!(errors.note(RDKafkaErrorCode::Authentication, "wrong password", now + QUIET), Some(0));
        let refused = |errors: &Errors| errors.refused.clone().unwrap();
        assert_eq!(refused(&errors).reason, "wrong password");
        let first = now + QUIET;
        errors.note(RDKafkaErrorCode::Authentication, "wrong password", first + PAUSE / 2);
        assert_eq!(refused(&errors).since, first, "it goes on");
        while refused(&errors).last < first + REFUSED {
            assert_eq!(refused(&errors).ends(), None);
            let next = refused(&errors).last + PAUSE / 2;
            errors.note(RDKafkaErrorCode::Authentication, "wrong password", next);
        }
        let ends = refused(&errors).ends();
        assert_eq!(ends.as_deref(), Some("the brokers have refused us for 5 minutes: wrong password"));
        let again = first + REFUSED + PAUSE * 2;
        errors.note(RDKafkaErrorCode::Authentication, "wrong password", again);
        assert_eq!(refused(&errors).since, again, "it was over, and begins anew");
    }
}
