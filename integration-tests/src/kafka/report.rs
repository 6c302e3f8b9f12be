//! What the run says: a line a seed, a summary, and on a terminal what it is doing.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::verdict::{Figures, Violation};

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
    pub(super) fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// Its line, and below it what was wrong.
    pub(super) fn tell(&self) {
        let Figures { records, redelivered, duplicates, explained, dead_letters, samples } = self.figures;
        let verdict = if self.is_good() { "ok" } else { "FAILED" };
        line(&format!(
            "{}: {} faults, {records} records, {redelivered} redelivered, {duplicates} duplicates (of {explained} that \
             the faults explain), {dead_letters} dead letters, {samples} samples, {:.0} s: {verdict}",
            self.name,
            self.faults,
            self.time.as_secs_f64()
        ));
        for violation in self.violations.iter().take(TOLD) {
            line(&format!("  {violation}"));
        }
        if self.violations.len() > TOLD {
            line(&format!("  and {} more", self.violations.len() - TOLD));
        }
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

    /// Leaves the line to what is printed next.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A line of the report.
#[expect(clippy::print_stdout, reason = "a command-line program")]
pub(super) fn line(text: &str) {
    println!("{text}");
}
