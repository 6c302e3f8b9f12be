//! Messages with the same keys in sequence, others in parallel.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::handler::Request;
use super::work::Work;
use crate::Key;
use crate::in_flight::Stage;

/// The keys of a message whose turn it is.
pub(super) type Keys = Arc<[Key]>;

/// Who waits for whom.
#[derive(Debug)]
pub(super) struct Order<R> {
    /// The keys that a call is under way for, with the calls behind it.
    lines: HashMap<Keys, Line<R>>,
}

#[derive(Debug)]
struct Line<R> {
    waiting: VecDeque<Work<R>>,
    /// A message of these keys was lost to the stream: those behind it must not overtake it.
    broken: bool,
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Admission<R> {
    /// It runs. Its keys, where it has any, are to be given back when it is over.
    Now(Work<R>, Option<Keys>),
    /// It waits for the ones before it.
    Later,
    /// Its turn will not come before the stream ends.
    Never,
}

impl<R> Default for Order<R> {
    fn default() -> Self {
        Self { lines: HashMap::new() }
    }
}

impl<R: Request> Order<R> {
    /// Lets a call run, or wait for those of the same keys that came before. Messages without keys have no order.
    pub(super) fn admit(&mut self, work: Work<R>) -> Admission<R> {
        let keys = work.request.keys();
        if keys.is_empty() {
            return Admission::Now(work, None);
        }
        match self.lines.get_mut(keys) {
            Some(Line { broken: true, .. }) => Admission::Never,
            Some(line) => {
                if let Some(held) = &work.held {
                    held.stage(Stage::Queued);
                }
                line.waiting.push_back(work);
                Admission::Later
            }
            None => {
                let keys = Keys::from(keys);
                self.lines.insert(keys.clone(), Line { waiting: VecDeque::new(), broken: false });
                Admission::Now(work, Some(keys))
            }
        }
    }

    /// The call with these keys is over: the one whose turn it is now.
    pub(super) fn finished(&mut self, keys: Keys) -> Option<(Work<R>, Keys)> {
        match self.lines.get_mut(&keys)?.waiting.pop_front() {
            Some(next) => Some((next, keys)),
            None => {
                self.lines.remove(&keys);
                None
            }
        }
    }

    /// The call with these keys was lost to the stream: how many are lost with it.
    pub(super) fn broken(&mut self, keys: &Keys) -> usize {
        self.lines.get_mut(keys).map_or(0, |line| {
            line.broken = true;
            std::mem::take(&mut line.waiting).len()
        })
    }
}
