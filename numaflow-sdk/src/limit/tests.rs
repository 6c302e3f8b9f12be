use std::task::Wake;

use proptest::prelude::*;

use super::*;

const MAX_MESSAGES: usize = 3;
const MAX_BYTES: usize = 5 * OVERHEAD;
const STREAMS: usize = 3;

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
            receiving: limits.share().receiving(),
            permits: Vec::new(),
            paused: Vec::new(),
            holds: Vec::new(),
        }
    }

    fn poll<T>(&mut self, poll: impl FnOnce(&mut Self, &Context<'_>) -> Poll<T>) -> Option<T> {
        let waker = Waker::from(self.woken.clone());
        match poll(self, &Context::from_waker(&waker)) {
            Poll::Ready(given) => Some(given),
            Poll::Pending => None,
        }
    }
}

/// What is in flight, counted from what was given out.
fn counted(members: &[Member]) -> (usize, usize, usize) {
    let permits = members.iter().flat_map(|member| &member.permits).map(|permit| permit.messages).sum();
    let holds = || members.iter().flat_map(|member| &member.holds);
    let bytes = holds().map(|hold| hold.bytes).sum();
    (permits, bytes, holds().filter(|hold| hold.oversize > 0).count())
}

proptest! {
    /// Whatever streams do: no more is given out than there is, what is given back is there again and wakes who
    /// waits for it, and who holds nothing is refused nothing that is free.
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
            match step {
                Step::Permit => {
                    let permit = member.poll(|member, cx| member.share.poll_permit(cx));
                    let may = messages < MAX_MESSAGES && member.paused.is_empty();
                    prop_assert_eq!(permit.is_some(), may);
                    member.permits.extend(permit);
                }
                Step::PermitBeyond => member.permits.push(member.share.permit_beyond()),
                Step::Hold(size) => {
                    if let Some(hold) = member.poll(|member, cx| member.share.poll_hold(size, cx)) {
                        prop_assert!(hold.covers(size) && !hold.covers(size + 1));
                        if hold.oversize > 0 {
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
                    let given = member.poll(|member, cx| member.receiving.poll_grow(size, cx)).is_some();
                    prop_assert_eq!(given, more == 0 || fits || !led || leads);
                }
                Step::Received => member.receiving = member.share.receiving(),
                Step::Answer(size) => if let Some(hold) = member.holds.last_mut() {
                    hold.becomes_answer(size);
                },
                Step::DropPermit => drop(member.permits.pop()),
                Step::DropHold => drop(member.holds.pop()),
                Step::Pause => if let Some(permit) = member.permits.pop() {
                    member.paused.push(member.share.pause(permit));
                },
                Step::Resume => if let Some(paused) = member.paused.pop() {
                    match member.poll(|_, cx| paused.poll_resume(cx)) {
                        Some(permit) => {
                            prop_assert!(messages < MAX_MESSAGES);
                            member.permits.push(permit);
                        }
                        None => {
                            prop_assert!(messages >= MAX_MESSAGES);
                            member.paused.push(paused);
                        }
                    }
                },
                Step::GiveUp => drop(member.paused.pop()),
            }
            let (messages, bytes, oversize) = counted(&members);
            prop_assert!(oversize <= 1);
            let usage = Usage { messages, max_messages: MAX_MESSAGES, bytes, max_bytes: MAX_BYTES, adapts: false };
            prop_assert_eq!(limits.usage(), usage);
            // Who sleeps has no room, or others were woken for it.
            let mut room = limits.lock();
            prop_assert!(room.wake_for_permit(MAX_BYTES).is_none());
            prop_assert!(room.wake_for_hold(MAX_BYTES).is_none());
            prop_assert!(room.wake_for_receiving(MAX_BYTES).is_none());
        }
        // When all others have gone, one has all there is.
        let mut last = members.pop().unwrap();
        members.clear();
        (last.permits, last.paused, last.holds) = Default::default();
        last.receiving = last.share.receiving();
        prop_assert_eq!(limits.usage().messages + limits.usage().bytes, 0);
        for _ in 0..MAX_MESSAGES {
            let permit = last.poll(|last, cx| last.share.poll_permit(cx));
            prop_assert!(permit.is_some());
            last.permits.extend(permit);
        }
        prop_assert!(last.poll(|last, cx| last.share.poll_hold(usize::MAX, cx)).is_some());
    }
}

