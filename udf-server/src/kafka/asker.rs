//! Questions to the brokers that the reading thread must not wait for: a thread of its own asks them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::client::StartError;
use super::group::Group;
use super::identity::Told;
use super::missing::Missing;
use super::pending::Pending;
use super::positions::{self, Beginning};
use super::shared::Shared;
use super::start::Start;
use super::threads;
use super::throttle::Throttle;

/// How often it is asked how much is left. The platform asks about as often.
const PERIOD: Duration = Duration::from_secs(5);
/// How long to wait before a question that had no answer is put again.
const PAUSE: Duration = Duration::from_millis(500);
/// The most questions without an answer. The client library waits for the answer to one change before it tells of the
/// next, so there is one at a time, and more only where a client was made anew meanwhile.
const QUESTIONS: usize = 8;

/// The reading thread's end.
#[derive(Debug)]
pub(super) struct Asker {
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
    /// How many questions have no answer yet: only the last one's is of use.
    open: usize,
}

/// Partitions of which it is to be looked up where to begin with them.
type Question = Vec<(String, i32)>;

/// Where to begin with the partitions of one question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) beginnings: Vec<Beginning>,
}

impl Asker {
    /// Starts the thread; it ends when the source stops. Topics that do not exist are waited for as long as `patience`.
    pub(super) fn start(
        group: Group,
        start: Start,
        patience: Option<Duration>,
        pending: Arc<Pending>,
        shared: Arc<Shared>,
    ) -> Result<Self, StartError> {
        let (questions, asked) = sync_channel(QUESTIONS);
        let (answer, answers) = sync_channel(QUESTIONS);
        let of_asker = shared.clone();
        let work = move |group: &mut Group| {
            let missing = Missing::new(group, patience);
            keep_asking(group, start, &missing, &pending, &of_asker, &asked, &answer);
        };
        threads::spawn("kafka-asker", shared, || group, work).map_err(|source| StartError::Thread { source })?;
        Ok(Self { questions, answers, open: 0 })
    }

    /// Whether some question has no answer yet.
    pub(super) fn is_busy(&self) -> bool {
        self.open > 0
    }

    /// Asks where to begin with these. An earlier question that has no answer yet gets none any more.
    pub(super) fn ask(&mut self, partitions: Question) {
        match self.questions.try_send(partitions) {
            Ok(()) => self.open += 1,
            Err(error) => tracing::error!(%error, "it cannot be asked where to begin"),
        }
    }

    /// The answer to the last question, once it is there.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        loop {
            let answer = self.answers.try_recv().ok()?;
            self.open -= 1;
            if self.open == 0 {
                return Some(answer);
            }
        }
    }
}

fn keep_asking(
    group: &mut Group,
    start: Start,
    missing: &Missing,
    pending: &Pending,
    shared: &Shared,
    questions: &Receiver<Question>,
    answers: &SyncSender<Answer>,
) {
    let mut renewed = shared.renewed.subscribe();
    let mut told = Throttle::default();
    loop {
        group.renew(&mut renewed);
        pending.ask(group, shared);
        ask_ids(group, shared);
        missing.check(group, shared);
        match questions.recv_timeout(PERIOD) {
            Ok(partitions) => {
                while !shared.stopped() {
                    group.renew(&mut renewed);
                    match positions::look_up(group, start, &partitions, SystemTime::now()) {
                        Ok(beginnings) => {
                            // Nobody waits for it once the source has stopped.
                            _ = answers.send(Answer { beginnings });
                            shared.wake_worker();
                            break;
                        }
                        Err(error) => {
                            if let Some(held_back) = told.admit((), Instant::now()) {
                                tracing::warn!(%error, held_back, "it cannot be looked up where to begin; asking again");
                            }
                            thread::park_timeout(PAUSE);
                        }
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Asks for the ids of the topics. A topic without an answer keeps the one that it had.
fn ask_ids(group: &Group, shared: &Shared) {
    if shared.stopped() {
        return;
    }
    let asked = Instant::now();
    match group.topic_ids() {
        Ok(ids) => shared.topic_ids.send_modify(|told| {
            told.extend(ids.into_iter().map(|(topic, id)| (topic, Told { id, asked })));
        }),
        Err(code) => tracing::debug!(%code, "the ids of the topics are not known anew; the last ones hold"),
    }
}
