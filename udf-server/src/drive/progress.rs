//! Shows a run while it is on: a bar on a terminal, a line now and then elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Until;
use super::journal::{Counts, Watcher};
use crate::print;

/// How often the bar is drawn.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How long the same notice is not told again.
const QUIET: Duration = Duration::from_secs(10);
/// How often a line is written.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Shows the run on standard error until it is over. The bar has an end while `until` says one.
pub async fn show(mut watcher: Watcher, until: watch::Receiver<Until>) {
    let mut display = Display::new();
    let mut noted = Noted::default();
    let mut ticks = interval(display.period());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick comes at once, and there is nothing to show yet.
    ticks.tick().await;
    loop {
        tokio::select! {
            notice = watcher.notices.recv() => match notice {
                Some(notice) => {
                    if let Some(text) = noted.tell(&notice.to_string(), Instant::now()) {
                        display.note(&text);
                    }
                }
                None => break,
            },
            _ = ticks.tick() => {
                let counts = *watcher.counts.borrow();
                display.update(&counts, *until.borrow());
            }
        }
    }
    display.finish();
}

/// Writes what goes wrong, and nothing else, to standard error until the run is over.
pub async fn tell(mut watcher: Watcher) {
    let mut noted = Noted::default();
    while let Some(notice) = watcher.notices.recv().await {
        if let Some(text) = noted.tell(&notice.to_string(), Instant::now()) {
            print::note(text);
        }
    }
}

/// What was told of late, so that a server that fails a thousand times a second fills no screen.
#[derive(Debug, Default)]
struct Noted {
    /// By text: when it was told, and how often it came since.
    told: BTreeMap<String, (Instant, u64)>,
}

impl Noted {
    /// The text, unless it was told a moment ago; with how often it came meanwhile.
    fn tell(&mut self, text: &str, now: Instant) -> Option<String> {
        // Texts with numbers in them are never the same; these are few in a second.
        self.told.retain(|_, (at, count)| *count > 0 || now - *at < QUIET);
        let Some((at, count)) = self.told.get_mut(text) else {
            self.told.insert(text.to_owned(), (now, 0));
            return Some(text.to_owned());
        };
        if now - *at < QUIET {
            *count += 1;
            return None;
        }
        let before = std::mem::take(count);
        *at = now;
        Some(if before > 0 { format!("{text} ({before} times more before that)") } else { text.to_owned() })
    }
}

enum Display {
    Bar(ProgressBar),
    Lines { last: u64, at: Instant },
}

impl Display {
    fn new() -> Self {
        if !stderr().is_terminal() {
            return Self::Lines { last: 0, at: Instant::now() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {human_pos} resolved  {per_sec}  {msg}"));
        Self::Bar(bar)
    }

    fn period(&self) -> Duration {
        match self {
            Self::Bar(_) => BAR_EVERY,
            Self::Lines { .. } => LINE_EVERY,
        }
    }

    fn note(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines { .. } => print::note(text),
        }
    }

    fn update(&mut self, counts: &Counts, until: Until) {
        let resolved = counts.resolved();
        match self {
            Self::Bar(bar) => {
                if let Until::Resolved(total) = until
                    && bar.length() != Some(total)
                {
                    bar.set_length(total);
                    bar.set_style(style("{wide_bar} {human_pos}/{human_len}  {per_sec}  {msg}"));
                }
                bar.set_position(resolved);
                bar.set_message(remarks(counts));
                bar.tick();
            }
            Self::Lines { last, at } => {
                let now = Instant::now();
                #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
                let rate = (resolved - *last) as f64 / (now - *at).as_secs_f64();
                (*last, *at) = (resolved, now);
                let total = if let Until::Resolved(total) = until { format!(" of {total}") } else { String::new() };
                self.note(&format!("{resolved}{total} resolved, {rate:.0} a second{}", remarks(counts)));
            }
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// What else is worth a word: what waits, and what went wrong.
fn remarks(counts: &Counts) -> String {
    let reconnects = counts.read_reconnects + counts.ack_reconnects + counts.map_reconnects;
    [
        ("pending", counts.pending.unwrap_or(0)),
        ("dead letters", counts.dead_letters),
        ("nacked", counts.nacked),
        ("redelivered", counts.redelivered),
        ("redriven", counts.redriven),
        ("reconnects", reconnects),
    ]
    .into_iter()
    .filter(|(_, number)| *number > 0)
    .fold(String::new(), |text, (name, number)| format!("{text}, {name} {number}"))
}

#[expect(clippy::expect_used, reason = "the templates are constants, and any use of the bar runs them")]
fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_notice_is_told_once_in_a_while_and_counted() {
        let mut noted = Noted::default();
        let now = Instant::now();
        assert_eq!(noted.tell("lost", now).as_deref(), Some("lost"));
        assert_eq!(noted.tell("lost", now + QUIET / 2), None);
        assert_eq!(noted.tell("other", now + QUIET / 2).as_deref(), Some("other"));
        assert_eq!(noted.tell("lost", now + QUIET / 2), None);
        assert_eq!(noted.tell("lost", now + QUIET).as_deref(), Some("lost (2 times more before that)"));
        assert_eq!(noted.tell("lost", now + 2 * QUIET).as_deref(), Some("lost"));
        assert_eq!(noted.told.len(), 1, "what is over is forgotten");
    }
}