/// A stream that waits for bytes holds a permit during a poll, and gives it back: woken by that, it would be polled for
/// ever.
#[test]
fn a_permit_that_is_given_back_wakes_nobody_who_waits_for_bytes() {
    let limits = Limits::new(MaxInFlight::Fixed(1), OVERHEAD);
    let [mut one, mut other] = [Member::new(&limits), Member::new(&limits)];
    let held = one.poll(|one, cx| one.share.poll_hold(0, cx));
    let oversize = other.poll(|other, cx| other.share.poll_hold(0, cx));
    assert!(oversize.as_ref().unwrap().oversize > 0);
    let permit = one.poll(|one, cx| one.share.poll_permit(cx));
    assert!(one.poll(|one, cx| one.share.poll_hold(0, cx)).is_none());
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
    while let Some(hold) = greedy.poll(|greedy, cx| greedy.share.poll_hold(0, cx)) {
        greedy.holds.push(hold);
    }
    assert_eq!(greedy.holds.len(), 88);
    for _ in 0..5 {
        let hold = next.poll(|next, cx| next.share.poll_hold(0, cx));
        assert_eq!(hold.as_ref().unwrap().oversize, 0);
        next.holds.extend(hold);
    }
}

#[test]
fn the_default_is_a_quarter_within_bounds() {
    assert_eq!(share_of(None), 256 * MIB);
    assert_eq!(share_of(Some(200 * MIB)), 64 * MIB);
    assert_eq!(share_of(Some(128 * MIB)), 64 * MIB);
    // What is in flight must fit beside the program itself.
    assert_eq!(share_of(Some(100 * MIB)), 50 * MIB);
    assert_eq!(share_of(Some(32 * MIB)), 16 * MIB);
    assert_eq!(share_of(Some(0)), 1);
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

/// What a stream asks for, again and again until it gets it.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Permit,
    Hold(usize),
    Receive(usize),
}

/// What happens to streams that wait.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// It asks, unless it waits for something already.
    Asks(Ask),
    /// It looks, because it was woken.
    Looks,
    /// It is not looked after by hyper from now on, woken or not, or is again, and then looks by itself.
    Stalls,
    GoesOn,
    /// It hands over a chunk: it will look by itself when that is taken.
    HandsOver,
    GivesBack,
    Leaves,
    TimePasses,
}

fn event() -> impl Strategy<Value = Event> {
    let size = prop_oneof![4 => 0..OVERHEAD, 1 => 0..2 * MAX_BYTES];
    let ask = prop_oneof![
        3 => Just(Ask::Permit),
        3 => size.clone().prop_map(Ask::Hold),
        1 => size.prop_map(Ask::Receive),
    ];
    prop_oneof![
        8 => ask.prop_map(Event::Asks),
        4 => Just(Event::Looks),
        1 => Just(Event::Stalls),
        1 => Just(Event::GoesOn),
        2 => Just(Event::HandsOver),
        5 => Just(Event::GivesBack),
        1 => Just(Event::Leaves),
        1 => Just(Event::TimePasses),
    ]
}

/// A stream as hyper polls it.
struct Polled {
    member: Member,
    asks: Option<Ask>,
    /// How often it was woken when it looked last.
    seen: usize,
    stalled: bool,
    /// It waits for its peer to take a chunk.
    handed_over: bool,
}

impl Polled {
    fn new(limits: &Limits) -> Self {
        Self { member: Member::new(limits), asks: None, seen: 0, stalled: false, handed_over: false }
    }

