//! The bound on what is in flight: messages and bytes, shared by all streams of a server.
//!
//! Messages are counted while their handler has them, bytes from when a message is read until its answer is handed to
//! HTTP/2. The peer decides when the second happens, because hyper does not poll the body of a stream whose peer reads
//! slowly; so a stream that is not read must not take what the others need. That is why a stream that finds no room leaves
//! its waker and looks again when some comes back, instead of queueing for a permit that would then be nobody's; why what
//! one stream holds is bounded by what is left for the others ([`SHARE`]); and why a stream that holds nothing gets its turn
//! also where nothing is left, one stream at a time until its handler has finished. Bytes can exceed their limit by that
//! one message, by what each peer leaves unread of its own answers, and by a quarter for messages that are being received.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

mod adaptive;
mod max_in_flight;

pub use max_in_flight::MaxInFlight;

use adaptive::Adaptive;

/// What a message takes besides what it was sent as: our own bookkeeping, roughly.
const OVERHEAD: usize = 256;
/// A stream that holds something may hold this many times what is free. One stream alone gets 8/9 of all bytes, two get
/// 8/17 each: whoever comes next finds something.
const SHARE: usize = 8;
/// The part of all bytes that messages which are being received may have besides: a quarter.
const RECEIVING: usize = 4;

/// The two limits of a server.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    room: Mutex<Room>,
    max_bytes: usize,
    /// Whether the limit of messages moves.
    adapts: bool,
}

#[derive(Debug)]
struct Room {
    max_messages: usize,
    /// Where the limit of messages comes from, if it moves.
    adaptive: Option<Adaptive>,
    /// The messages that handlers have.
    messages: usize,
    /// The most of them since a latency was last observed.
    peak: usize,
    /// The bytes held, but for those of the oversize admission.
    bytes: usize,
    /// Whether a message is in hand that was admitted although there was no room for its bytes.
    oversize: bool,
    /// The bytes of messages that are being received, which are not among the others: a peer that begins one and does not
    /// go on keeps nobody from anything but large messages.
    receiving: usize,
    /// Whether a message is being received that may have more than there is room for: if all waited for each other, none
    /// would ever be whole.
    leader: bool,
    /// Those who wait, in the order in which they came; for one thing at a time, so that giving back the other does not
    /// wake them for nothing.
    for_messages: Vec<Waker>,
    for_bytes: Vec<Waker>,
}

/// What is in flight, as far as the limits count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) messages: usize,
    pub(crate) max_messages: usize,
    pub(crate) bytes: usize,
    pub(crate) max_bytes: usize,
    /// Whether the limit of messages moves.
    pub(crate) adapts: bool,
}

impl Limits {
    /// Both must be above zero.
    pub(crate) fn new(max_in_flight: MaxInFlight, max_bytes: usize) -> Self {
        let adaptive = match max_in_flight {
            MaxInFlight::Fixed(_) => None,
            MaxInFlight::Adaptive { floor, ceiling } => Some(Adaptive::new(floor, ceiling)),
        };
        let adapts = adaptive.is_some();
        let room = Room {
            max_messages: max_in_flight.first(),
            adaptive,
            messages: 0,
            peak: 0,
            bytes: 0,
            oversize: false,
            receiving: 0,
            leader: false,
            for_messages: Vec::new(),
            for_bytes: Vec::new(),
        };
        Self { shared: Arc::new(Shared { room: Mutex::new(room), max_bytes, adapts }) }
    }

    /// A stream's part in the limits.
    pub(crate) fn share(&self) -> Share {
        let stream = Stream {
            limits: self.clone(),
            bytes: AtomicUsize::new(0),
            oversize: AtomicBool::new(false),
            paused: AtomicUsize::new(0),
        };
        Share { stream: Arc::new(stream) }
    }

    pub(crate) fn usage(&self) -> Usage {
        let room = self.lock();
        Usage {
            messages: room.messages,
            max_messages: room.max_messages,
            bytes: room.bytes,
            max_bytes: self.shared.max_bytes,
            adapts: self.shared.adapts,
        }
    }

