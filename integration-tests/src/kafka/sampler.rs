//! Looks at what the group has committed, all along, with a client of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;

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
/// The order makes it sound: all that the group may have committed by then was in a journal before these were looked at, or in
/// the dead-letter topic, which has the time of each letter. Its end is not asked for: a node that is cut off from the others
/// tells an old one.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Micros,
    pub(super) committed: BTreeMap<i32, i64>,
    pub(super) journals: Extent,
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
            if let Ok(sample) = self.sample() {
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

    fn sample(&self) -> Outcome<Sample> {
        let committed = self.stage.committed(&self.onlooker, PATIENCE)?;
        let journals = journal::extent(&self.folder)?;
        Ok(Sample { at: clock::now(), committed, journals })
    }
}
