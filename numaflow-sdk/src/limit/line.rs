//! Who waits for room, and who is woken when there is some. Pure: no lock, and no wake-up happens here.
//!
//! A line is woken from its front, only as many as there is room for. A wake-up gives nothing away: the room goes to whoever
//! looks first, because a stream that is woken may not look for long (hyper does not poll a body while its peer takes
//! nothing in). But as long as a wake-up is under way, nobody else is woken for the same room. So one that is under way for
//! too long is given up, and all who sleep are woken ([`Line::pass_time`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use super::Bytes;

/// A place in a line. It stays the same until there was room, also where its owner leaves the line meanwhile. Changed under
/// the lock of the room only.
#[derive(Debug, Default)]
pub(super) struct Place(AtomicU64);

/// In a place: whether its owner is in line, sleeping or woken. The number is in the other bits.
const IN_LINE: u64 = 1;

impl Place {
    /// Whether its owner is in line.
    pub(super) fn is_in_line(&self) -> bool {
        self.0.load(Relaxed) & IN_LINE != 0
    }
}

/// What somebody waits for.
#[derive(Debug, Clone)]
pub(super) struct Need {
    /// Messages or bytes.
    pub(super) amount: usize,
    /// What the stream holds, where that matters.
    pub(super) held: Option<Arc<Bytes>>,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    last: u64,
    /// In the order of their places.
    asleep: BTreeMap<u64, (Need, Waker)>,
    /// Those who were woken and have not looked since: how much they need, and when they were woken.
    woken: BTreeMap<u64, (usize, u64)>,
    /// The room that those who were woken will take.
    promised: usize,
    time: u64,
}

impl Line {
    /// Puts somebody in line, or back in their place. True where a wake-up was under way.
    pub(super) fn wait(&mut self, place: &Place, need: Need, waker: &Waker) -> bool {
        let mut number = place.0.load(Relaxed) & !IN_LINE;
        if number == 0 {
            self.last += 2;
            number = self.last;
        }
        place.0.store(number | IN_LINE, Relaxed);
        let was_woken = self.forget_woken(number);
        match self.asleep.get_mut(&number) {
            Some((asleep, known)) => {
                *asleep = need;
                known.clone_from(waker);
            }
            None => drop(self.asleep.insert(number, (need, waker.clone()))),
        }
        was_woken
    }

    /// Takes somebody out of the line, who keeps the place. True where a wake-up was under way, which is somebody else's now.
    pub(super) fn leave(&mut self, place: &Place) -> bool {
        let number = place.0.load(Relaxed);
        if number & IN_LINE == 0 {
            return false;
        }
        let number = number & !IN_LINE;
        place.0.store(number, Relaxed);
        self.asleep.remove(&number);
        self.forget_woken(number)
    }

    /// There was room, and the place is given up. True where a wake-up was under way.
    pub(super) fn served(&mut self, place: &Place) -> bool {
        if place.0.load(Relaxed) == 0 {
            return false;
        }
        let was_woken = self.leave(place);
        place.0.store(0, Relaxed);
        was_woken
    }

    /// The first one who sleeps and for whom there is room. `fits` is told what each needs.
    pub(super) fn wake(&mut self, mut fits: impl FnMut(&Need) -> bool) -> Option<Waker> {
        let number = *self.asleep.iter().find(|(_, (need, _))| fits(need))?.0;
        let (need, waker) = self.asleep.remove(&number)?;
        self.promised = self.promised.saturating_add(need.amount);
        self.woken.insert(number, (need.amount, self.time));
        Some(waker)
    }

    /// The room that wake-ups are under way for.
    pub(super) fn promised(&self) -> usize {
        self.promised
    }

    /// Whether no wake-up is under way.
    pub(super) fn nobody_woken(&self) -> bool {
        self.woken.is_empty()
    }

    /// A while has passed, long enough for anybody who is woken to look. If somebody has not since it passed last, all who
    /// sleep are to be woken.
    pub(super) fn pass_time(&mut self) -> Vec<Waker> {
        self.time += 1;
        let overdue: Vec<_> = self
            .woken
            .iter()
            .filter(|(_, (_, woken_at))| woken_at + 1 < self.time)
            .map(|(number, _)| *number)
            .collect();
        if overdue.is_empty() {
            return Vec::new();
        }
        for number in overdue {
            self.forget_woken(number);
        }
        std::iter::from_fn(|| self.wake(|_| true)).collect()
    }

    fn forget_woken(&mut self, number: u64) -> bool {
        let Some((amount, _)) = self.woken.remove(&number) else { return false };
        self.promised = self.promised.saturating_sub(amount);
        true
    }
}
