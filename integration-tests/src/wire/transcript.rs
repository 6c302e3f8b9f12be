//! What went over the socket, for people to read.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use super::{common, map, source};

/// How many frames of a case's beginning, and of its end, are kept.
const KEPT: usize = 40;
/// How many characters of a frame are kept.
const SHOWN: usize = 300;

/// One thing that went over the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// When, since the case's first frame.
    pub at: Duration,
    /// Who sent it.
    pub from: Side,
    /// The call it belongs to: its path, and a number that tells it from others of the same path.
    pub call: String,
    /// The message, or what else it was.
    pub what: String,
}

/// One end of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The suite.
    Platform,
    /// The server under test.
    Server,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.from {
            Side::Platform => "->",
            Side::Server => "<-",
        };
        write!(f, "{:9.3} ms {arrow} {} {}", self.at.as_secs_f64() * 1e3, self.call, self.what)
    }
}

/// The frames of one case, shared by all of its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transcript(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicU64,
    kept: Mutex<Kept>,
}

/// The beginning and the end of what went over the socket, put into words only when somebody asks.
#[derive(Debug, Default)]
struct Kept {
    start: Option<Instant>,
    first: Vec<Entry>,
    left_out: usize,
    last: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    from: Side,
    call: CallName,
    what: What,
}

/// A call as the transcript names it.
#[derive(Debug, Clone)]
pub(super) struct CallName {
    number: u64,
    path: Arc<str>,
}

/// What a frame is.
#[derive(Debug)]
pub(super) enum What {
    /// A message, or for one that is too long to show its length.
    Message(Result<Bytes, usize>),
    Other(String),
}

impl What {
    pub(super) fn message(encoded: &Bytes) -> Self {
        const LONG: usize = 64 << 10;
        Self::Message(if encoded.len() > LONG { Err(encoded.len()) } else { Ok(encoded.clone()) })
    }
}

impl Transcript {
    /// A name for a further call of this path.
    pub(super) fn name(&self, path: &str) -> CallName {
        CallName { number: self.0.calls.fetch_add(1, Ordering::Relaxed) + 1, path: path.into() }
    }

    pub(super) fn note(&self, from: Side, call: &CallName, what: What) {
        let mut kept = self.kept();
        let at = kept.start.get_or_insert_with(Instant::now).elapsed();
        let entry = Entry { at, from, call: call.clone(), what };
        if kept.first.len() < KEPT {
            kept.first.push(entry);
            return;
        }
        if kept.last.len() == KEPT {
            kept.last.pop_front();
            kept.left_out += 1;
        }
        kept.last.push_back(entry);
    }

    /// All that is kept.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        let kept = self.kept();
        let mut frames: Vec<Frame> = kept.first.iter().map(Entry::frame).collect();
        if kept.left_out > 0
            && let Some(last) = frames.last_mut()
        {
            last.what = format!("{} (then {} frames that are not shown)", last.what, kept.left_out);
        }
        frames.extend(kept.last.iter().map(Entry::frame));
        frames
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn frame(&self) -> Frame {
        let what = match &self.what {
            What::Message(Ok(encoded)) => describe(&self.call.path, self.from, encoded),
            What::Message(Err(length)) => format!("a message of {length} bytes"),
            What::Other(text) => text.clone(),
        };
        Frame { at: self.at, from: self.from, call: format!("{} #{}", self.call.path, self.call.number), what }
    }
}

/// A message as text, by the path it was sent on.
fn describe(path: &str, from: Side, encoded: &[u8]) -> String {
    let text = match (path, from) {
        (map::MAP_FN, Side::Platform) => decoded::<map::MapRequest>(encoded),
        (map::MAP_FN, Side::Server) => decoded::<map::MapResponse>(encoded),
        (source::READ_FN, Side::Platform) => decoded::<source::ReadRequest>(encoded),
        (source::READ_FN, Side::Server) => decoded::<source::ReadResponse>(encoded),
        (source::ACK_FN, Side::Platform) => decoded::<source::AckRequest>(encoded),
        (source::ACK_FN, Side::Server) => decoded::<source::AckResponse>(encoded),
        (source::NACK_FN, Side::Platform) => decoded::<source::NackRequest>(encoded),
        (source::NACK_FN, Side::Server) => decoded::<source::NackResponse>(encoded),
        (source::PENDING_FN, Side::Server) => decoded::<source::PendingResponse>(encoded),
        (source::PARTITIONS_FN, Side::Server) => decoded::<source::PartitionsResponse>(encoded),
        (_, Side::Server) if path.ends_with("/IsReady") => decoded::<common::ReadyResponse>(encoded),
        _ => None,
    };
    text.unwrap_or_else(|| {
        format!("{} bytes: {}", encoded.len(), encoded[..encoded.len().min(SHOWN / 4)].escape_ascii())
    })
}

fn decoded<M: Message + Default + fmt::Debug>(encoded: &[u8]) -> Option<String> {
    let mut text = format!("{:?}", M::decode(encoded).ok()?);
    if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(cut);
        _ = write!(text, "... ({} bytes)", encoded.len());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let transcript = Transcript::default();
        let call = transcript.name("call");
        for number in 0..KEPT * 3 {
            transcript.note(Side::Platform, &call, What::Other(number.to_string()));
        }
        let frames = transcript.frames();
        assert_eq!(frames.len(), KEPT * 2);
        assert_eq!(frames[0].what, "0");
        assert_eq!(frames[KEPT - 1].what, format!("{} (then {KEPT} frames that are not shown)", KEPT - 1));
        assert_eq!(frames[KEPT * 2 - 1].what, (KEPT * 3 - 1).to_string());
    }

    #[test]
    fn messages_are_shown_as_what_they_are() {
        let text = describe(map::MAP_FN, Side::Platform, &map::handshake().encode_to_vec());
        assert!(text.contains("handshake: Some(Handshake { sot: true })"), "{text}");
        assert_eq!(describe(map::MAP_FN, Side::Server, b"\xff"), "1 bytes: \\xff");
        let long = describe(map::MAP_FN, Side::Platform, &map::message("id", "v".repeat(1000)).encode_to_vec());
        assert!(long.len() < SHOWN + 30 && long.ends_with("bytes)"), "{long}");
    }
}
