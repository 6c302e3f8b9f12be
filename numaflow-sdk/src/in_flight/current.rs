//! What a stream shows of the messages that it handles in place, and of the answers on their way to its peer.
//!
//! Most handlers are ready at once and never need an [`Entry`]: for them a lock that nobody else wants and the copy of an
//! id are all that tracking costs. An answer counts as given when HTTP/2 has let go of it: a chunk of 256 bytes and more has
//! been written to the socket then, a smaller one is copied into the write buffer of its connection, which has at most 16
//! KiB and is written next. Either may be kept from it by a peer that takes nothing in, or by handlers that block the thread
//! it would run on.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Entry, InFlight, MAX_ID_BYTES, Seen, Stage, lock, push_cut};
use crate::text::Text;

/// How many numbers a stream takes at once, so that the hot path has no counter to share.
const NUMBERS_AT_ONCE: u64 = 1024;
/// The most messages that a log holds: more than a chunk has answers. Only a stream that fails handles more of them
/// without an answer to hand over, and its peer will be told so.
const MOST_LOGGED: usize = 4096;

/// Messages in the order in which they were handled.
#[derive(Debug, Default)]
struct Log {
    messages: Vec<Logged>,
    /// One behind the other: texts, as bytes because one that is only copied need not be looked at once more.
    ids: Vec<u8>,
}

#[derive(Debug)]
struct Logged {
    sequence: u64,
    bytes: usize,
    since: Instant,
    /// Where its id starts.
    id: usize,
}

impl Log {
    fn push(&mut self, sequence: u64, id: &Text, bytes: usize, since: Instant) {
        if self.messages.len() == MOST_LOGGED {
            self.clear();
        }
        self.messages.push(Logged { sequence, bytes, since, id: self.ids.len() });
        if id.as_bytes().len() <= MAX_ID_BYTES {
            self.ids.extend_from_slice(id.as_bytes());
        } else {
            let mut cut = String::new();
            push_cut(&mut cut, id.as_str());
            self.ids.extend_from_slice(cut.as_bytes());
        }
    }

    fn id(&self, place: Range<usize>) -> &str {
        str::from_utf8(&self.ids[place]).unwrap_or_default()
    }

    /// Most likely the next chunk has as many answers as the one before it.
    fn make_room_for(&mut self, before: &Self) {
        self.messages.reserve(before.messages.len());
        self.ids.reserve(before.ids.len());
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.ids.clear();
    }

    /// Calls `visit` with every message; `last` is the stage of the last one.
    fn each(&self, last: Stage, polls_since: Option<Instant>, visit: &mut impl FnMut(Seen<'_>)) {
        let mut stage = last;
        let mut end = self.ids.len();
        for &Logged { sequence, bytes, since, id } in self.messages.iter().rev() {
            visit(Seen { sequence, id: self.id(id..end), bytes, stage, since, polls_since });
            (stage, end) = (Stage::Answered, id);
        }
    }
}

/// What one stream shows.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// What was handled since answers were last handed over.
    log: Log,
    /// Whether the handler of the last message there has not finished.
    in_hand: bool,
    /// When the stream went on to the handler that it polled last, while it has its thread.
    polls_since: Option<Instant>,
    /// The numbers that this stream may still give out.
    numbers: Range<u64>,
    /// Answers that HTTP/2 has, and has not written, by the number of their chunk.
    handed_over: Vec<(u64, Log)>,
    next_chunk: u64,
    /// The memory of a log for the next one.
    spare: Log,
}

impl Shown {
    pub(super) fn each(&self, visit: &mut impl FnMut(Seen<'_>)) {
        for (_, log) in &self.handed_over {
            log.each(Stage::Answered, self.polls_since, visit);
        }
        self.log.each(if self.in_hand { Stage::Handler } else { Stage::Answered }, self.polls_since, visit);
    }

    pub(super) fn polls_since(&self) -> Option<Instant> {
        self.polls_since
    }
}

/// The place where one stream shows its messages; one for its whole life.
#[derive(Debug)]
pub(crate) struct Current {
    in_flight: InFlight,
    shown: Arc<Mutex<Shown>>,
    /// Messages that had an entry of their own and are answered by what is handed over next.
    answered: Vec<Entry>,
}

impl Current {
    pub(super) fn new(in_flight: InFlight) -> Self {
        let shown = Arc::default();
        lock(&in_flight.registry.currents).push(Arc::downgrade(&shown));
        Self { in_flight, shown, answered: Vec::new() }
    }

