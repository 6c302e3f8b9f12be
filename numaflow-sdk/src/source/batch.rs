//! The batch that a read fills while the stream sends it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::wire::{self, Encode};

/// How much a batch holds before `push` waits for the stream to take it: enough for one write to carry many messages, and
/// little beside the window of a peer.
const ROOM: usize = 32 << 10;
/// A value from this size on is a chunk of its own, which saves its copy; for smaller ones the copy costs less than what
/// HTTP/2 does for a chunk.
const LARGE: usize = 16 << 10;
/// What a chunk has room for beyond the length of those before it.
const SPARE: usize = 512;

/// What a [`Batch`] takes: a [`Message`](super::Message), a [`MessageRef`](super::MessageRef) or an
/// [`EncodedMessage`](super::EncodedMessage). Nothing outside of this crate implements it.
pub trait BatchMessage: Encode {}

impl<M: Encode> BatchMessage for M {}

/// The messages of one read. They leave while the read goes on; the end of the batch is the server's to send.
#[derive(Debug)]
pub struct Batch {
    shared: Arc<Shared>,
    remaining: usize,
    deadline: Instant,
}

/// The batch already holds as many messages as were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFull;

impl fmt::Display for BatchFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch already holds as many messages as were asked for")
    }
}

impl std::error::Error for BatchFull {}

impl Batch {
    /// A batch for one read.
    pub(super) fn new(shared: Arc<Shared>, count: usize, deadline: Instant) -> Self {
        Self { shared, remaining: count, deadline }
    }

    /// Adds a message, waiting for room while the peer does not take what is there.
    ///
    /// The message is written to where it is sent from at once, so that a [`Message`](super::Message) or a
    /// [`MessageRef`](super::MessageRef) needs no encoding before. A message that is larger than the server's
    /// [`max_message_size`](crate::Server::max_message_size) ends the read and its stream with an error.
    ///
    /// # Errors
    ///
    /// [`BatchFull`] once there are as many messages as the request asked for; the message is not taken then, so ask
    /// [`Batch::is_full`] before taking one from where it comes from.
    ///
    /// # Cancel safety
    ///
    /// A push that is dropped while it waits has not added the message.
    pub async fn push(&mut self, message: impl BatchMessage) -> Result<(), BatchFull> {
        if self.remaining == 0 {
            return Err(BatchFull);
        }
        poll_fn(|cx| self.shared.poll_push(cx, &message)).await;
        self.remaining -= 1;
        Ok(())
    }

    /// How many more messages the batch takes.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Whether the batch holds as many messages as were asked for.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.remaining == 0
    }

    /// What is left of the request's timeout; zero once it is over.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Lets this batch end as soon as the read returns, even when it is empty and there is time left. For a source that
    /// wants the platform's attention for something else, such as acks that wait; the platform asks again at once, so a
    /// source that does this must wait a little itself.
    pub fn end_early(&mut self) {
        self.shared.lock().may_end = true;
    }
}

/// What the reads of a stream share with it, one read at a time. Mostly both are in the same task, and nobody ever waits
/// for the lock.
#[derive(Debug)]
pub(super) struct Shared {
    max_message_size: usize,
    buffer: Mutex<Buffer>,
}

#[derive(Debug, Default)]
struct Buffer {
    /// What goes before `out`.
    chunks: VecDeque<Bytes>,
    /// The bytes of these chunks.
    before: usize,
    out: Vec<u8>,
    /// How long the last two were that `out` became: most likely the next one is no longer, and need not grow. Two,
    /// because the last one of a batch is short.
    last: [usize; 2],
    /// What was pushed since something was taken.
    pushed: Pushed,
    /// Whether the batch may end before its time when its read has returned: it held something, or the source said so.
    may_end: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What has become of pushes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pushed {
    pub(super) messages: usize,
    /// The bytes of these messages.
    pub(super) bytes: usize,
    /// The size of one that was larger than the peer takes. Nothing comes behind it.
    pub(super) too_large: Option<usize>,
}

impl Buffer {
    fn push(&mut self, limit: usize, message: &impl Encode) {
        if self.out.capacity() == 0 {
            self.out.reserve(self.last[0].max(self.last[1]) + SPARE);
        }
        let Self { chunks, before, out, last, .. } = self;
        let put = message.put_frame(limit, out, |out, value| {
            if value.len() < LARGE {
                return out.extend_from_slice(value);
            }
            let head = cut(out, last);
            *before += head.len() + value.len();
            chunks.extend([head, value.clone()]);
        });
        match put {
            Ok(length) => {
                self.pushed.messages += 1;
                self.pushed.bytes += length;
                self.may_end = true;
            }
            Err(length) => self.pushed.too_large = Some(length),
        }
    }

