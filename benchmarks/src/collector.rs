//! Collecting messages as the platform does before it sends them to a map.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::Outcome;
use crate::serve::Mode;

/// The platform's read batch size: in batch mode it sends once it has so many messages,
const BATCH: usize = 500;
/// or so long after the first, which is its read timeout.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Messages that have arrived, and are not sent.
#[derive(Debug)]
pub(crate) struct Collector {
    mode: Mode,
    /// When each arrived.
    waiting: VecDeque<Instant>,
    /// Since when the next batch is collected; `None` while one is in flight. In unary mode there is never one.
    collecting: Option<Instant>,
}

impl Collector {
    pub(crate) fn new(mode: Mode, now: Instant) -> Self {
        Self { mode, waiting: VecDeque::new(), collecting: Some(now) }
    }

    /// A message arrives.
    pub(crate) fn arrive(&mut self, now: Instant) {
        self.waiting.push_back(now);
    }

    /// How many messages wait here.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a batch is sent and its end not answered.
    pub(crate) fn batch_is_in_flight(&self) -> bool {
        self.collecting.is_none()
    }

    /// The server has answered the end of a batch, of which so many messages are not answered.
    pub(crate) fn end(&mut self, now: Instant, unanswered: usize) -> Outcome<()> {
        if !self.batch_is_in_flight() || unanswered > 0 {
            return Err(format!("the server ended a batch with {unanswered} messages of it unanswered").into());
        }
        self.collecting = Some(now);
        Ok(())
    }

    /// When what waits is sent, if nothing else comes.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (first, collecting) = (*self.waiting.front()?, self.collecting?);
        match self.mode {
            Mode::Unary => Some(first),
            Mode::Batch if self.waiting.len() >= BATCH => Some(first.max(collecting)),
            Mode::Batch => Some(first.max(collecting) + READ_TIMEOUT),
        }
    }

    /// Takes what is to be sent now, which in batch mode is a whole batch: when each message of it arrived.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Instant> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let count = match self.mode {
            Mode::Unary => self.waiting.len(),
            Mode::Batch => {
                self.collecting = None;
                self.waiting.len().min(BATCH)
            }
        };
        self.waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn one_by_one_nothing_waits() {
        let start = Instant::now();
        let mut collector = Collector::new(Mode::Unary, start);
        assert!(collector.take(start).is_empty());
        collector.arrive(start);
        collector.arrive(start + MOMENT);
        assert_eq!(collector.take(start + MOMENT), [start, start + MOMENT]);
        assert_eq!(collector.due(), None);
    }

    #[test]
    fn a_batch_leaves_a_second_after_its_first_message() {
        let start = Instant::now();
        let mut collector = Collector::new(Mode::Batch, start);
        let first = start + 5 * MOMENT;
        collector.arrive(first);
        collector.arrive(first + MOMENT);
        assert_eq!(collector.due(), Some(first + READ_TIMEOUT));
        assert!(collector.take(first + READ_TIMEOUT - MOMENT).is_empty());
        assert_eq!(collector.take(first + READ_TIMEOUT), [first, first + MOMENT]);
        assert!(collector.batch_is_in_flight());
    }

    #[test]
    fn a_full_batch_leaves_at_once_and_takes_no_more_than_fits() {
        let start = Instant::now();
        let mut collector = Collector::new(Mode::Batch, start);
        (0..BATCH + 1).for_each(|_| collector.arrive(start));
        assert_eq!(collector.take(start).len(), BATCH);
        assert_eq!(collector.len(), 1);
    }

    #[test]
    fn the_next_batch_is_collected_once_the_last_is_over() {
        let start = Instant::now();
        let mut collector = Collector::new(Mode::Batch, start);
        collector.end(start, 0).unwrap_err();
        (0..BATCH).for_each(|_| collector.arrive(start));
        collector.take(start);
        (0..BATCH).for_each(|_| collector.arrive(start));
        assert_eq!(collector.due(), None);
        assert!(collector.take(start + 2 * READ_TIMEOUT).is_empty());
        collector.end(start, 1).unwrap_err();
        let over = start + 2 * READ_TIMEOUT;
        collector.end(over, 0).unwrap();
        assert_eq!(collector.take(over).len(), BATCH);
        collector.end(over, 0).unwrap();
        collector.arrive(start);
        assert_eq!(collector.due(), Some(over + READ_TIMEOUT));
    }
}
