//! What a handler is given to do, and what is held for it until its answer has left.

use crate::in_flight::{Entry, Stage};
use crate::limit::{BatchesFull, Hold, Permit, Share};
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

/// One call of a handler: a message, or a batch of them.
#[derive(Debug)]
pub(super) struct Work<R> {
    pub(super) ids: Few<Text>,
    pub(super) request: R,
    /// `None` where the stream keeps it, from one message to the next.
    pub(super) held: Option<Held>,
    /// The bytes of its messages.
    pub(super) size: usize,
}

/// What is held for the messages of one call.
#[derive(Debug)]
pub(super) struct Held {
    /// Until its handler has finished: an answer that the peer does not take must not keep handlers from running.
    permit: Option<Permit>,
    /// Until its answer is handed to HTTP/2.
    hold: Option<Hold>,
    /// Where its messages are listed. A message whose handler is polled in place is listed by its stream.
    entries: Option<Few<Entry>>,
}

impl Held {
    pub(super) fn new(permit: Option<Permit>, hold: Option<Hold>, entry: Option<Entry>) -> Self {
        Self { permit, hold, entries: entry.map(Few::One) }
    }

    /// It is the first message of a batch that is being collected.
    pub(super) fn begins_batch(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.begins_batch();
        }
    }

    /// One more message of a batch, for which `share` holds as much.
    ///
    /// # Errors
    ///
    /// Where all batches of the server have more bytes than `limit` with it.
    pub(super) fn add(&mut self, share: &Share, size: usize, limit: usize, entry: Entry) -> Result<(), BatchesFull> {
        if let (Some(permit), Some(hold)) = (&mut self.permit, &mut self.hold) {
            share.add_to_batch(permit, hold, size, limit)?;
        }
        match &mut self.entries {
            Some(entries) => entries.push(entry),
            None => self.entries = Some(Few::One(entry)),
        }
        Ok(())
    }

    /// Where its messages are listed.
    pub(super) fn entries(&self) -> &[Entry] {
        self.entries.as_ref().map_or(&[], Few::as_slice)
    }

    /// The permit, for a handler that gives it back while it stands still.
    pub(super) fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// More bytes stay in memory than the message has.
    pub(super) fn pins(&mut self, bytes: usize) {
        if let Some(hold) = &mut self.hold {
            hold.grow_to(bytes);
        }
    }

    pub(super) fn stage(&self, stage: Stage) {
        self.entries().iter().for_each(|entry| entry.stage(stage));
    }

    /// Its handler has finished, and answers of this size wait to be taken.
    pub(super) fn answered(&mut self, size: usize) {
        self.permit = None;
        if let Some(hold) = &mut self.hold {
            hold.becomes_answer(size);
        }
        self.stage(Stage::Answered);
    }

    /// What is held until the answers have left.
    pub(super) fn into_parts(self) -> (Option<Hold>, Option<Few<Entry>>) {
        (self.hold, self.entries)
    }
}