    fn is_full(&self) -> bool {
        self.before + self.out.len() >= ROOM || self.pushed.too_large.is_some()
    }

    fn take(&mut self, taken: &mut VecDeque<Bytes>) -> Pushed {
        std::mem::swap(&mut self.chunks, taken);
        self.before = 0;
        if !self.out.is_empty() {
            taken.push_back(cut(&mut self.out, &mut self.last));
        }
        std::mem::take(&mut self.pushed)
    }
}

/// Makes a chunk of `out`. No memory is kept for the next one: HTTP/2 has this one for a while yet, and an idle stream
/// needs none.
fn cut(out: &mut Vec<u8>, last: &mut [usize; 2]) -> Bytes {
    *last = [out.len(), last[0]];
    std::mem::take(out).into()
}

impl Shared {
    pub(super) fn new(max_message_size: usize) -> Self {
        Self { max_message_size, buffer: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // Nothing panics while it holds the lock.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_push(&self, cx: &Context<'_>, message: &impl Encode) -> Poll<()> {
        let mut buffer = self.lock();
        if buffer.is_full() {
            buffer.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.push(self.max_message_size, message);
        let refused = buffer.pushed.too_large.is_some();
        let reader = buffer.reader.take();
        drop(buffer);
        if let Some(reader) = reader {
            reader.wake();
        }
        // The stream ends, and the read with it.
        if refused { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Answers the handshake.
    pub(super) fn shake_hands(&self) {
        wire::put_handshake(&mut self.lock().out);
    }

    /// Begins the next batch.
    pub(super) fn begin(&self) {
        self.lock().may_end = false;
    }

    /// Whether the batch may end before its time, now that its read has returned.
    pub(super) fn may_end(&self) -> bool {
        self.lock().may_end
    }

    /// Ends the batch.
    pub(super) fn end(&self) {
        wire::put_end(&mut self.lock().out);
    }

    /// Moves all that is there to `taken`, which must be empty. A push that waits for room is woken, unless that is done
    /// by polling the read again, which the caller's task does when the peer takes more.
    pub(super) fn take(&self, cx: &Context<'_>, taken: &mut VecDeque<Bytes>) -> Pushed {
        let mut buffer = self.lock();
        let pushed = buffer.take(taken);
        let writer = buffer.writer.take();
        drop(buffer);
        if let Some(writer) = writer.filter(|writer| !writer.will_wake(cx.waker())) {
            writer.wake();
        }
        pushed
    }

    /// Wakes the task once something is pushed; `Ready` where something was already.
    pub(super) fn poll_pushed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut buffer = self.lock();
        if buffer.before + buffer.out.len() > 0 || buffer.pushed.too_large.is_some() {
            return Poll::Ready(());
        }
        buffer.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::{SystemTime, UNIX_EPOCH};

    use bytes::BytesMut;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::{EncodedMessage, Message, MessageRef, MetadataGroup, Offset};
    use super::*;
    use crate::frame::Deframer;
    use crate::pb::source::v1 as pb;
    use crate::time;

    const LIMIT: usize = 1 << 20;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (woken.clone(), woken.into())
    }

    fn message(size: usize) -> Message {
        Message::new(vec![7; size], Offset::new("offset", 3), UNIX_EPOCH)
    }

    fn push(shared: &Shared, message: &impl Encode) -> bool {
        shared.poll_push(&Context::from_waker(Waker::noop()), message).is_ready()
    }

    /// What was pushed, and the chunks of it.
    fn take(shared: &Shared) -> (Pushed, VecDeque<Bytes>) {
        let mut taken = VecDeque::new();
        let pushed = shared.take(&Context::from_waker(Waker::noop()), &mut taken);
        (pushed, taken)
    }

    /// In which way a message is pushed.
    #[derive(Debug, Clone, Copy)]
    enum Form {
        Owned,
        Borrowed,
        Encoded,
    }

    #[derive(Debug, Clone)]
    struct Pushing {
        form: Form,
        value: Vec<u8>,
        offset: Vec<u8>,
        partition: u16,
        event_time: SystemTime,
        keys: Vec<String>,
        headers: Vec<(String, String)>,
        entry: Option<(String, String, Vec<u8>)>,
        /// Whether the stream takes what is there, before it has to.
        taken: bool,
    }

    fn pushing() -> impl Strategy<Value = Pushing> {
        let form = prop_oneof![Just(Form::Owned), Just(Form::Borrowed), Just(Form::Encoded)];
        let size = prop_oneof![1 => Just(0), 8 => 1_usize..300, 1 => LARGE - 40..LARGE + 40, 1 => ROOM..2 * ROOM];
        // Before and behind the epoch, also without a fraction.
        let event_time = (any::<bool>(), 0_u64..4_000_000_000, prop_oneof![Just(0), 0_u32..1_000_000_000]).prop_map(
            |(before, seconds, nanos)| {
                let distance = Duration::new(seconds, nanos);
                if before { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
            },
        );
        (
            form,
            (size, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
            vec(any::<u8>(), 1..40),
            any::<u16>(),
            event_time,
            vec(".{0,8}", 0..3),
            // Of headers with the same name the last one counts, so there is one.
            vec((".{0,8}", ".{0,200}"), 0..2),
            proptest::option::of((".{0,8}", ".{0,8}", vec(any::<u8>(), 0..200))),
            any::<bool>(),
        )
            .prop_map(|(form, value, offset, partition, event_time, keys, headers, entry, taken)| Pushing {
                form,
                value,
                offset,
                partition,
                event_time,
                keys,
                headers,
                entry,
                taken,
            })
    }

    impl Pushing {
        fn push(&self, shared: &Shared) -> bool {
            let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
            let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let entries: Vec<(&str, &[u8])> = self.entry.iter().map(|(_, key, value)| (&**key, &**value)).collect();
            let metadata: Vec<MetadataGroup<'_>> =
                self.entry.iter().map(|(group, ..)| MetadataGroup::new(group, &entries)).collect();
            let borrowed = MessageRef::new(&self.value, &self.offset, self.partition, self.event_time)
                .with_keys(&keys)
                .with_headers(&headers)
                .with_user_metadata(&metadata);
            match self.form {
                Form::Borrowed => push(shared, &borrowed),
                Form::Encoded => push(shared, &borrowed.encode(&mut BytesMut::new())),
                Form::Owned => {
                    let offset = Offset::new(self.offset.clone(), self.partition);
                    let mut owned = Message::new(self.value.clone(), offset, self.event_time).with_keys(keys);
                    for (name, value) in headers {
                        owned = owned.with_header(name, value);
                    }
                    let mut user = crate::UserMetadata::new();
                    if let Some((group, key, value)) = &self.entry {
                        user.insert(group, key, value.clone());
                    }
                    push(shared, &owned.with_user_metadata(user))
                }
            }
        }

        fn expected(&self) -> pb::ReadResponse {
            let user_metadata = self.entry.iter().map(|(group, key, value)| {
                let key_value = [(key.clone(), value.clone().into())].into();
                (group.clone(), crate::pb::metadata::KeyValueGroup { key_value })
            });
            let metadata =
                crate::pb::metadata::Metadata { user_metadata: user_metadata.collect(), ..Default::default() };
            let result = pb::read_response::Result {
                payload: self.value.clone().into(),
                offset: Some(pb::Offset { offset: self.offset.clone().into(), partition_id: self.partition.into() }),
                event_time: Some(time::to_wire(self.event_time)),
                keys: self.keys.clone(),
                headers: self.headers.iter().cloned().collect(),
                metadata: self.entry.is_some().then_some(metadata),
            };
            pb::ReadResponse { result: Some(result), ..Default::default() }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is pushed in whatever form, and whenever it is taken: the generated decoder reads it back.
        #[test]
        fn frames_are_what_was_pushed(pushes in vec(pushing(), 0..40)) {
            let shared = Shared::new(LIMIT);
            let mut deframer = Deframer::new(LIMIT);
            let mut sum = Pushed::default();
            let mut take = || {
                let (pushed, chunks) = take(&shared);
                sum.messages += pushed.messages;
                sum.bytes += pushed.bytes;
                let mut length = 0;
                for chunk in chunks {
                    assert!(!chunk.is_empty());
                    length += chunk.len();
                    deframer.push(chunk);
                }
                length
            };
            shared.shake_hands();
            for pushing in &pushes {
                if !pushing.push(&shared) {
                    // It had no room, and now it has.
                    prop_assert!(take() >= ROOM);
                    prop_assert!(pushing.push(&shared));
                }
                if pushing.taken {
                    take();
                }
            }
            shared.end();
            take();
            prop_assert_eq!(take(), 0);

            let mut bytes = 0;
            let mut next = || {
                let message = deframer.next().unwrap().unwrap();
                let response = pb::ReadResponse::decode(message.bytes()).unwrap();
                bytes += message.bytes().len();
                deframer.restore(message);
                response
            };
            let handshake = Some(pb::Handshake { sot: true });
            prop_assert_eq!(next(), pb::ReadResponse { handshake, ..Default::default() });
            for pushing in &pushes {
                prop_assert_eq!(next(), pushing.expected());
            }
            let status = Some(pb::read_response::Status { eot: true, ..Default::default() });
            prop_assert_eq!(next(), pb::ReadResponse { status, ..Default::default() });
            prop_assert_eq!((sum.messages, sum.bytes + 8), (pushes.len(), bytes));
            prop_assert!(deframer.is_between_messages());
        }
    }

    #[test]
    fn what_is_large_is_a_chunk_of_its_own_and_not_copied() {
        let shared = Shared::new(LIMIT);
        let (small, large) = (EncodedMessage::from(message(10)), EncodedMessage::from(message(LARGE)));
        assert!(push(&shared, &small) && push(&shared, &large) && push(&shared, &small));
        let (pushed, chunks) = take(&shared);
        assert_eq!((pushed.messages, pushed.bytes), (3, 2 * small.len() + large.len()));
        let lengths: Vec<usize> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [small.len() + 10, large.len(), small.len() + 5]);
        assert_eq!(chunks[1].as_ptr(), large.as_bytes().as_ptr());

        // Of a message with parts of its own, the value.
        let owned = message(LARGE);
        assert!(push(&shared, &owned));
        assert_eq!(take(&shared).1[1].as_ptr(), owned.value().as_ptr());
        // What is borrowed has to be copied.
        assert!(push(&shared, &MessageRef::new(&[0; LARGE], b"1", 0, UNIX_EPOCH)));
        assert_eq!(take(&shared).1.len(), 1);
    }

    #[test]
    fn a_push_that_is_dropped_while_it_waits_has_added_nothing() {
        let shared = Arc::new(Shared::new(LIMIT));
        let mut batch = Batch::new(shared.clone(), 10, Instant::now());
        let mut cx = Context::from_waker(Waker::noop());
        for expected in [Poll::Ready(Ok(())), Poll::Pending] {
            let polled = std::pin::pin!(batch.push(message(ROOM))).poll(&mut cx);
            assert_eq!(polled, expected);
        }
        assert_eq!(batch.remaining(), 9);
        assert_eq!(take(&shared).0.messages, 1);
        assert_eq!(take(&shared).0.messages, 0);
    }

    #[test]
    fn each_side_wakes_the_other_where_they_are_two_tasks() {
        let shared = Shared::new(LIMIT);
        let ((read_woken, read), (stream_woken, stream)) = (waker(), waker());
        let (read, stream) = (Context::from_waker(&read), Context::from_waker(&stream));
        let woken = || [&read_woken, &stream_woken].map(|woken| woken.0.load(Ordering::Relaxed));

        assert!(shared.poll_pushed(&stream).is_pending());
        for _ in 0..2 {
            assert!(shared.poll_push(&read, &message(ROOM / 2)).is_ready());
            assert_eq!(woken(), [0, 1], "once for all that is pushed until it is taken");
        }
        assert!(shared.poll_pushed(&stream).is_ready());
        assert!(shared.poll_push(&read, &message(1)).is_pending());
        shared.take(&stream, &mut VecDeque::new());
        assert_eq!(woken(), [1, 1]);
        assert!(shared.poll_push(&read, &message(1)).is_ready());

        // Where they are one, the read is polled anyway.
        assert!(shared.poll_push(&read, &message(ROOM)).is_ready());
        assert!(shared.poll_push(&read, &message(1)).is_pending());
        shared.take(&read, &mut VecDeque::new());
        assert_eq!(woken(), [1, 1]);
    }

    #[test]
    fn nothing_goes_behind_a_message_that_is_too_large() {
        let shared = Shared::new(100);
        for too_large in [&EncodedMessage::from(message(101)), &EncodedMessage::from(message(5000))] {
            let (_, stream) = waker();
            assert!(push(&shared, &message(10)));
            assert!(!push(&shared, too_large) && !push(&shared, &message(10)));
            assert!(shared.poll_pushed(&Context::from_waker(&stream)).is_ready());
            let (pushed, chunks) = take(&shared);
            assert_eq!((pushed.messages, pushed.too_large, chunks.len()), (1, Some(too_large.len()), 1));
        }
        // At the limit there is room.
        let room = 100 - EncodedMessage::from(message(0)).len() - 2;
        assert_eq!(EncodedMessage::from(message(room)).len(), 100);
        assert!(push(&shared, &message(room)));
    }
}