    /// The handler of this message begins; the one before it has finished. `since` is when it was read.
    pub(crate) fn begin(&self, id: &Text, bytes: usize, since: Instant) {
        let mut shown = lock(&self.shown);
        let sequence = shown.numbers.next().unwrap_or_else(|| {
            let first = self.in_flight.registry.next_sequence.fetch_add(NUMBERS_AT_ONCE, Ordering::Relaxed);
            shown.numbers = first + 1..first + NUMBERS_AT_ONCE;
            first
        });
        shown.log.push(sequence, id, bytes, since);
        (shown.in_hand, shown.polls_since) = (true, Some(since));
    }

    /// The message that was begun last moves to an entry of its own, because its handler waits: same number, same age.
    /// `None` where there is no such message.
    pub(crate) fn enter(&self, stage: Stage) -> Option<Entry> {
        let mut shown = lock(&self.shown);
        (shown.in_hand, shown.polls_since) = (false, None);
        let Logged { sequence, bytes, since, id } = shown.log.messages.pop()?;
        let text = shown.log.id(id..shown.log.ids.len());
        let entry = self.in_flight.enter_as(sequence, text, bytes, stage, since);
        shown.log.ids.truncate(id);
        Some(entry)
    }

    /// Keeps messages listed until their answers, which were written behind the others, have left with them.
    pub(crate) fn answered(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.answered.extend(entries);
    }

    /// The stream has no message in hand, and goes on, now, with one that is listed in its own right.
    pub(crate) fn rest(&self, now: Instant) {
        let mut shown = lock(&self.shown);
        (shown.in_hand, shown.polls_since) = (false, Some(now));
    }

    /// The stream has no message in hand and nothing to hand over.
    pub(crate) fn end(&mut self) {
        self.answered.clear();
        let mut shown = lock(&self.shown);
        (shown.in_hand, shown.polls_since) = (false, None);
        shown.log.clear();
    }