    /// A handler that waited has answered, so long after it began. Moves the limit of messages, if it is to move; those
    /// above a lower one finish in their own time.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        if !self.shared.adapts {
            return;
        }
        let mut guard = self.lock();
        let room = &mut *guard;
        let Some(adaptive) = &mut room.adaptive else { return };
        // Handlers that began together end together: when their latencies are looked at, none of them may be left.
        let peak = std::mem::replace(&mut room.peak, room.messages);
        adaptive.observe(latency, peak, now);
        let before = std::mem::replace(&mut room.max_messages, adaptive.limit());
        if room.max_messages > before {
            wake(guard, Room::for_messages);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        // Nothing panics while it holds the lock.
        self.shared.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes all who wait for this, after the lock is given up: most often nobody does, and then it costs nothing.
fn wake(mut room: MutexGuard<'_, Room>, waiting: fn(&mut Room) -> &mut Vec<Waker>) {
    let waiting = waiting(&mut room);
    if waiting.is_empty() {
        return;
    }
    let waiting = std::mem::take(waiting);
    drop(room);
    for waker in waiting {
        waker.wake();
    }
}

/// Whoever is polled with `cx` waits for this.
fn wait<T>(waiting: &mut Vec<Waker>, cx: &Context<'_>) -> Poll<T> {
    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
    Poll::Pending
}

impl Room {
    fn for_messages(&mut self) -> &mut Vec<Waker> {
        &mut self.for_messages
    }

    fn for_bytes(&mut self) -> &mut Vec<Waker> {
        &mut self.for_bytes
    }

    fn give_back(&mut self, hold: &Hold) {
        if hold.oversize {
            self.oversize = false;
            hold.stream.oversize.store(false, Relaxed);
        } else {
            self.bytes -= hold.bytes;
        }
        hold.stream.bytes.fetch_sub(hold.bytes, Relaxed);
    }
}

/// One stream's part in the limits of its server.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    stream: Arc<Stream>,
}

/// The fields are changed under the lock of the room only.
#[derive(Debug)]
struct Stream {
    limits: Limits,
    bytes: AtomicUsize,
    oversize: AtomicBool,
    /// Its handlers that stand still without a permit, because its peer takes nothing in.
    paused: AtomicUsize,
}

impl Share {
    /// Leave for one more message to be with its handler. Not kept where there is none: an idle stream holds nothing. A
    /// stream whose handlers stand still starts no others, so it never has more of both together than the limit.
    pub(crate) fn poll_permit(&self, cx: &Context<'_>) -> Poll<Permit> {
        let mut room = self.stream.limits.lock();
        if room.messages >= room.max_messages || self.stream.paused.load(Relaxed) > 0 {
            return wait(&mut room.for_messages, cx);
        }
        room.messages += 1;
        room.peak = room.peak.max(room.messages);
        Poll::Ready(Permit { limits: self.stream.limits.clone() })
    }

    /// Gives a permit back for as long as its handler can't go on until the peer takes something in. Otherwise one peer
    /// that does not read could keep the permits of all others.
    pub(crate) fn pause(&self, permit: Permit) -> Paused {
        let room = self.stream.limits.lock();
        self.stream.paused.fetch_add(1, Relaxed);
        drop(room);
        drop(permit);
        Paused { stream: self.stream.clone() }
    }

    /// A permit beyond the limit, for the other messages of a batch that was begun.
    pub(crate) fn permit_beyond(&self) -> Permit {
        self.stream.limits.lock().messages += 1;
        Permit { limits: self.stream.limits.clone() }
    }

    /// Leave to keep a message of `size` bytes.
    pub(crate) fn poll_hold(&self, size: usize, cx: &Context<'_>) -> Poll<Hold> {
        let cost = cost(size);
        let mut room = self.stream.limits.lock();
        let held = self.stream.bytes.load(Relaxed);
        let free = self.stream.limits.shared.max_bytes.saturating_sub(room.bytes);
        let fits = cost <= free && held.saturating_add(cost) <= SHARE.saturating_mul(free - cost);
        let oversize = if held == 0 && cost <= free || fits && !self.stream.oversize.load(Relaxed) {
            false
        } else if held == 0 && !room.oversize {
            true
        } else {
            return wait(&mut room.for_bytes, cx);
        };
        if oversize {
            room.oversize = true;
            self.stream.oversize.store(true, Relaxed);
        } else {
            room.bytes += cost;
        }
        self.stream.bytes.store(held + cost, Relaxed);
        Poll::Ready(Hold { stream: self.stream.clone(), bytes: cost, oversize })
    }

