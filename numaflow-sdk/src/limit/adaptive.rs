//! A limit on messages that finds itself between a floor and a ceiling, from what handlers take.
//!
//! What a handler waits for (a database, another service, the cores) serves a number of calls at once. Beyond that number
//! a message more in flight makes all of them slower and none of them sooner. This limit looks for the number and stays
//! a little above, so that there is always a call ready when one is done:
//!
//! ```text
//! next limit = limit x (TOLERANCE x baseline / latency), at least half and at most all of it, + sqrt(limit)
//! ```
//!
//! where `latency` is the mean over a window of messages and `baseline` is what it is without a queue. Where the capacity
//! is `c`, the latency is `baseline x limit / c`, and the limit settles near `TOLERANCE x c + sqrt(c)`, whatever it was
//! before. By Little's law the mean is also the one average that stands for throughput, however the single latencies
//! are spread.
//!
//! It is the rule of TCP Vegas and FAST TCP (keep a small queue, known from latency against a baseline) with two changes
//! for a peer that always has more to send:
//!
//! * The baseline is measured, with half the limit for a window now and then. Under such a peer there never is a moment
//!   without a queue otherwise: a minimum that is forgotten from time to time, and a long-term mean as in Gradient2, both
//!   grow with the queue, and the limit with them.
//! * It is a mean, as the latency is. The smallest single latency is no baseline where handlers take differently long.
//!
//! A cut after which the latency stays what it was is answered with a measurement: what the handlers wait for has become
//! slower, and there is no queue.
//!
//! The crates there are were tried in the simulation below, at a capacity of 100 messages that take 10 ms each, or that
//! on average. `tower-acc` 0.1.1: Gradient2 went to its ceiling where all took the same, and to 3 where they were
//! exponentially spread; Vegas went between 14 and 239, and to 6. `congestion-limiter` 0.1.0 has an async lock in each
//! observation.

use std::time::Duration;

use tokio::time::Instant;

/// How much slower than without a queue messages may be before the limit shrinks: less than this is noise.
const TOLERANCE: f64 = 1.1;
/// The windows between two measurements of the baseline. Each costs about a third of one window's throughput, so 1.5 % of
/// all.
const PROBE_EVERY: u32 = 20;
/// The fewest messages of a window. The mean of 32 exponentially spread latencies is within a fifth of the truth.
const MIN_SAMPLES: usize = 32;
/// The part to which one window may cut the limit: the whole of it might be one pause of what the handlers wait for.
const DEEPEST_CUT: f64 = 0.5;
/// A limit that was cut to this part or less must show in the latency.
const NOTABLE_CUT: f64 = 0.8;

/// A limit between a floor and a ceiling. It starts at the floor: that costs a few windows, and starting higher might cost
/// what the handlers wait for.
#[derive(Debug)]
pub(crate) struct Adaptive {
    floor: f64,
    ceiling: f64,
    limit: f64,
    /// The mean latency without a queue; not known before the first window.
    baseline: Option<Duration>,
    /// Whether this window measures the baseline.
    probing: bool,
    until_probe: u32,
    /// The latency that the last cut should bring it below.
    expected: Option<Duration>,
    /// From when on messages are looked at: those that finish earlier still show the limit before.
    settled: Option<Instant>,
    window: Window,
}

/// What is known of the messages since the limit last changed.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    samples: u32,
    total: Duration,
    /// The most in flight that one of them saw.
    peak: usize,
}

impl Adaptive {
    /// A floor of zero counts as one, and a ceiling below the floor as the floor.
    pub(crate) fn new(floor: usize, ceiling: usize) -> Self {
        let floor = floor.max(1) as f64;
        Self {
            floor,
            ceiling: floor.max(ceiling as f64),
            limit: floor,
            baseline: None,
            probing: false,
            until_probe: PROBE_EVERY,
            expected: None,
            settled: None,
            window: Window::default(),
        }
    }

