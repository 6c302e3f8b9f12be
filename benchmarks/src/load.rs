//! The load: so many messages in flight on one stream, each answer checked, its latency taken.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::time::timeout;

use crate::Outcome;
use crate::client::Stream;
use crate::wire::{Answer, Template};

/// The most bytes of requests handed to HTTP/2 at once, as the platform's gRPC library does; a larger message goes alone.
const CHUNK: usize = 32 << 10;
/// How many later messages may be sent before one counts as forgotten by the server. A power of two.
const PATIENCE: u32 = 1 << 16;
/// How long the last answers may take once nothing more is sent.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// What a while of load showed.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) messages: u64,
    pub(crate) time: Duration,
    /// Of every message, from when it is handed to HTTP/2 until its answer is read, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

/// A stream under load.
#[derive(Debug)]
pub(crate) struct Load {
    stream: Stream,
    template: Template,
    value_size: usize,
    concurrency: usize,
    next: u32,
    in_flight: usize,
    /// When each message in flight was sent, by the low bits of its number; `None` where there is none.
    sent: Vec<Option<(u32, Instant)>>,
    unsent: Option<Bytes>,
}

impl Load {
    pub(crate) fn new(stream: Stream, value_size: usize, concurrency: usize) -> Outcome<Self> {
        Ok(Self {
            stream,
            template: Template::new(value_size)?,
            value_size,
            concurrency,
            next: 0,
            in_flight: 0,
            sent: vec![None; PATIENCE as usize],
            unsent: None,
        })
    }

    /// Keeps the messages in flight for `time`, then waits for the last answers: what is counted was sent and answered.
    pub(crate) async fn run(&mut self, time: Duration) -> Outcome<Window> {
        let started = Instant::now();
        let mut window = Window { messages: 0, time, latency: new_histogram()? };
        let run = poll_fn(|cx| self.poll(cx, started + time, &mut window));
        match timeout(time + LAST_ANSWERS, run).await {
            Ok(result) => result?,
            Err(_) => {
                let missing = self.in_flight;
                return Err(format!("{missing} messages were not answered within {LAST_ANSWERS:?}").into());
            }
        }
        window.time = started.elapsed();
        Ok(window)
    }

    fn poll(&mut self, cx: &mut Context<'_>, until: Instant, window: &mut Window) -> Poll<Outcome<()>> {
        loop {
            let mut idle = true;
            while let Poll::Ready(result) = self.stream.poll_receive(cx) {
                result?;
                idle = false;
            }
            let now = Instant::now();
            while let Some(answer) = self.stream.received.answer()? {
                let sent = self.check(answer)?;
                window.messages += 1;
                window.latency.saturating_record(nanoseconds(now - sent));
            }
            if self.unsent.is_none() && now < until {
                self.prepare(now)?;
            }
            if self.unsent.is_some() && self.stream.poll_send(cx, &mut self.unsent)?.is_ready() {
                idle = false;
            }
            if self.in_flight == 0 && now >= until {
                return Poll::Ready(Ok(()));
            }
            if idle {
                return Poll::Pending;
            }
        }
    }

    /// Writes requests as far as there may be more in flight.
    fn prepare(&mut self, now: Instant) -> Outcome<()> {
        let size = self.template.size();
        let room = (CHUNK / size).max(1).min(self.concurrency - self.in_flight);
        if room == 0 {
            return Ok(());
        }
        let mut chunk = Vec::with_capacity(room * size);
        for _ in 0..room {
            let number = self.next;
            let place = &mut self.sent[(number % PATIENCE) as usize];
            if let Some((forgotten, _)) = place {
                return Err(format!("message {forgotten} is not answered, {PATIENCE} later ones were sent").into());
            }
            *place = Some((number, now));
            self.template.write(number, &mut chunk);
            self.next = (number + 1) % 1_000_000_000;
        }
        self.in_flight += room;
        self.unsent = Some(chunk.into());
        Ok(())
    }

    /// Holds an answer against what was sent, and says when that was.
    fn check(&mut self, answer: Answer) -> Outcome<Instant> {
        let number = answer.number.ok_or("an answer has an id that was never sent")?;
        let place = &mut self.sent[(number % PATIENCE) as usize];
        let Some((_, sent)) = place.take_if(|(expected, _)| *expected == number) else {
            return Err(format!("message {number} is answered, which is not in flight").into());
        };
        let same = answer.results == 1
            && answer.value_size == self.value_size
            && answer.value_number == u64::from(number)
            && !answer.handshake;
        if !same {
            return Err(format!("message {number} is answered with something else than itself: {answer:?}").into());
        }
        self.in_flight -= 1;
        Ok(sent)
    }
}

/// Up to a minute, to three digits.
pub(crate) fn new_histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