    /// What is being received; nothing at first.
    pub(crate) fn receiving(&self) -> Receiving {
        Receiving { limits: self.stream.limits.clone(), bytes: 0, leads: false }
    }

    /// Leave beyond the limit, for the other messages of a batch that was begun.
    pub(crate) fn hold_beyond(&self, size: usize) -> Hold {
        let hold = Hold { stream: self.stream.clone(), bytes: cost(size), oversize: false };
        let mut room = self.stream.limits.lock();
        room.bytes += hold.bytes;
        self.stream.bytes.fetch_add(hold.bytes, Relaxed);
        hold
    }
}

fn cost(size: usize) -> usize {
    size.saturating_add(OVERHEAD)
}

/// Leave for one message to be with its handler; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Limits,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut room = self.limits.lock();
        room.messages -= 1;
        wake(room, Room::for_messages);
    }
}

/// A handler that stands still without its permit.
#[derive(Debug)]
pub(crate) struct Paused {
    stream: Arc<Stream>,
}

impl Paused {
    /// A permit for the handler to go on with, as soon as there is one. What was paused is over when it is dropped.
    pub(crate) fn poll_resume(&self, cx: &Context<'_>) -> Poll<Permit> {
        let mut room = self.stream.limits.lock();
        if room.messages >= room.max_messages {
            return wait(&mut room.for_messages, cx);
        }
        room.messages += 1;
        Poll::Ready(Permit { limits: self.stream.limits.clone() })
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let room = self.stream.limits.lock();
        self.stream.paused.fetch_sub(1, Relaxed);
        wake(room, Room::for_messages);
    }
}

/// Leave to keep the bytes of one message, then of its answer; given back when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    stream: Arc<Stream>,
    bytes: usize,
    oversize: bool,
}

impl Hold {
    /// Whether a message of this size needs no more than is held already.
    pub(crate) fn covers(&self, size: usize) -> bool {
        cost(size) <= self.bytes
    }

    /// The handler is done with the message: from here on it is the answer that is held, whatever its size.
    pub(crate) fn becomes_answer(&mut self, size: usize) {
        let cost = cost(size);
        let mut room = self.stream.limits.lock();
        room.give_back(self);
        room.bytes += cost;
        self.stream.bytes.fetch_add(cost, Relaxed);
        (self.bytes, self.oversize) = (cost, false);
        wake(room, Room::for_bytes);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut room = self.stream.limits.lock();
        room.give_back(self);
        wake(room, Room::for_bytes);
    }
}

/// What has been received of a message that is not whole; given back when dropped. Counted as it arrives: what a peer
/// announces and does not send costs nothing.
#[derive(Debug)]
pub(crate) struct Receiving {
    limits: Limits,
    bytes: usize,
    leads: bool,
}

impl Receiving {
    /// Leave to have received this much of it.
    pub(crate) fn poll_grow(&mut self, size: usize, cx: &Context<'_>) -> Poll<()> {
        let more = size.saturating_sub(self.bytes);
        if more == 0 {
            return Poll::Ready(());
        }
        let mut room = self.limits.lock();
        if !self.leads && room.receiving + more > self.limits.shared.max_bytes / RECEIVING {
            if room.leader {
                return wait(&mut room.for_bytes, cx);
            }
            room.leader = true;
            self.leads = true;
        }
        room.receiving += more;
        self.bytes += more;
        Poll::Ready(())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut room = self.limits.lock();
        room.receiving -= self.bytes;
        if self.leads {
            room.leader = false;
        }
        wake(room, Room::for_bytes);
    }
}

