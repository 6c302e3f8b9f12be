//! The length-prefixed messages of gRPC, without input or output: chunks of bytes in, messages out, and back.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// A message's head: whether it is compressed (one byte), and its length (four, big-endian).
const PREFIX: usize = 5;

/// The most memory that a message takes before more than this of it has arrived. Messages of up to this size, which are
/// most, never move while they are put together.
const FIRST_ROOM: usize = 128 << 10;

/// Why bytes are not the frames they should be. What follows them can't be read either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A message is announced that is longer than the limit.
    TooLarge {
        /// The announced length in bytes.
        length: usize,
        /// The most bytes that a message may have.
        limit: usize,
    },
    /// A message is compressed, which nobody asked for.
    Compressed,
    /// A message's first byte is neither 0 nor 1.
    BadFlag(u8),
}

/// One message, without its prefix. To be given back with [`Deframer::restore`], because the chunk that it lies in is on
/// loan: counting one more reference to it would cost as much as reading a short message does.
#[derive(Debug, Default)]
#[must_use = "the rest of the chunk goes back with it"]
pub(crate) struct Message {
    /// The message, and behind it what the chunk has of others.
    buffer: Bytes,
    length: usize,
    /// The bytes that stay in memory as long as any slice of the message does: the chunk that it lies in, or itself where
    /// it was put together from several.
    pub(crate) pinned: usize,
}

impl Message {
    /// The message.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// What parts of the message can be slices of.
    pub(crate) fn buffer(&self) -> &Bytes {
        &self.buffer
    }
}

/// Cuts a stream of bytes into messages.
#[derive(Debug)]
pub(crate) struct Deframer {
    max_message_size: usize,
    /// What is left of the chunk being read.
    chunk: Bytes,
    /// How long that chunk was when it came.
    chunk_size: usize,
    /// The chunks behind it. The caller bounds them: it pushes more only when it has taken out what there is.
    later: VecDeque<Bytes>,
    state: State,
    /// Whether the chunk is on loan.
    lent: bool,
}

#[derive(Debug)]
enum State {
    /// Reading a prefix, of which `have` bytes are there.
    Prefix { bytes: [u8; PREFIX], have: usize },
    /// Reading a message of this length. What is there of it is gathered unless all of it lies in one chunk.
    Body { length: usize, gathered: Vec<u8> },
    /// Nothing can be read any more.
    Failed(FrameError),
}

impl State {
    const BETWEEN: Self = Self::Prefix { bytes: [0; PREFIX], have: 0 };
}

impl Deframer {
    /// Creates one that takes messages of up to `max_message_size` bytes.
    pub(crate) fn new(max_message_size: usize) -> Self {
        Self {
            max_message_size,
            chunk: Bytes::new(),
            chunk_size: 0,
            later: VecDeque::new(),
            state: State::BETWEEN,
            lent: false,
        }
    }

