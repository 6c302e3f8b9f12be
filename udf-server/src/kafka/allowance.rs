//! How many bytes of decompressed batches the client library may hold. Pure: no clock.
//!
//! The library decompresses a whole answer of a broker before anybody sees a record of it, so a limit of its queues comes
//! too late: a small answer may become gigabytes. Each batch is therefore admitted before it is decompressed, by the size
//! that it will have, and counts until the library frees it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a batch that found no room is waited for before others take what becomes free. The library asks again every
/// half second (`fetch.error.backoff.ms`); longer than that the batch's partition is likely another member's.
const PATIENCE: Duration = Duration::from_secs(3);

/// The allowance of this process. There is one, since the library says nothing of the client that a buffer is for.
static ALLOWANCE: Mutex<Allowance> = Mutex::new(Allowance::new());

/// The allowance of this process, for a moment.
pub(super) fn allowance() -> MutexGuard<'static, Allowance> {
    // Nothing panics while it holds the lock.
    ALLOWANCE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a batch may be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Granted,
    /// There is no room for it now. The library fetches it again after a while.
    Postponed,
    /// It is larger than all that may be held.
    TooLarge,
}

/// What is held, and how much may be.
#[derive(Debug)]
pub(super) struct Allowance {
    limit: usize,
    /// Granted and not yet decompressed, or decompressed and not yet freed.
    held: usize,
    /// By address: what each decompressed batch takes.
    batches: BTreeMap<usize, usize>,
    /// The size of a batch that found no room, and when that was. It has priority, or smaller ones would keep it out.
    waiting: Option<(usize, Instant)>,
    /// Verdicts that the library passes on as damage, because its call has no other answer.
    disguised: (usize, usize),
}

impl Allowance {
    const fn new() -> Self {
        Self { limit: usize::MAX, held: 0, batches: BTreeMap::new(), waiting: None, disguised: (0, 0) }
    }

    /// Sets the most that may be held. Where several sources share the process, the largest limit holds.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = if self.limit == usize::MAX { limit } else { self.limit.max(limit) };
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How much is left.
    pub(super) fn left(&self) -> usize {
        self.limit.saturating_sub(self.held)
    }

    /// Asks for `size` bytes. What is granted is held until [`Allowance::settle`].
    pub(super) fn ask(&mut self, size: usize, now: Instant) -> Verdict {
        if size > self.limit {
            return Verdict::TooLarge;
        }
        if let Some((waiting, since)) = self.waiting
            && waiting != size
            && now.duration_since(since) < PATIENCE
            && size.saturating_add(waiting) > self.left()
        {
            return Verdict::Postponed;
        }
        if size > self.left() {
            if self.waiting.is_none_or(|(waiting, since)| waiting == size || now.duration_since(since) >= PATIENCE) {
                self.waiting = Some((size, now));
            }
            return Verdict::Postponed;
        }
        self.waiting = self.waiting.filter(|(waiting, _)| *waiting != size);
        self.held += size;
        Verdict::Granted
    }

    /// Takes note of what became of a grant: a batch of another size at an address, or none.
    pub(super) fn settle(&mut self, granted: usize, batch: Option<(usize, usize)>) {
        self.held = self.held.saturating_sub(granted);
        if let Some((address, size)) = batch {
            self.held = self.held.saturating_add(size);
            self.batches.insert(address, size);
        }
    }

    /// Takes note that the batch at an address is freed.
    pub(super) fn free(&mut self, address: usize) {
        let size = self.batches.remove(&address).unwrap_or(0);
        self.held = self.held.saturating_sub(size);
    }

    /// Takes note of a verdict that the library will pass on as damage.
    pub(super) fn disguise(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Granted => {}
            Verdict::Postponed => self.disguised.0 += 1,
            Verdict::TooLarge => self.disguised.1 += 1,
        }
    }

    /// A verdict that damage may stand for. If the batch was damaged after all, that shows as it is fetched again.
    pub(super) fn undisguise(&mut self) -> Option<Verdict> {
        let (postponed, too_large) = &mut self.disguised;
        for (count, verdict) in [(postponed, Verdict::Postponed), (too_large, Verdict::TooLarge)] {
            if *count > 0 {
                *count -= 1;
                return Some(verdict);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limit: usize) -> Allowance {
        let mut allowance = Allowance::new();
        allowance.set_limit(limit);
        allowance
    }

    #[test]
    fn what_is_held_never_passes_the_limit() {
        let (mut allowance, now) = (of(100), Instant::now());
        assert_eq!(allowance.ask(101, now), Verdict::TooLarge);
        assert_eq!(allowance.ask(60, now), Verdict::Granted);
        assert_eq!(allowance.ask(60, now), Verdict::Postponed);
        // It became less than was thought.
        allowance.settle(60, Some((1, 30)));
        assert_eq!(allowance.left(), 70);
        assert_eq!(allowance.ask(60, now), Verdict::Granted);
        allowance.settle(60, None);
        allowance.free(1);
        assert_eq!(allowance.left(), 100);
        allowance.free(1);
        assert_eq!(allowance.left(), 100, "it is freed once");
    }

    #[test]
    fn a_large_batch_is_not_kept_out_by_small_ones() {
        let (mut allowance, now) = (of(100), Instant::now());
        assert_eq!(allowance.ask(40, now), Verdict::Granted);
        allowance.settle(40, Some((1, 40)));
        assert_eq!(allowance.ask(90, now), Verdict::Postponed);
        assert_eq!(allowance.ask(30, now), Verdict::Postponed, "it would fit, and the large one waits");
        allowance.free(1);
        assert_eq!(allowance.ask(90, now), Verdict::Granted);
        allowance.settle(90, Some((2, 90)));
        assert_eq!(allowance.ask(10, now), Verdict::Granted);
        allowance.settle(10, None);
        assert_eq!(allowance.ask(80, now), Verdict::Postponed);
        assert_eq!(allowance.ask(10, now), Verdict::Postponed);
        assert_eq!(allowance.ask(10, now + PATIENCE), Verdict::Granted, "it never came back");
    }

    #[test]
    fn a_verdict_in_disguise_is_told_once() {
        let mut allowance = of(1);
        allowance.disguise(Verdict::TooLarge);
        allowance.disguise(Verdict::Postponed);
        let told: Vec<_> = std::iter::from_fn(|| allowance.undisguise()).collect();
        assert_eq!(told, [Verdict::Postponed, Verdict::TooLarge]);
    }
}
