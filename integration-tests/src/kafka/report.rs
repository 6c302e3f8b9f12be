//! What the run says: a line a seed, a summary, and on a terminal what it is doing.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::verdict::{Figures, Violation};
use crate::program::say;

/// The violations that are told of a seed; there may be thousands.
const TOLD: usize = 5;

/// What a seed has come to.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Of what: a seed or a scenario.
    pub(super) name: String,
    pub(super) faults: usize,
    pub(super) figures: Figures,
    pub(super) time: Duration,
    pub(super) violations: Vec<Violation>,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// Its line, and below it what was wrong.
    fn text(&self) -> String {
        let Figures { records, redelivered, duplicates, explained, dead_letters, lost, mistaken, samples } =
            self.figures;
        let verdict = if self.is_good() { "ok" } else { "FAILED" };
        let mut text = format!(
            "{}: {} faults, {records} records, {redelivered} redelivered, {duplicates} duplicates (of {explained} that the \
             faults explain), {dead_letters} dead letters, {samples} samples, {:.0} s: {verdict}",
            self.name,
            self.faults,
            self.time.as_secs_f64()
        );
        if lost > 0 {
            text.push_str(&format!(
                "\n  {lost} records were lost by the cluster itself, or removed; {mistaken} came for one that was in flight"
            ));
        }
        for violation in self.violations.iter().take(TOLD) {
            text.push_str(&format!("\n  {violation}"));
        }
        if self.violations.len() > TOLD {
            text.push_str(&format!("\n  and {} more", self.violations.len() - TOLD));
        }
        text
    }
}

/// What is being done, on a terminal only.
#[derive(Debug)]
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self(bar)
    }

    pub(super) fn say(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_owned());
        }
    }

    /// Prints a line of the report, which stays.
    pub(super) fn line(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Prints what a run has come to; `false` when it was not right.
    pub(super) fn verdict(&self, verdict: &Verdict) -> bool {
        self.line(&verdict.text());
        verdict.is_good()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