const MIB: usize = 1 << 20;

/// A quarter of the container's memory limit, between 64 and 256 MiB; 256 MiB where there is no limit. With what it was
/// taken from. Read from the cgroup: `NUMAFLOW_MEMORY_LIMIT` is the whole node where no limit is set.
pub(crate) fn default_max_bytes() -> (usize, String) {
    let limit = memory_limit();
    let origin = match limit {
        Some(limit) => format!("from the memory limit of {} MiB", limit / MIB),
        None => "default without a memory limit".to_owned(),
    };
    (share_of(limit), origin)
}

/// The most bytes in flight of a server that is told nothing else: a quarter of the container's memory limit, at least 64
/// MiB and at most 256 MiB, which is also what it is without a memory limit.
///
/// It is what [`Server::max_in_flight_bytes`](crate::Server::max_in_flight_bytes) is by default. A source that holds
/// messages before they are read takes it for its own bound.
#[must_use]
pub fn default_max_in_flight_bytes() -> usize {
    share_of(memory_limit())
}

/// The most bytes of a batch that is collected for one call: half of the container's memory limit, between 128 and
/// 512 MiB, which is also what it is without a limit. A batch of the platform's default size (500) may have messages of a
/// megabyte on average then.
pub(crate) fn default_max_batch_bytes() -> usize {
    2 * share_of(memory_limit())
}

fn memory_limit() -> Option<usize> {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse().ok())
        // The older hierarchy says eight exbibytes where there is no limit.
        .filter(|limit| *limit < 1 << 50)
}

