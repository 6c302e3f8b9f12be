//! What a handler is given to do, and what is held for it until its answer has left.

use crate::in_flight::{Entry, Stage};
use crate::limit::{Hold, Permit};
use crate::text::Text;

/// One of something, or as many as a batch has. One costs no allocation.
#[derive(Debug)]
pub(super) enum Few<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn push(&mut self, more: T) {
        match self {
            Self::Many(many) => many.push(more),
            Self::One(_) => {
                if let Self::One(one) = std::mem::replace(self, Self::Many(Vec::new())) {
                    *self = Self::Many(vec![one, more]);
                }
            }
        }
    }
}

impl Few<Held> {
    /// Where its messages are listed; what else is held for them is given back.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        let (one, many) = match self {
            Self::One(one) => (Some(one), Vec::new()),
            Self::Many(many) => (None, many),
        };
        one.into_iter().chain(many).filter_map(|held| held.entry)
    }
}

/// One call of a handler: a message, or a batch of them.
#[derive(Debug)]
pub(super) struct Work<R> {
    pub(super) ids: Few<Text>,
    pub(super) request: R,
    /// `None` where the stream keeps it, from one message to the next.
    pub(super) held: Option<Few<Held>>,
    /// The bytes of its messages.
    pub(super) size: usize,
}

/// What is held for one message.
#[derive(Debug)]
pub(super) struct Held {
    /// Until its handler has finished: an answer that the peer does not take must not keep handlers from running.
    permit: Option<Permit>,
    /// Until its answer is handed to HTTP/2.
    hold: Option<Hold>,
    /// Where it is listed; a message whose handler is polled in place is listed by its stream.
    entry: Option<Entry>,
}

impl Held {
    pub(super) fn new(permit: Option<Permit>, hold: Option<Hold>, entry: Option<Entry>) -> Self {
        Self { permit, hold, entry }
    }

    /// Where it is listed.
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// The permit, for a handler that gives it back while it stands still.
    pub(super) fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    pub(super) fn stage(&self, stage: Stage) {
        if let Some(entry) = &self.entry {
            entry.stage(stage);
        }
    }

    /// Its handler has finished, and an answer of this size waits to be taken.
    pub(super) fn answered(&mut self, size: usize) {
        self.permit = None;
        if let Some(hold) = &mut self.hold {
            hold.becomes_answer(size);
        }
        self.stage(Stage::Answered);
    }
}
