//! Many cases, one after the other or some at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use crate::outcome::{Report, Unproven};
use crate::{Case, Subject, cases};

/// A run of cases against one subject.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Suite {
    /// The server, or its command.
    pub subject: Subject,
    /// The cases, in the order of their reports.
    pub cases: Vec<&'static Case>,
    /// How many cases run at a time; a server that runs already is given one at a time whatever this says.
    pub jobs: usize,
    /// When the run ends at the latest. Each case has a deadline of its own beside it.
    pub deadline: Duration,
}

impl Suite {
    /// All cases for the subject's kind, one for each processor at a time, for at most 15 minutes.
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        const DEADLINE: Duration = Duration::from_secs(15 * 60);
        let cases = cases::all().filter(|case| case.applies_to(subject.kind())).collect();
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        Self { subject, cases, jobs, deadline: DEADLINE }
    }

    /// Plays the cases, and hands each report on in the order of the cases, as soon as it is there.
    ///
    /// It ends by the deadline: cases that are not over by then are broken off, and what has not begun is told as such.
    /// Dropped before, it leaves no process behind.
    pub async fn run(&self, mut on_report: impl FnMut(Report)) {
        let jobs = match self.subject {
            Subject::Running(_) => 1,
            Subject::Command { .. } => self.jobs.max(1),
        };
        let end = Instant::now() + self.deadline;
        let played = stream::iter(self.cases.iter().enumerate())
            .map(async |(number, case)| (number, self.play(case, end).await))
            .buffer_unordered(jobs);
        let mut played = std::pin::pin!(played);
        // A case that takes long holds back the reports of those after it, not the cases.
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        while let Some((number, report)) = played.next().await {
            waiting.insert(number, report);
            while let Some(report) = waiting.remove(&next) {
                on_report(report);
                next += 1;
            }
        }
    }

    async fn play(&self, case: &'static Case, end: Instant) -> Report {
        // One that has not begun by then is not begun.
        let played = if Instant::now() < end { timeout_at(end, case.play(&self.subject)).await.ok() } else { None };
        played.unwrap_or_else(|| Report {
            case,
            kind: self.subject.kind(),
            outcome: Err(Unproven::CutOff(self.deadline)),
            frames: Vec::new(),
            log: String::new(),
            took: Duration::ZERO,
        })
    }
}