fn share_of(memory_limit: Option<usize>) -> usize {
    memory_limit.map_or(256 * MIB, |limit| (limit / 4).clamp(64 * MIB, 256 * MIB))
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    const MAX_MESSAGES: usize = 3;
    const MAX_BYTES: usize = 5 * OVERHEAD;
    const STREAMS: usize = 3;
    const MESSAGES: usize = 0;
    const BYTES: usize = 1;

    /// Counts how often it was woken.
    #[derive(Debug, Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// What a stream may do.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Permit,
        PermitBeyond,
        Hold(usize),
        HoldBeyond(usize),
        Receive(usize),
        Received,
        Answer(usize),
        DropPermit,
        DropHold,
        Pause,
        Resume,
        GiveUp,
    }

    fn step() -> impl Strategy<Value = Step> {
        let size = prop_oneof![4 => 0..OVERHEAD, 1 => 0..2 * MAX_BYTES];
        prop_oneof![
            6 => Just(Step::Permit),
            1 => Just(Step::PermitBeyond),
            6 => size.clone().prop_map(Step::Hold),
            1 => size.clone().prop_map(Step::HoldBeyond),
            3 => size.clone().prop_map(Step::Receive),
            1 => Just(Step::Received),
            3 => size.prop_map(Step::Answer),
            4 => Just(Step::DropPermit),
            4 => Just(Step::DropHold),
            2 => Just(Step::Pause),
            2 => Just(Step::Resume),
            1 => Just(Step::GiveUp),
        ]
    }

    /// A stream, with what it was given.
    struct Member {
        share: Share,
        woken: Arc<Woken>,
        /// How often it was woken when it was last told to wait for [`MESSAGES`] and for [`BYTES`].
        waits_since: [Option<usize>; 2],
        receiving: Receiving,
        permits: Vec<Permit>,
        paused: Vec<Paused>,
        holds: Vec<Hold>,
    }

    impl Member {
        fn new(limits: &Limits) -> Self {
            Self {
                share: limits.share(),
                woken: Arc::default(),
                waits_since: [None; 2],
                receiving: limits.share().receiving(),
                permits: Vec::new(),
                paused: Vec::new(),
                holds: Vec::new(),
            }
        }

        fn poll<T>(&mut self, what: usize, poll: impl FnOnce(&mut Self, &Context<'_>) -> Poll<T>) -> Option<T> {
            let waker = Waker::from(self.woken.clone());
            match poll(self, &Context::from_waker(&waker)) {
                Poll::Ready(given) => Some(given),
                Poll::Pending => {
                    self.waits_since[what] = Some(self.woken.0.load(Relaxed));
                    None
                }
            }
        }
    }

    /// What is in flight, counted from what was given out.
    fn counted(members: &[Member]) -> (usize, usize, usize) {
        let permits = members.iter().map(|member| member.permits.len()).sum();
        let holds = || members.iter().flat_map(|member| &member.holds);
        let bytes = holds().filter(|hold| !hold.oversize).map(|hold| hold.bytes).sum();
        (permits, bytes, holds().filter(|hold| hold.oversize).count())
    }

    proptest! {
        /// Whatever streams do: no more is given out than there is, what is given back is there again and wakes those who
        /// wait, and who holds nothing is refused nothing that is free.
        #[test]
        fn the_limits_are_kept(steps in prop::collection::vec((0..STREAMS, step()), 0..200)) {
            let limits = Limits::new(MaxInFlight::Fixed(MAX_MESSAGES), MAX_BYTES);
            let mut members: Vec<_> = (0..STREAMS).map(|_| Member::new(&limits)).collect();
            for (index, step) in steps {
                let (messages, bytes, oversize) = counted(&members);
                let free = MAX_BYTES.saturating_sub(bytes);
                let received: usize = members.iter().map(|member| member.receiving.bytes).sum();
                let led = members.iter().any(|member| member.receiving.leads);
                let member = &mut members[index];
                let holds_nothing = member.holds.is_empty();
                let leads = member.receiving.leads;
                let mut gives_back = None;
                match step {
                    Step::Permit => {
                        let permit = member.poll(MESSAGES, |member, cx| member.share.poll_permit(cx));
                        let may = messages < MAX_MESSAGES && member.paused.is_empty();
                        prop_assert_eq!(permit.is_some(), may);
                        member.permits.extend(permit);
                    }
                    Step::PermitBeyond => member.permits.push(member.share.permit_beyond()),
                    Step::Hold(size) => {
                        if let Some(hold) = member.poll(BYTES, |member, cx| member.share.poll_hold(size, cx)) {
                            prop_assert!(hold.covers(size) && !hold.covers(size + 1));
                            if hold.oversize {
                                prop_assert!(oversize == 0 && holds_nothing && cost(size) > free);
                            } else {
                                prop_assert!(cost(size) <= free);
                            }
                            member.holds.push(hold);
                        } else {
                            prop_assert!(!holds_nothing || cost(size) > free && oversize > 0);
                        }
                    }
                    Step::HoldBeyond(size) => member.holds.push(member.share.hold_beyond(size)),
                    Step::Receive(size) => {
                        let more = size.saturating_sub(member.receiving.bytes);
                        let fits = received + more <= MAX_BYTES / RECEIVING;
                        let given = member.poll(BYTES, |member, cx| member.receiving.poll_grow(size, cx)).is_some();
                        prop_assert_eq!(given, more == 0 || fits || !led || leads);
                    }
                    Step::Received => {
                        member.receiving = member.share.receiving();
                        gives_back = Some(BYTES);
                    }
                    Step::Answer(size) => if let Some(hold) = member.holds.last_mut() {
                        hold.becomes_answer(size);
                        gives_back = Some(BYTES);
                    },
                    Step::DropPermit => gives_back = member.permits.pop().map(|_| MESSAGES),
                    Step::DropHold => gives_back = member.holds.pop().map(|_| BYTES),
                    Step::Pause => if let Some(permit) = member.permits.pop() {
                        member.paused.push(member.share.pause(permit));
                        gives_back = Some(MESSAGES);
                    },
                    Step::Resume => if let Some(paused) = member.paused.pop() {
                        match member.poll(MESSAGES, |_, cx| paused.poll_resume(cx)) {
                            Some(permit) => {
                                prop_assert!(messages < MAX_MESSAGES);
                                member.permits.push(permit);
                                gives_back = Some(MESSAGES);
                            }
                            None => {
                                prop_assert!(messages >= MAX_MESSAGES);
                                member.paused.push(paused);
                            }
                        }
                    },
                    Step::GiveUp => gives_back = member.paused.pop().map(|_| MESSAGES),
                }
                let (messages, bytes, oversize) = counted(&members);
                prop_assert!(oversize <= 1);
                let usage = Usage { messages, max_messages: MAX_MESSAGES, bytes, max_bytes: MAX_BYTES, adapts: false };
                prop_assert_eq!(limits.usage(), usage);
                if let Some(what) = gives_back {
                    for member in &mut members {
                        if let Some(since) = member.waits_since[what].take() {
                            prop_assert!(member.woken.0.load(Relaxed) > since, "woken by what was given back");
                        }
                    }
                }
            }
            // When all others have gone, one has all there is.
            let mut last = members.pop().unwrap();
            members.clear();
            (last.permits, last.paused, last.holds) = Default::default();
            last.receiving = last.share.receiving();
            prop_assert_eq!(limits.usage().messages + limits.usage().bytes, 0);
            for _ in 0..MAX_MESSAGES {
                let permit = last.poll(MESSAGES, |last, cx| last.share.poll_permit(cx));
                prop_assert!(permit.is_some());
                last.permits.extend(permit);
            }
            prop_assert!(last.poll(BYTES, |last, cx| last.share.poll_hold(usize::MAX, cx)).is_some());
        }
    }

    /// A stream that waits for bytes holds a permit during a poll, and gives it back: woken by that, it would be polled for
    /// ever.
    #[test]
    fn a_permit_that_is_given_back_wakes_nobody_who_waits_for_bytes() {
        let limits = Limits::new(MaxInFlight::Fixed(1), OVERHEAD);
        let [mut one, mut other] = [Member::new(&limits), Member::new(&limits)];
        let held = one.poll(BYTES, |one, cx| one.share.poll_hold(0, cx));
        let oversize = other.poll(BYTES, |other, cx| other.share.poll_hold(0, cx));
        assert!(oversize.as_ref().unwrap().oversize);
        let permit = one.poll(MESSAGES, |one, cx| one.share.poll_permit(cx));
        assert!(one.poll(BYTES, |one, cx| one.share.poll_hold(0, cx)).is_none());
        drop(permit.unwrap());
        assert_eq!(one.woken.0.load(Relaxed), 0);
        drop(held);
        assert_eq!(one.woken.0.load(Relaxed), 1);
    }

    /// A stream that is given less and less leaves room for whoever comes next.
    #[test]
    fn one_stream_does_not_take_all() {
        let limits = Limits::new(MaxInFlight::Fixed(1), 100 * OVERHEAD);
        let [mut greedy, mut next] = [Member::new(&limits), Member::new(&limits)];
        while let Some(hold) = greedy.poll(BYTES, |greedy, cx| greedy.share.poll_hold(0, cx)) {
            greedy.holds.push(hold);
        }
        assert_eq!(greedy.holds.len(), 88);
        for _ in 0..5 {
            let hold = next.poll(BYTES, |next, cx| next.share.poll_hold(0, cx));
            assert!(!hold.as_ref().unwrap().oversize);
            next.holds.extend(hold);
        }
    }

    #[test]
    fn the_default_is_a_quarter_within_bounds() {
        assert_eq!(share_of(None), 256 * MIB);
        assert_eq!(share_of(Some(100 * MIB)), 64 * MIB);
        assert_eq!(share_of(Some(512 * MIB)), 128 * MIB);
        assert_eq!(share_of(Some(usize::MAX)), 256 * MIB);
    }

    #[test]
    fn a_limit_that_grows_wakes_who_waits() {
        let limits = Limits::new((1..=8).into(), usize::MAX);
        let share = limits.share();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let Poll::Ready(_permit) = share.poll_permit(&cx) else { panic!("nothing is in flight") };
        assert!(share.poll_permit(&cx).is_pending());
        let (latency, mut now) = (Duration::from_millis(10), Instant::now());
        while limits.usage().max_messages == 1 {
            assert_eq!(woken.0.load(Relaxed), 0);
            now += latency;
            limits.observe(latency, now);
        }
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(share.poll_permit(&cx).is_ready());
    }
}