    /// It is polled: whether it got what it asks for.
    fn look(&mut self) -> bool {
        self.seen = self.member.woken.0.load(Relaxed);
        self.handed_over = false;
        let member = &mut self.member;
        let got = match self.asks {
            None => return false,
            Some(Ask::Permit) => {
                let permit = member.poll(|member, cx| member.share.poll_permit(cx));
                member.permits.extend(permit);
                member.permits.len()
            }
            Some(Ask::Hold(size)) => {
                let hold = member.poll(|member, cx| member.share.poll_hold(size, cx));
                member.holds.extend(hold);
                member.holds.len()
            }
            Some(Ask::Receive(size)) => {
                member.poll(|member, cx| member.receiving.poll_grow(size, cx)).map_or(0, |()| 1)
            }
        };
        let got = got > 0;
        if got {
            self.asks = None;
        }
        got
    }

    fn is_woken(&self) -> bool {
        !self.stalled && !self.handed_over && self.member.woken.0.load(Relaxed) > self.seen
    }
}

proptest! {
    /// Streams ask, are woken or stall, hand over chunks, and go. When all that can happen by itself has happened, nobody
    /// waits for room that is there, but streams that do not look.
    #[test]
    fn no_wake_up_is_lost(events in prop::collection::vec((0..5_usize, event()), 0..300)) {
        let limits = Limits::new(MaxInFlight::Fixed(2), MAX_BYTES);
        let mut streams: Vec<_> = (0..5).map(|_| Polled::new(&limits)).collect();
        for (index, event) in events {
            let stream = &mut streams[index];
            match event {
                // One thing at a time, and what it got is with a handler: a stream asks with nothing in its hands.
                Event::Asks(ask) => if stream.asks.is_none() && stream.member.permits.is_empty()
                    && stream.member.holds.is_empty() && !stream.stalled && !stream.handed_over
                {
                    stream.asks = Some(ask);
                    stream.look();
                },
                Event::Looks => if stream.is_woken() {
                    stream.look();
                },
                Event::Stalls => stream.stalled = true,
                Event::GoesOn => {
                    stream.stalled = false;
                    stream.look();
                }
                Event::HandsOver => {
                    stream.handed_over = true;
                    stream.member.share.leave_line();
                }
                Event::GivesBack => {
                    drop((stream.member.permits.pop(), stream.member.holds.pop()));
                    if !matches!(stream.asks, Some(Ask::Receive(_))) {
                        stream.member.receiving = stream.member.share.receiving();
                    }
                }
                Event::Leaves => *stream = Polled::new(&limits),
                Event::TimePasses => limits.pass_time(),
            }
        }
        for _ in 0..3 {
            while let Some(stream) = streams.iter_mut().find(|stream| stream.is_woken()) {
                stream.look();
            }
            limits.pass_time();
        }
        while let Some(stream) = streams.iter_mut().find(|stream| stream.is_woken()) {
            stream.look();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            if !stream.stalled && !stream.handed_over && stream.asks.is_some() {
                let asks = stream.asks;
                prop_assert!(!stream.look(), "{index} waits for {asks:?}, which there is");
            }
        }
    }
}

/// As many are woken as there is room for, the first ones first; all of them only if those do not look.
#[test]
fn a_permit_wakes_the_stream_that_has_waited_longest() {
    let limits = Limits::new(MaxInFlight::Fixed(1), MAX_BYTES);
    let mut busy = Member::new(&limits);
    let permit = busy.poll(|busy, cx| busy.share.poll_permit(cx));
    let mut waiting: Vec<_> = (0..100).map(|_| Member::new(&limits)).collect();
    for member in &mut waiting {
        assert!(member.poll(|member, cx| member.share.poll_permit(cx)).is_none());
    }
    let woken = |waiting: &[Member]| -> Vec<usize> {
        (0..waiting.len()).filter(|index| waiting[*index].woken.0.load(Relaxed) > 0).collect()
    };
    drop(permit);
    assert_eq!(woken(&waiting), [0]);
    // It looks, and gives back what it got.
    drop(waiting[0].poll(|member, cx| member.share.poll_permit(cx)).unwrap());
    assert_eq!(woken(&waiting), [0, 1]);
    // The second one goes, and the third one does not look.
    drop(waiting.remove(1));
    assert_eq!(woken(&waiting), [0, 1]);
    limits.pass_time();
    assert_eq!(woken(&waiting), [0, 1]);
    limits.pass_time();
    assert_eq!(woken(&waiting).len(), 99);
    assert!(waiting[7].poll(|member, cx| member.share.poll_permit(cx)).is_some());
}