    /// Adds bytes as they were received, cut anywhere.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(!self.lent, "a message was not given back");
        if self.chunk.is_empty() {
            self.chunk_size = chunk.len();
            self.chunk = chunk;
        } else {
            self.later.push_back(chunk);
        }
    }

    /// The next message; `None` when more bytes are needed for it.
    ///
    /// # Errors
    ///
    /// When the bytes are not what gRPC sends. The error stays: without a length there is no next message.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, FrameError> {
        debug_assert!(!self.lent, "a message was not given back");
        loop {
            match &mut self.state {
                State::Prefix { .. } => {
                    if !self.read_prefix() {
                        return Ok(None);
                    }
                }
                State::Body { length: 0, .. } => {
                    self.state = State::BETWEEN;
                    return Ok(Some(Message::default()));
                }
                State::Body { length, gathered } => {
                    if gathered.is_empty() && self.chunk.len() >= *length {
                        let length = *length;
                        self.state = State::BETWEEN;
                        self.lent = true;
                        let buffer = std::mem::take(&mut self.chunk);
                        return Ok(Some(Message { buffer, length, pinned: self.chunk_size }));
                    }
                    gather(gathered, *length, &mut self.chunk);
                    if gathered.len() == *length {
                        let buffer = Bytes::from(std::mem::take(gathered));
                        self.state = State::BETWEEN;
                        return Ok(Some(Message { length: buffer.len(), pinned: buffer.len(), buffer }));
                    }
                    if !self.turn_to_next_chunk() {
                        return Ok(None);
                    }
                }
                State::Failed(error) => return Err(*error),
            }
        }
    }

    /// The length of the message that [`Deframer::next`] returns next, as soon as its prefix has arrived; 0 where it will
    /// return an error.
    pub(crate) fn announced(&mut self) -> Option<usize> {
        if !self.read_prefix() {
            return None;
        }
        match &self.state {
            State::Body { length, .. } => Some(*length),
            State::Prefix { .. } | State::Failed(_) => Some(0),
        }
    }

    /// Reads a prefix from what has arrived; false where more bytes are needed for it.
    #[inline]
    fn read_prefix(&mut self) -> bool {
        while let State::Prefix { bytes, have } = &mut self.state {
            // Mostly the whole prefix lies in the chunk; else it is gathered.
            let prefix = match self.chunk.first_chunk() {
                Some(prefix) if *have == 0 => {
                    let prefix = *prefix;
                    self.chunk.advance(PREFIX);
                    prefix
                }
                _ => {
                    let part = self.chunk.split_to(self.chunk.len().min(PREFIX - *have));
                    bytes[*have..*have + part.len()].copy_from_slice(&part);
                    *have += part.len();
                    if *have < PREFIX {
                        if !self.turn_to_next_chunk() {
                            return false;
                        }
                        continue;
                    }
                    *bytes
                }
            };
            self.state = match self.check(prefix) {
                Ok(length) => State::Body { length, gathered: Vec::new() },
                Err(error) => State::Failed(error),
            };
        }
        true
    }

    /// Takes a message back, and the chunk with it.
    pub(crate) fn restore(&mut self, message: Message) {
        if std::mem::take(&mut self.lent) {
            self.chunk = message.buffer;
            self.chunk.advance(message.length);
        }
    }

    /// How much is there of the message that [`Deframer::next`] could not return.
    pub(crate) fn arrived(&self) -> usize {
        match &self.state {
            State::Body { gathered, .. } => gathered.len(),
            State::Prefix { .. } | State::Failed(_) => 0,
        }
    }

    /// Whether all that was pushed has come out as messages: where a stream may end. Anywhere else the peer has stopped
    /// in the middle of a message.
    pub(crate) fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Prefix { have: 0, .. }) && self.chunk.is_empty() && self.later.is_empty()
    }

    /// The length that a prefix announces, if it may be read.
    fn check(&self, [flag, length @ ..]: [u8; PREFIX]) -> Result<usize, FrameError> {
        let length = u32::from_be_bytes(length) as usize;
        match flag {
            0 if length <= self.max_message_size => Ok(length),
            0 => Err(FrameError::TooLarge { length, limit: self.max_message_size }),
            1 => Err(FrameError::Compressed),
            flag => Err(FrameError::BadFlag(flag)),
        }
    }

    /// Whether there was another chunk, once this one is used up.
    fn turn_to_next_chunk(&mut self) -> bool {
        match self.later.pop_front() {
            Some(chunk) => {
                self.chunk_size = chunk.len();
                self.chunk = chunk;
                true
            }
            None => false,
        }
    }
}

/// Moves what `chunk` has of a message of `length` bytes to what is there of it. Room is made for what has arrived and as
/// much again: an announced length alone costs nothing, and no byte is moved more than twice on average.
fn gather(gathered: &mut Vec<u8>, length: usize, chunk: &mut Bytes) {
    let part = chunk.split_to(chunk.len().min(length - gathered.len()));
    let have = gathered.len() + part.len();
    if have > gathered.capacity() {
        let room = length.min(FIRST_ROOM.max(2 * have));
        gathered.reserve_exact(room - gathered.len());
    }
    gathered.extend_from_slice(&part);
}