    /// The most messages that are to be in flight now.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the floor and the ceiling")]
    pub(crate) fn limit(&self) -> usize {
        let limit = if self.probing { (self.limit / 2.0).max(self.floor) } else { self.limit };
        limit as usize
    }

    /// Takes in one message whose handler was done at `now`, `latency` after it started, with `in_flight` messages in
    /// flight, this one included. Only of handlers that answered: how soon others fail says nothing.
    ///
    /// Costs a few additions, and once a window divisions and a square root.
    pub(crate) fn observe(&mut self, latency: Duration, in_flight: usize, now: Instant) {
        if self.settled.is_some_and(|settled| now < settled) {
            return;
        }
        let window = &mut self.window;
        let since = *window.since.get_or_insert(now);
        window.samples = window.samples.saturating_add(1);
        window.total = window.total.saturating_add(latency);
        window.peak = window.peak.max(in_flight);
        let (samples, peak) = (window.samples, window.peak);
        if (samples as usize) < self.limit().max(MIN_SAMPLES) {
            return;
        }
        // A mean of zero could not be divided by.
        let mean = (self.window.total / samples).max(Duration::from_nanos(1));
        // At least as long as a message takes, so that slow ones are in it too.
        if now.saturating_duration_since(since) < mean {
            return;
        }
        self.window = Window::default();
        self.settled = Some(now + mean);
        self.adjust(mean, peak);
    }

