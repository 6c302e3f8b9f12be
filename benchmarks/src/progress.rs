//! What the program says while it measures: a line that changes on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::results::{Metric, Sample};
use crate::table::number;

/// Tells on standard error how far the measuring is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            // The clock of the bar is a thread of its own: not the load client's.
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar }
    }

    /// Something has to be done first.
    pub(crate) fn prepare(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => say(what),
        }
    }

    /// A subject's turn begins.
    pub(crate) fn begin(&self, title: &str, round: usize, rounds: usize, subject: &str) {
        let line = format!("{title}: round {} of {rounds}: {subject}", round + 1);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => say(&line),
        }
    }

    /// A subject's turn is over.
    pub(crate) fn end(&self, subject: &str, sample: &Sample) {
        let figures = [Metric::CpuMicroseconds, Metric::Rate, Metric::P99Microseconds, Metric::StartMilliseconds];
        let names = ["us of CPU", "a second", "us p99", "ms to listening"];
        let figures: Vec<String> = figures
            .into_iter()
            .zip(names)
            .filter_map(|(metric, name)| Some(format!("{} {name}", number(metric, sample.get(metric)?))))
            .collect();
        let line = format!("  {subject}: {}", figures.join(", "));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say(&line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Prints a line on standard error.
pub(crate) fn say(line: &str) {
    // Where nobody can read it, it need not be said.
    _ = writeln!(std::io::stderr(), "{line}");
}