/// A large message that nobody else's leaves room for does not keep smaller ones from being woken.
#[test]
fn bytes_wake_those_whose_messages_fit() {
    let limits = Limits::new(MaxInFlight::Fixed(1), 10 * OVERHEAD);
    let [mut busy, mut greedy, mut small] = [Member::new(&limits), Member::new(&limits), Member::new(&limits)];
    let held = busy.poll(|busy, cx| busy.share.poll_hold(6 * OVERHEAD, cx)).unwrap();
    let _greedy_holds = greedy.poll(|greedy, cx| greedy.share.poll_hold(OVERHEAD, cx)).unwrap();
    assert!(greedy.poll(|greedy, cx| greedy.share.poll_hold(9 * OVERHEAD, cx)).is_none());
    let _small_holds = small.poll(|small, cx| small.share.poll_hold(0, cx)).unwrap();
    assert!(small.poll(|small, cx| small.share.poll_hold(OVERHEAD, cx)).is_none());
    drop(held);
    assert_eq!((greedy.woken.0.load(Relaxed), small.woken.0.load(Relaxed)), (0, 1));
}

/// All batches together have a limit; small ones have some room besides, so that one which is not completed stops nobody.
#[test]
fn batches_have_one_limit() {
    const LIMIT: usize = 100 * OVERHEAD;
    let limits = Limits::new(MaxInFlight::Fixed(1), usize::MAX);
    let begin = |share: &Share| {
        let mut hold = share.hold_beyond(0);
        hold.begins_batch();
        (share.permit_beyond(), hold)
    };
    let [large, small] = [limits.share(), limits.share()];
    let (mut large_permit, mut large_hold) = begin(&large);
    while large.add_to_batch(&mut large_permit, &mut large_hold, 0, LIMIT).is_ok() {}
    assert_eq!(large_hold.bytes, LIMIT);
    let (mut permit, mut hold) = begin(&small);
    let full = loop {
        if let Err(full) = small.add_to_batch(&mut permit, &mut hold, 0, LIMIT) {
            break full;
        }
    };
    assert_eq!(hold.bytes, LIMIT / SMALL_BATCHES / 2 / OVERHEAD * OVERHEAD);
    assert_eq!(full, BatchesFull { own: hold.bytes + OVERHEAD, all: LIMIT + hold.bytes + OVERHEAD });
    assert_eq!(limits.usage().messages, permit.messages + large_permit.messages);
    // A batch counts until its handler has finished with it.
    large_hold.becomes_answer(0);
    small.add_to_batch(&mut permit, &mut hold, 0, LIMIT).unwrap();
    drop((large_permit, large_hold, permit, hold));
    let room = limits.lock();
    assert_eq!((room.messages, room.bytes, room.collected, room.batches), (0, 0, 0, 0));
}

/// A message that is not whole counts with its batch, as much of it as is there.
#[test]
fn what_arrives_for_a_batch_counts() {
    const LIMIT: usize = 100 * OVERHEAD;
    let limits = Limits::new(MaxInFlight::Fixed(1), usize::MAX);
    let share = limits.share();
    let mut hold = share.hold_beyond(0);
    hold.begins_batch();
    let mut arriving = share.arriving();
    arriving.grow_to(1000, OVERHEAD, LIMIT).unwrap();
    arriving.grow_to(LIMIT - OVERHEAD, OVERHEAD, LIMIT).unwrap();
    assert_eq!(limits.lock().collected, LIMIT);
    let full = arriving.grow_to(LIMIT, OVERHEAD, LIMIT);
    assert_eq!(full, Err(BatchesFull { own: LIMIT + OVERHEAD, all: LIMIT + OVERHEAD }));
    drop(arriving);
    assert_eq!(limits.lock().collected, OVERHEAD);
    drop(hold);
    assert_eq!(limits.lock().collected, 0);
}