    /// What a window says: messages took `latency`, and `peak` was the most of them in flight.
    fn adjust(&mut self, latency: Duration, peak: usize) {
        let expected = self.expected.take();
        // The peer has less to send than it may: that there is no queue says nothing for a higher limit.
        let under_used = peak.saturating_mul(2) < self.limit();
        let baseline = match self.baseline {
            Some(baseline) if !self.probing => baseline,
            _ => latency,
        };
        self.baseline = Some(baseline);
        if self.probing {
            self.probing = false;
            self.until_probe = PROBE_EVERY;
        } else if !under_used {
            let cut = TOLERANCE * baseline.div_duration_f64(latency);
            let next = self.limit * cut.clamp(DEEPEST_CUT, 1.0) + self.limit.sqrt();
            let next = next.clamp(self.floor, self.ceiling);
            let part = next / self.limit;
            if part <= NOTABLE_CUT {
                // With a queue, the latency falls as the limit does. Halfway there tells it from noise.
                self.expected = Some(latency.mul_f64(f64::midpoint(1.0, part)));
            }
            self.limit = next;
            let in_vain = expected.is_some_and(|expected| latency > expected);
            self.until_probe = if in_vain { 0 } else { self.until_probe.saturating_sub(1) };
            self.probing = self.until_probe == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, VecDeque};
    use std::ops::RangeInclusive;

    use proptest::prelude::*;

    use super::*;

    /// How the service times are spread around their mean.
    #[derive(Debug, Clone, Copy)]
    enum Spread {
        /// All within 5 %.
        Even,
        Exponential,
        /// Nine of ten take a tenth, one takes nine times as long.
        Mixed,
    }

    /// What handlers wait for: `capacity` calls are served at once, the others wait their turn. The peer has always
    /// `demand` messages to send.
    struct Simulation {
        adaptive: Adaptive,
        capacity: usize,
        service: Duration,
        spread: Spread,
        demand: usize,
        random: fastrand::Rng,
        now: Instant,
        served: BinaryHeap<Reverse<(Instant, Instant)>>,
        queue: VecDeque<Instant>,
    }

    /// What a part of a simulation showed.
    #[derive(Debug)]
    struct Shown {
        /// The mean of the limit over the messages of the second half.
        limit: f64,
        /// The extremes over all.
        range: RangeInclusive<usize>,
        /// The throughput over what the capacity allows.
        throughput: f64,
    }

    impl Simulation {
        fn new(floor: usize, ceiling: usize, capacity: usize, spread: Spread) -> Self {
            Self {
                adaptive: Adaptive::new(floor, ceiling),
                capacity,
                service: Duration::from_millis(10),
                spread,
                demand: usize::MAX,
                random: fastrand::Rng::with_seed(7),
                now: Instant::now(),
                served: BinaryHeap::new(),
                queue: VecDeque::new(),
            }
        }

        fn service_time(&mut self) -> Duration {
            let factor = match self.spread {
                Spread::Even => 0.95 + 0.1 * self.random.f64(),
                Spread::Exponential => -(1.0 - self.random.f64()).ln(),
                Spread::Mixed => {
                    if self.random.f64() < 0.1 {
                        9.1
                    } else {
                        0.1
                    }
                }
            };
            self.service.mul_f64(factor)
        }

        fn run(&mut self, seconds: u64) -> Shown {
            let (start, end) = (self.now, self.now + Duration::from_secs(seconds));
            let mut limits = Vec::new();
            while self.now < end {
                while self.served.len() + self.queue.len() < self.adaptive.limit().min(self.demand) {
                    self.queue.push_back(self.now);
                }
                while self.served.len() < self.capacity
                    && let Some(started) = self.queue.pop_front()
                {
                    let done = self.now + self.service_time();
                    self.served.push(Reverse((done, started)));
                }
                let in_flight = self.served.len() + self.queue.len();
                let Reverse((done, started)) = self.served.pop().unwrap();
                self.now = done;
                self.adaptive.observe(done - started, in_flight, done);
                limits.push(self.adaptive.limit());
            }
            let second_half = &limits[limits.len() / 2..];
            let possible = (self.now - start).div_duration_f64(self.service) * self.capacity as f64;
            Shown {
                limit: second_half.iter().sum::<usize>() as f64 / second_half.len() as f64,
                range: *limits.iter().min().unwrap()..=*limits.iter().max().unwrap(),
                throughput: limits.len() as f64 / possible,
            }
        }
    }

    #[track_caller]
    fn assert_near(shown: &Shown, capacity: usize) {
        let capacity = capacity as f64;
        let most = 1.5 * capacity + 4.0;
        assert!(shown.limit >= 0.95 * capacity && shown.limit <= most, "{shown:?} for a capacity of {capacity}");
    }

    const CEILING: usize = 4096;

    #[test]
    fn it_finds_the_capacity_from_below() {
        for spread in [Spread::Even, Spread::Exponential] {
            for capacity in [1, 2, 10, 100, 300] {
                let mut simulation = Simulation::new(1, CEILING, capacity, spread);
                simulation.run(5);
                let shown = simulation.run(10);
                assert_near(&shown, capacity);
                assert!(shown.throughput > 0.93, "{shown:?} for {capacity} {spread:?}");
            }
        }
    }

    #[test]
    fn it_finds_the_capacity_from_above() {
        for spread in [Spread::Even, Spread::Exponential] {
            for capacity in [30, 300] {
                let mut simulation = Simulation::new(1, CEILING, capacity, spread);
                simulation.adaptive.limit = 1000.0;
                simulation.run(30);
                assert_near(&simulation.run(5), capacity);
            }
        }
    }

    /// A tenth of the messages takes nine tenths of the time: the limit is rougher, and neither starves nor runs away.
    #[test]
    fn it_bears_messages_of_very_different_kinds() {
        let mut simulation = Simulation::new(1, CEILING, 100, Spread::Mixed);
        simulation.run(10);
        let shown = simulation.run(20);
        assert!(shown.limit > 100.0 && shown.limit < 300.0, "{shown:?}");
        assert!(shown.throughput > 0.9, "{shown:?}");
    }

    #[test]
    fn it_follows_the_capacity() {
        let mut simulation = Simulation::new(1, CEILING, 100, Spread::Exponential);
        for capacity in [100, 20, 400, 50] {
            simulation.capacity = capacity;
            simulation.run(10);
            assert_near(&simulation.run(10), capacity);
        }
    }

    /// Slower service looks like a queue, and is none: the limit must not stay down.
    #[test]
    fn it_does_not_take_slower_service_for_a_queue() {
        let mut simulation = Simulation::new(1, CEILING, 100, Spread::Even);
        simulation.run(10);
        for millis in [40, 100, 5] {
            simulation.service = Duration::from_millis(millis);
            let shown = simulation.run(20);
            assert_near(&shown, 100);
            assert!(shown.throughput > 0.9, "{shown:?} at {millis} ms");
        }
    }

    #[test]
    fn idleness_leaves_it_where_it_is() {
        let mut simulation = Simulation::new(1, CEILING, 100, Spread::Exponential);
        simulation.run(10);
        // Out of a measurement, which ends with the next window.
        while simulation.adaptive.probing {
            simulation.run(1);
        }
        simulation.demand = 3;
        simulation.run(1);
        let before = simulation.adaptive.limit();
        assert_eq!(simulation.run(100).range, before..=before);
        simulation.demand = usize::MAX;
        assert_near(&simulation.run(10), 100);
    }

    #[test]
    fn it_does_not_grow_past_twice_what_is_used() {
        let mut simulation = Simulation::new(1, CEILING, 1000, Spread::Even);
        simulation.demand = 100;
        let shown = simulation.run(10);
        assert!(*shown.range.end() <= 215 && shown.limit >= 100.0, "{shown:?}");
    }

    #[test]
    fn a_floor_above_the_capacity_is_kept_and_not_left() {
        let mut simulation = Simulation::new(64, CEILING, 10, Spread::Even);
        let shown = simulation.run(60);
        assert!(*shown.range.start() == 64 && *shown.range.end() < 100, "{shown:?}");
        let mut fixed = Simulation::new(20, 20, 100, Spread::Even);
        assert_eq!(fixed.run(5).range, 20..=20);
    }

    /// A pause of what the handlers wait for makes one window a hundred times as slow.
    #[test]
    fn one_odd_window_costs_half_at_most() {
        let mut adaptive = Adaptive::new(1, CEILING);
        adaptive.limit = 100.0;
        adaptive.adjust(Duration::from_millis(10), 100);
        assert_eq!(adaptive.limit(), 110);
        adaptive.adjust(Duration::from_secs(1), 110);
        assert_eq!(adaptive.limit(), 65);
    }

    #[test]
    fn handlers_that_take_no_time_raise_it() {
        let mut adaptive = Adaptive::new(1, CEILING);
        for _ in 0..10 * MIN_SAMPLES {
            adaptive.observe(Duration::ZERO, 1000, Instant::now());
        }
        assert!(adaptive.limit() > 1);
    }

    #[test]
    fn bounds_that_make_no_sense_are_mended() {
        assert_eq!(Adaptive::new(0, 0).limit(), 1);
        assert_eq!(Adaptive::new(8, 2).limit(), 8);
    }

    fn anything() -> impl Strategy<Value = (Duration, usize, Duration)> {
        let duration = || prop_oneof![Just(Duration::ZERO), (0..1_u64 << 40).prop_map(Duration::from_nanos)];
        (duration(), prop_oneof![Just(usize::MAX), 0..5000_usize], duration())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_takes_it_out_of_its_bounds(
            (floor, above) in (1..200_usize, 0..200_usize),
            seen in proptest::collection::vec(anything(), 0..3000),
            odd in prop_oneof![Just(Duration::MAX), Just(Duration::ZERO)],
        ) {
            let mut adaptive = Adaptive::new(floor, floor + above);
            let mut now = Instant::now();
            for (latency, in_flight, gap) in seen {
                now += gap;
                adaptive.observe(if in_flight == 7 { odd } else { latency }, in_flight, now);
                prop_assert!((floor..=floor + above).contains(&adaptive.limit()));
            }
        }
    }
}