/// Appends one message with its prefix to `out`. `write` appends the message itself, `length` bytes in all; the caller has
/// made sure that the peer takes as many, which is never more than 4 GiB.
pub(crate) fn put_frame(out: &mut Vec<u8>, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[0, prefix[0], prefix[1], prefix[2], prefix[3]]);
    write(out);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn frame(message: &[u8]) -> Bytes {
        let mut out = Vec::new();
        put_frame(&mut out, message.len(), |out| out.extend_from_slice(message));
        out.into()
    }

    /// Messages of all the sizes that are treated differently: none, within a chunk, moved while they are put together.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![1 => Just(0), 12 => 1_usize..60, 4 => 60_usize..3000, 1 => FIRST_ROOM..4 * FIRST_ROOM];
        (length, any::<u8>())
            .prop_map(|(length, first)| (0..length).map(|i| first.wrapping_add(i.to_le_bytes()[0])).collect())
    }

    /// The next message, given back at once: what it is, and what it keeps in memory.
    fn take(deframer: &mut Deframer) -> Result<Option<(Bytes, usize)>, FrameError> {
        let Some(message) = deframer.next()? else { return Ok(None) };
        let taken = (message.buffer().slice_ref(message.bytes()), message.pinned);
        deframer.restore(message);
        Ok(Some(taken))
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in vec(message(), 0..12),
            cuts in vec(any::<Index>(), 0..40),
            pushed_at_once in 1_usize..4,
        ) {
            let mut stream = Vec::new();
            let mut ends = Vec::new();
            for message in &messages {
                stream.extend_from_slice(&frame(message));
                ends.push(stream.len());
            }
            let stream = Bytes::from(stream);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.push(stream.len());
            cuts.sort_unstable();

            let mut deframer = Deframer::new(LIMIT);
            prop_assert!(deframer.is_between_messages());
            let (mut start, mut came) = (0, 0);
            for (index, end) in cuts.iter().copied().enumerate() {
                deframer.push(stream.slice(start..end));
                start = end;
                if index % pushed_at_once != 0 && end != stream.len() {
                    continue;
                }
                while let Some((message, pinned)) = take(&mut deframer).unwrap() {
                    prop_assert_eq!(&message[..], &messages[came][..]);
                    let body = ends[came] - message.len()..ends[came];
                    let after = cuts.partition_point(|cut| *cut <= body.start);
                    let chunk = after.checked_sub(1).map_or(0, |before| cuts[before])..cuts[after.min(cuts.len() - 1)];
                    if message.is_empty() {
                        prop_assert_eq!(pinned, 0);
                    } else if body.end <= chunk.end {
                        prop_assert_eq!(pinned, chunk.len(), "the chunk is kept");
                        prop_assert_eq!(message.as_ptr(), stream[body].as_ptr(), "nothing is copied");
                    } else {
                        prop_assert_eq!(pinned, message.len(), "only the copy is kept");
                    }
                    came += 1;
                }
                let begun = came.checked_sub(1).map_or(0, |last| ends[last]);
                prop_assert_eq!(deframer.arrived(), (end - begun).saturating_sub(PREFIX));
                prop_assert_eq!(deframer.is_between_messages(), begun == end);
            }
            prop_assert_eq!(came, messages.len());
        }
    }

    #[test]
    fn what_was_pushed_and_not_taken_is_no_place_to_end() {
        let mut deframer = Deframer::new(LIMIT);
        for message in ["one", "two"] {
            deframer.push(frame(message.as_bytes()));
        }
        for message in ["one", "two"] {
            assert!(!deframer.is_between_messages());
            assert_eq!(take(&mut deframer).unwrap().unwrap().0, message);
        }
        assert!(deframer.is_between_messages());
    }

    /// Room follows what has arrived, and is made a handful of times.
    #[test]
    fn an_announced_length_costs_nothing_until_it_comes() {
        const LENGTH: usize = 20 << 20;
        let message = vec![7; LENGTH];
        let mut stream = frame(&message);
        let mut deframer = Deframer::new(LENGTH);
        let (mut arrived, mut room, mut moves) = (0, 0, 0);
        deframer.push(stream.split_to(PREFIX));
        loop {
            let came = take(&mut deframer).unwrap();
            if let Some((came, _)) = came {
                assert!(came == message);
                break;
            }
            let State::Body { gathered, .. } = &deframer.state else { panic!("{:?}", deframer.state) };
            if gathered.capacity() != room {
                room = gathered.capacity();
                moves += 1;
            }
            assert!(room <= LENGTH.min(FIRST_ROOM.max(2 * arrived)), "room for {room} bytes where {arrived} have come");
            arrived += stream.len().min(10_007);
            deframer.push(stream.split_to(stream.len().min(10_007)));
        }
        assert!((2..12).contains(&moves), "moved {moves} times");
    }

    #[test]
    fn a_length_is_known_before_its_message_is_there() {
        let mut deframer = Deframer::new(LIMIT);
        assert_eq!(deframer.announced(), None);
        let mut stream = frame(b"twelve bytes");
        for _ in 0..PREFIX {
            assert_eq!(deframer.announced(), None);
            deframer.push(stream.split_to(1));
        }
        assert_eq!((deframer.announced(), deframer.announced()), (Some(12), Some(12)));
        assert!(!deframer.is_between_messages());
        assert_eq!(take(&mut deframer), Ok(None));
        deframer.push(stream);
        assert_eq!(deframer.announced(), Some(12));
        assert_eq!(take(&mut deframer).unwrap().unwrap().0, "twelve bytes");
        assert!(deframer.is_between_messages() && deframer.announced().is_none());
        deframer.push(Bytes::from_static(&[7, 0, 0, 0, 1]));
        assert_eq!(deframer.announced(), Some(0));
        assert_eq!(take(&mut deframer), Err(FrameError::BadFlag(7)));
    }

    #[test]
    fn a_message_at_the_limit_is_taken_and_one_above_is_not() {
        let mut deframer = Deframer::new(10);
        deframer.push(frame(&[1; 10]));
        assert_eq!(take(&mut deframer).unwrap().unwrap().0, [1; 10][..]);
        deframer.push(frame(&[1; 11]));
        let error = FrameError::TooLarge { length: 11, limit: 10 };
        assert_eq!(take(&mut deframer), Err(error));
        deframer.push(frame(b"x"));
        assert_eq!(take(&mut deframer), Err(error), "an error stays");
        assert!(!deframer.is_between_messages());
        assert_eq!(deframer.arrived(), 0);
    }

    #[test]
    fn a_flag_other_than_zero_is_refused() {
        for (flag, error) in [(1, FrameError::Compressed), (2, FrameError::BadFlag(2)), (255, FrameError::BadFlag(255))]
        {
            let mut deframer = Deframer::new(10);
            // Whatever length it comes with.
            deframer.push(Bytes::copy_from_slice(&[flag, 0xff, 0, 0, 0]));
            assert_eq!(take(&mut deframer), Err(error));
        }
    }
}
