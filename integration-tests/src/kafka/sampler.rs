//! Looks at what the group has committed, all along, with a client of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::Outcome;
use super::clock::{self, Micros};
use super::journal::{self, Extent};
use super::stage::Stage;

/// The time from one sample to the next.
const EVERY: Duration = Duration::from_millis(100);
/// How long the broker may take; it may be down.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long there may be no sample before a new client asks: the client library asks nobody any more after an answer about
/// metadata in which no broker is, as a broker gives it that has just started.
const SILENCE: Duration = Duration::from_secs(10);

/// What was committed at some time, and how much was known to be done a little later.
///
/// The order makes it sound: all that the group may have committed by then was in a journal, or in the dead-letter topic,
/// before these were looked at.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Micros,
    pub(super) committed: BTreeMap<i32, i64>,
    pub(super) journals: Extent,
    /// The end of the dead-letter topic.
    pub(super) dead_letters: i64,
}

/// A thread that samples until it is told to stop.
#[derive(Debug)]
pub(super) struct Sampler {
    thread: JoinHandle<Outcome<Vec<Sample>>>,
    over: Arc<AtomicBool>,
    latest: Arc<Mutex<BTreeMap<i32, i64>>>,
}

impl Sampler {
    /// Starts to sample the group of `stage`, whose drivers write their journals to `folder`.
    pub(super) fn start(stage: &Arc<Stage>, folder: &Path) -> Outcome<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let latest = Arc::<Mutex<BTreeMap<i32, i64>>>::default();
        let work = Work {
            onlooker: stage.onlooker()?,
            stage: stage.clone(),
            folder: folder.to_owned(),
            over: over.clone(),
            latest: latest.clone(),
        };
        let thread = thread::Builder::new().name("sampler".to_owned()).spawn(move || work.run())?;
        Ok(Self { thread, over, latest })
    }

    /// What was committed at the last look.
    pub(super) fn latest(&self) -> BTreeMap<i32, i64> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops, and hands over all samples in their order.
    pub(super) fn finish(self) -> Outcome<Vec<Sample>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the sampler panicked")?
    }
}

struct Work {
    stage: Arc<Stage>,
    onlooker: BaseConsumer,
    folder: PathBuf,
    over: Arc<AtomicBool>,
    latest: Arc<Mutex<BTreeMap<i32, i64>>>,
}

impl Work {
    fn run(mut self) -> Outcome<Vec<Sample>> {
        let mut samples = Vec::new();
        let mut is_last = false;
        let mut heard = Instant::now();
        while !is_last {
            // One more sample after the end, so that the last commits are seen.
            is_last = self.over.load(Ordering::Relaxed);
            // A broker that is down does not answer; the next sample will do.
            if let Ok(sample) = self.sample(samples.last().is_some_and(|sample: &Sample| sample.dead_letters > 0)) {
                self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&sample.committed);
                samples.push(sample);
                heard = Instant::now();
            } else if heard.elapsed() >= SILENCE {
                self.onlooker = self.stage.onlooker()?;
                heard = Instant::now();
            }
            thread::sleep(EVERY);
        }
        Ok(samples)
    }

    fn sample(&self, has_letters: bool) -> Outcome<Sample> {
        let committed = self.stage.committed(&self.onlooker, PATIENCE)?;
        let watermarks = self.onlooker.fetch_watermarks(&self.stage.dead_letter_topic(), 0, PATIENCE);
        let dead_letters = match watermarks {
            // A topic that nobody has written to may be away. One that has letters is there, whatever a broker knows of it.
            Err(error) if !has_letters && error.rdkafka_error_code().is_some_and(is_unknown) => 0,
            watermarks => watermarks?.1,
        };
        let journals = journal::extent(&self.folder)?;
        Ok(Sample { at: clock::now(), committed, journals, dead_letters })
    }
}

fn is_unknown(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
}
