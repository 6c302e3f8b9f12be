//! How a server came to its end, and what it left undone.

use std::fmt::{self, Write};
use std::io;
use std::time::Duration;

use crate::in_flight::{Listed, Stage};
use crate::logging;

/// The length at which a line of the log that names messages ends: what every log takes in one piece.
const LINE: usize = 1000;

/// How a server came to its end: nothing at all is left after a clean drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Whether the server ended because a handler panicked (see
    /// [`MapService::exit_on_panic`](crate::map::MapService::exit_on_panic)), or an action of
    /// [`Server::on_shutdown`](crate::Server::on_shutdown) did.
    pub after_panic: bool,
    /// The streams that still had a handler at work when the drain's time was over.
    pub abandoned_streams: usize,
    /// The connections that were cut off then, with these streams or with answers that their peer had not taken.
    pub abandoned_connections: usize,
    /// The messages that were read and whose answers HTTP/2 still had or never got, the oldest first. The peer knows them as
    /// unanswered and will send them again, as it will those that it had sent and that were never read. Answers in chunks of
    /// less than 256 bytes are not among them once they are in the write buffer of their connection, of at most 16 KiB; the
    /// peer knows those as unanswered too, if the connection breaks before they are written.
    pub abandoned_messages: Vec<AbandonedMessage>,
}

/// A message that was read and that a drain gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbandonedMessage {
    /// The id that the peer gave it; of one that is longer than 128 bytes, its beginning and an ellipsis.
    pub id: String,
    /// Where it was on its way.
    pub stage: Stage,
    /// The time since it was read.
    pub age: Duration,
}

impl From<Listed> for AbandonedMessage {
    fn from(Listed { id, stage, age, .. }: Listed) -> Self {
        Self { id, stage, age }
    }
}

impl fmt::Display for AbandonedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted, because a peer chooses it.
        write!(f, "{:?} ({}, {:.1} s)", self.id, self.stage.name(), self.age.as_secs_f64())
    }
}

impl Drained {
    /// Lines that name every abandoned message, each of them about a thousand bytes long at most.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for message in &self.abandoned_messages {
            match lines.last_mut() {
                // Writing to a text cannot fail.
                Some(line) if line.len() < LINE => drop(write!(line, ", {message}")),
                _ => lines.push(message.to_string()),
            }
        }
        lines
    }

    /// Says in the log what was left undone, if anything.
    pub(crate) fn log(&self, reason: &str) {
        if *self == (Self { after_panic: self.after_panic, ..Self::default() }) {
            return;
        }
        logging::warn!(
            messages = self.abandoned_messages.len(),
            streams = self.abandoned_streams,
            connections = self.abandoned_connections,
            "{reason}; what is left is given up"
        );
        for line in self.lines() {
            logging::warn!("abandoned: {line}");
        }
    }

    /// Says it on standard error, for a program that has no log.
    pub(crate) fn print(&self) {
        for line in self.lines() {
            // The writer takes everything.
            drop(io::Write::write_fmt(&mut logging::stderr(), format_args!("abandoned: {line}\n")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_named_in_lines_of_bounded_length() {
        let abandoned = |index: usize| AbandonedMessage {
            id: format!("{index}-{}", "\u{1}".repeat(30)),
            stage: Stage::Handler,
            age: Duration::from_millis(1500),
        };
        let drained = Drained { abandoned_messages: (0..500).map(abandoned).collect(), ..Drained::default() };
        let lines = drained.lines();
        // An id is quoted, so that a peer can't make up lines: six bytes for one.
        assert!(lines.iter().all(|line| line.len() < LINE + 6 * 128 + 40), "{lines:?}");
        let text = lines.join(", ");
        assert!((0..500).all(|index| text.contains(&format!("\"{index}-\\u{{1}}"))), "{text}");
        assert_eq!(text.matches(" (handler, 1.5 s)").count(), 500);
    }
}
