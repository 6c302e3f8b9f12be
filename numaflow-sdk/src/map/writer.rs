//! What a stream writes: answers, in the form that its mode has.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::attempt::Failed;
use super::handler::Answers;
use super::wire;
use crate::metrics::{Outcome, Tally};
use crate::text::Text;
use crate::{HandlerError, MapMode, Message, Messages};

/// A value from this size on is a chunk of its own, which saves its copy; for smaller ones the copy costs less than what
/// HTTP/2 does for a chunk.
const LARGE: usize = 16 << 10;
/// What a chunk has room for beyond the length of the one before it.
const SPARE: usize = 512;

/// Writes answers into chunks for HTTP/2.
#[derive(Debug)]
pub(super) struct Writer {
    mode: MapMode,
    max_message_size: usize,
    /// What goes before `out`.
    chunks: VecDeque<Bytes>,
    /// The bytes of these chunks.
    before: usize,
    taking: bool,
    out: Vec<u8>,
    /// How long the last chunk was: most likely the next one is like it, and need not grow to it again.
    last: usize,
    pub(super) tally: Tally,
}

impl Writer {
    pub(super) fn new(mode: MapMode, max_message_size: usize, tally: Tally) -> Self {
        Self {
            mode,
            max_message_size,
            chunks: VecDeque::new(),
            before: 0,
            taking: false,
            out: Vec::new(),
            last: 0,
            tally,
        }
    }

    /// The bytes written and not taken.
    pub(super) fn len(&self) -> usize {
        self.before + self.out.len()
    }

    /// Whether a part of what was written was taken: the rest goes before anything else is written.
    pub(super) fn is_being_taken(&self) -> bool {
        self.taking
    }

    /// What was written, chunk by chunk, and whether that is all of it. A stream keeps no memory for the next chunk: HTTP/2
    /// has this one for a while yet, and an idle stream needs none.
    pub(super) fn take(&mut self) -> Option<(Bytes, bool)> {
        if let Some(chunk) = self.chunks.pop_front() {
            self.before -= chunk.len();
            self.taking = self.len() > 0;
            return Some((chunk, !self.taking));
        }
        self.taking = false;
        self.last = self.out.len();
        (self.last > 0).then(|| (std::mem::take(&mut self.out).into(), true))
    }

    pub(super) fn handshake(&mut self) {
        wire::encode_handshake(&mut self.out);
    }

    pub(super) fn end_of_batch(&mut self) {
        wire::encode_end(&mut self.out, b"");
    }

    /// What a call answered: all of it, or nothing.
    ///
    /// # Errors
    ///
    /// Where an answer is missing, superfluous or larger than the peer takes: the handler has failed then.
    pub(super) fn answers(&mut self, ids: &[Text], answers: &Answers) -> Result<(), Box<Failed>> {
        match (answers, ids) {
            (Answers::One(messages), [id]) if self.mode != MapMode::Stream => {
                let messages = messages.as_slice();
                let length = wire::encoded_len(id.as_bytes(), messages);
                self.check_length(id, length)?;
                self.response(id, messages, length);
                self.tally.finished(outcome(messages), 1);
            }
            (Answers::One(messages), [id]) => {
                self.check(id, messages.as_slice())?;
                self.answer(id, messages.as_slice(), outcome(messages.as_slice()));
            }
            (Answers::Sent, [id]) => {
                wire::encode_end(&mut self.out, id.as_bytes());
                self.tally.finished(Outcome::Answered, 1);
            }
            (Answers::Many(answers), _) => {
                one_for_each(ids, answers)?;
                for (id, messages) in answers {
                    self.check(id, messages.as_slice())?;
                }
                for (id, messages) in answers {
                    self.answer(id, messages.as_slice(), outcome(messages.as_slice()));
                }
            }
            // A handler of single messages is never called with a batch.
            (Answers::One(_) | Answers::Sent, _) => return Err(HandlerError::new("one answer to a batch").into()),
        }
        Ok(())
    }

    /// What the policy answers instead of a handler that failed.
    ///
    /// # Errors
    ///
    /// Where it is larger than the peer takes.
    pub(super) fn instead(&mut self, id: &Text, messages: &Messages) -> Result<(), Box<Failed>> {
        let messages = messages.as_slice();
        self.check(id, messages)?;
        let mut outcome = outcome(messages);
        if outcome == Outcome::Answered {
            outcome = Outcome::DeadLetter;
        } else if outcome == Outcome::Empty {
            // In stream mode what it sent before stands, and the rest of it is dropped.
            outcome = Outcome::Dropped;
        }
        self.answer(id, messages, outcome);
        Ok(())
    }

