//! Messages that arrive at a rate, and how long each waits for its answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::Outcome;
use crate::client::Stream;
use crate::collector::{Collector, READ_TIMEOUT};
use crate::flight::{Flight, Window};
use crate::serve::Mode;
use crate::wire::end_of_batch;

/// How long the last answers may take once nothing more arrives, beyond the read timeout.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// A stream with messages arriving for it.
#[derive(Debug)]
pub(crate) struct Paced {
    stream: Stream,
    flight: Flight,
    collector: Collector,
    unsent: Option<Bytes>,
}

impl Paced {
    pub(crate) fn new(stream: Stream, mode: Mode, value_size: usize) -> Outcome<Self> {
        let (flight, collector) = (Flight::new(value_size)?, Collector::new(mode, Instant::now()));
        Ok(Self { stream, flight, collector, unsent: None })
    }

    /// Lets messages arrive for `time`, evenly, and waits for the last answers.
    ///
    /// A message's latency is from its arrival until its answer is read. It arrives when the client's timer, which ticks
    /// once a millisecond, says that it is due.
    pub(crate) async fn run(&mut self, rate: u32, time: Duration) -> Outcome<Window> {
        let started = Instant::now();
        let mut window = Window::new()?;
        let mut arrivals = Arrivals { next: started, period: Duration::from_secs(1) / rate, end: started + time };
        let mut timer = pin!(sleep_until(started));
        let run = poll_fn(|cx| self.poll(cx, timer.as_mut(), &mut arrivals, &mut window));
        match timeout(time + READ_TIMEOUT + LAST_ANSWERS, run).await {
            Ok(result) => result?,
            Err(_) => {
                let missing = self.flight.len() + self.collector.len();
                return Err(format!("{missing} messages were not answered within {LAST_ANSWERS:?}").into());
            }
        }
        window.time = started.elapsed();
        Ok(window)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        arrivals: &mut Arrivals,
        window: &mut Window,
    ) -> Poll<Outcome<()>> {
        loop {
            let mut idle = true;
            while let Poll::Ready(result) = self.stream.poll_receive(cx) {
                result?;
                idle = false;
            }
            let now = Instant::now();
            while let Some(answer) = self.stream.received.answer()? {
                if answer.end_of_batch {
                    self.collector.end(now, self.flight.len())?;
                } else {
                    window.record(1, now.into_std() - self.flight.arrive(answer)?);
                }
            }
            while arrivals.next_before(now) {
                self.collector.arrive(now);
            }
            if self.unsent.is_none() {
                self.collect(now)?;
            }
            if self.unsent.is_some() && self.stream.poll_send(cx, &mut self.unsent)?.is_ready() {
                idle = false;
            }
            let at_rest = self.collector.len() == 0 && self.flight.len() == 0 && !self.collector.batch_is_in_flight();
            if at_rest && arrivals.peek().is_none() {
                return Poll::Ready(Ok(()));
            }
            if idle {
                // What waits for the server to make room is not waiting for the timer too.
                let due = self.collector.due().filter(|_| self.unsent.is_none());
                let Some(next) = [arrivals.peek(), due].into_iter().flatten().min() else { return Poll::Pending };
                timer.as_mut().reset(next);
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes what is to be sent now.
    fn collect(&mut self, now: Instant) -> Outcome<()> {
        let arrived = self.collector.take(now);
        if arrived.is_empty() {
            return Ok(());
        }
        let mut chunk = Vec::with_capacity((arrived.len() + 1) * self.flight.request_size());
        for since in arrived {
            self.flight.depart(since.into_std(), &mut chunk)?;
        }
        if self.collector.batch_is_in_flight() {
            chunk.extend_from_slice(&end_of_batch());
        }
        self.unsent = Some(chunk.into());
        Ok(())
    }
}

/// When messages arrive.
#[derive(Debug)]
struct Arrivals {
    next: Instant,
    period: Duration,
    end: Instant,
}

impl Arrivals {
    /// Takes one arrival off, if there is one by now.
    fn next_before(&mut self, now: Instant) -> bool {
        let is_due = self.peek().is_some_and(|next| next <= now);
        if is_due {
            self.next += self.period;
        }
        is_due
    }

    /// The next arrival; `None` once they are over.
    fn peek(&self) -> Option<Instant> {
        (self.next < self.end).then_some(self.next)
    }
}