    /// The stream has no message in hand, and the answers to those it had are in `chunk`. Where HTTP/2 drops what this
    /// returns, it has written all of it, has copied it to be written next, or never will.
    pub(crate) fn hand_over(&mut self, chunk: Bytes) -> Bytes {
        let mut shown = lock(&self.shown);
        (shown.in_hand, shown.polls_since) = (false, None);
        if shown.log.messages.is_empty() && self.answered.is_empty() {
            return chunk;
        }
        let number = shown.next_chunk;
        shown.next_chunk += 1;
        let mut next = std::mem::take(&mut shown.spare);
        next.make_room_for(&shown.log);
        let log = std::mem::replace(&mut shown.log, next);
        shown.handed_over.push((number, log));
        drop(shown);
        let answered = std::mem::take(&mut self.answered);
        Bytes::from_owner(Chunk { bytes: chunk, number, shown: self.shown.clone(), _answered: answered })
    }
}

/// Answers on their way, and who is listed until HTTP/2 lets go of them.
struct Chunk {
    bytes: Bytes,
    number: u64,
    shown: Arc<Mutex<Shown>>,
    _answered: Vec<Entry>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut shown = lock(&self.shown);
        if let Some(index) = shown.handed_over.iter().position(|(number, _)| *number == self.number) {
            let (_, mut log) = shown.handed_over.swap_remove(index);
            log.clear();
            shown.spare = log;
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::in_flight::{BLOCKING, BLOCKS, HELD_UP, PERHAPS_HELD_UP, Summary};

    fn id(id: &str) -> Text {
        id.to_owned().into()
    }

    /// Ids and stages, the oldest first.
    fn listed(in_flight: &InFlight) -> Vec<(String, &'static str)> {
        let listed = in_flight.list(Instant::now());
        listed.into_iter().map(|listed| (listed.id, listed.stage.name())).collect()
    }

    fn expected<const N: usize>(messages: [(&str, &'static str); N]) -> Vec<(String, &'static str)> {
        messages.map(|(id, stage)| (id.to_owned(), stage)).into()
    }

    #[test]
    fn a_stream_shows_the_message_in_hand_and_those_answered_before_it() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let mut current = in_flight.current();
        assert_eq!(listed(&in_flight), []);
        current.begin(&id("a"), 1, now);
        current.begin(&id("b"), 1, now);
        assert_eq!(listed(&in_flight), expected([("a", "answered"), ("b", "handler")]));
        current.end();
        assert_eq!(listed(&in_flight), []);
    }

    #[test]
    fn a_message_whose_handler_waits_keeps_its_number_and_age() {
        let (in_flight, start) = (InFlight::default(), Instant::now());
        let current = in_flight.current();
        current.begin(&id("a"), 1, start);
        current.begin(&id("b"), 7, start);
        let before = in_flight.list(start);
        let entry = current.enter(Stage::Handler).unwrap();
        assert_eq!(in_flight.list(start), before);
        current.begin(&id("c"), 1, start);
        assert_eq!(listed(&in_flight), expected([("a", "answered"), ("b", "handler"), ("c", "handler")]));
        drop(current);
        assert_eq!(listed(&in_flight), expected([("b", "handler")]));
        drop(entry);
        assert_eq!(in_flight.summary(start), Summary::default());
    }

    #[test]
    fn an_answer_is_listed_until_it_is_written() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let mut current = in_flight.current();
        current.begin(&id("a"), 1, now);
        let first = current.hand_over(Bytes::from_static(b"first"));
        let entry = in_flight.enter("b", 1, Stage::Answered, now + Duration::from_nanos(1));
        current.answered(std::iter::once(entry));
        let second = current.hand_over(Bytes::from_static(b"second"));
        assert_eq!((&first[..], &second[..]), (&b"first"[..], &b"second"[..]));
        assert_eq!(listed(&in_flight), expected([("a", "answered"), ("b", "answered")]));
        drop(first);
        assert_eq!(listed(&in_flight), expected([("b", "answered")]));
        // The stream may be over before its last answers are written.
        drop(current);
        assert_eq!(listed(&in_flight), expected([("b", "answered")]));
        drop(second);
        assert_eq!(listed(&in_flight), []);
    }

    /// Who waits for a stream whose handler blocks its thread does not wait for the peer.
    #[test]
    fn a_handler_that_blocks_its_thread_is_what_the_others_wait_for() {
        let (in_flight, start) = (InFlight::default(), Instant::now());
        let (mut current, other) = (in_flight.current(), in_flight.current());
        let waits_for = |after: Duration| -> Vec<_> {
            in_flight.list(start + after).into_iter().map(|listed| (listed.id.clone(), listed.waits_for())).collect()
        };
        let [the_handler, the_peer] = [Stage::Handler, Stage::Answered].map(Stage::waits_for);
        current.begin(&id("a"), 1, start);
        let chunk = current.hand_over(Bytes::from_static(b"a"));
        current.begin(&id("b"), 1, start + Duration::from_nanos(1));
        current.begin(&id("c"), 1, start + Duration::from_nanos(2));
        let elsewhere = in_flight.enter("d", 1, Stage::Answered, start + Duration::from_nanos(3));
        let named = |texts: [&'static str; 4]| -> Vec<_> {
            ["a", "b", "c", "d"].map(str::to_owned).into_iter().zip(texts).collect()
        };
        assert_eq!(waits_for(BLOCKS / 2), named([the_peer, the_peer, the_handler, the_peer]));
        assert_eq!(waits_for(2 * BLOCKS), named([HELD_UP, HELD_UP, BLOCKING, PERHAPS_HELD_UP]));
        // A batch, or another message that is listed in its own right, blocks in place.
        current.rest(start + BLOCKS);
        assert_eq!(waits_for(3 * BLOCKS)[..3], named([HELD_UP, HELD_UP, HELD_UP, ""])[..3]);
        current.end();
        assert_eq!(waits_for(3 * BLOCKS), [("a".to_owned(), the_peer), ("d".to_owned(), the_peer)]);
        drop((chunk, elsewhere, other));
    }

    #[test]
    fn an_answer_to_nobody_is_handed_over_as_it_is() {
        let mut current = InFlight::default().current();
        let handshake = Bytes::from_static(b"handshake");
        assert_eq!(current.hand_over(handshake.clone()).as_ptr(), handshake.as_ptr());
    }

    #[test]
    fn a_log_without_answers_does_not_grow() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let current = in_flight.current();
        for _ in 0..10 * MOST_LOGGED {
            current.begin(&id("x"), 1, now);
        }
        assert!(in_flight.list(now).len() <= MOST_LOGGED);
    }

    #[test]
    fn streams_never_share_a_number() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let mut currents = [in_flight.current(), in_flight.current()];
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 * NUMBERS_AT_ONCE {
            for current in &mut currents {
                current.begin(&id("x"), 1, now);
                assert!(seen.insert(in_flight.list(now)[0].sequence));
                current.end();
            }
        }
    }
}