    /// One output of a message, in stream mode.
    pub(super) fn output(&mut self, id: &Text, message: &Message) {
        self.response(id, std::slice::from_ref(message), self.output_len(id, message));
    }

    fn answer(&mut self, id: &Text, messages: &[Message], outcome: Outcome) {
        match self.mode {
            MapMode::Unary | MapMode::Batch => {
                self.response(id, messages, wire::encoded_len(id.as_bytes(), messages));
            }
            MapMode::Stream => {
                for message in messages {
                    self.output(id, message);
                }
                wire::encode_end(&mut self.out, id.as_bytes());
            }
        }
        self.tally.finished(outcome, 1);
    }

    fn response(&mut self, id: &Text, messages: &[Message], length: usize) {
        let Self { out, chunks, before, last, .. } = self;
        if out.capacity() == 0 {
            out.reserve((*last).max(length.min(LARGE)) + SPARE);
        }
        wire::encode_answer(out, id.as_bytes(), messages, length, |out, value| {
            if value.len() < LARGE {
                return out.extend_from_slice(value);
            }
            let head = Bytes::from(std::mem::take(out));
            *before += head.len() + value.len();
            chunks.extend([head, value.clone()]);
        });
        self.tally.sent(messages.len(), length);
    }

    /// Whether the peer takes responses of this size.
    fn check(&self, id: &Text, messages: &[Message]) -> Result<(), HandlerError> {
        let length = match self.mode {
            MapMode::Unary | MapMode::Batch => wire::encoded_len(id.as_bytes(), messages),
            MapMode::Stream => messages.iter().map(|message| self.output_len(id, message)).max().unwrap_or(0),
        };
        self.check_length(id, length)
    }

    fn output_len(&self, id: &Text, message: &Message) -> usize {
        wire::encoded_len(id.as_bytes(), std::slice::from_ref(message))
    }

    fn check_length(&self, id: &Text, length: usize) -> Result<(), HandlerError> {
        let limit = self.max_message_size;
        if length <= limit {
            return Ok(());
        }
        let problem = format!(
            "the answer to {:?} has {length} bytes, and the limit of this server is {limit}: answer less at once, or raise \
             its max_message_size",
            id.as_str()
        );
        Err(HandlerError::new(problem).terminal())
    }
}

/// What an answer comes to for its message.
fn outcome(messages: &[Message]) -> Outcome {
    if messages.is_empty() {
        Outcome::Empty
    } else if messages.iter().all(|message| message.tags().is_empty()) {
        Outcome::Answered
    } else if messages.iter().any(Message::is_fail) {
        Outcome::FailTag
    } else if messages.iter().any(Message::is_nack) {
        Outcome::Nacked
    } else if messages.iter().all(Message::is_drop) {
        Outcome::Dropped
    } else {
        Outcome::Answered
    }
}

/// Whether each message of a batch has exactly one answer.
fn one_for_each(ids: &[Text], answers: &[(Text, Messages)]) -> Result<(), HandlerError> {
    // In the order in which they were asked, mostly.
    if ids.len() == answers.len() && ids.iter().zip(answers).all(|(id, (answered, _))| id == answered) {
        return Ok(());
    }
    let mut open: HashMap<&Text, isize> = HashMap::with_capacity(ids.len());
    for id in ids {
        *open.entry(id).or_default() += 1;
    }
    for (id, _) in answers {
        *open.entry(id).or_default() -= 1;
    }
    if let Some(id) = answers.iter().map(|(id, _)| id).find(|id| open[id] < 0) {
        let problem = format!("the handler answered {:?} more often than the batch has it", id.as_str());
        return Err(HandlerError::new(problem));
    }
    match ids.iter().find(|id| open[id] > 0) {
        Some(id) => Err(HandlerError::new(format!(
            "the handler answered {} of the {} messages of the batch, and not {:?}: give each message an answer, which may \
             be none at all",
            answers.len(),
            ids.len(),
            id.as_str()
        ))),
        None => Ok(()),
    }
}
