//! Constant load: so many messages in flight on one stream, a new one for each that is answered.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use crate::Outcome;
use crate::client::Stream;
use crate::flight::{Flight, Window};
use crate::serve::Mode;
use crate::wire::end_of_batch;

/// The most bytes of requests handed to HTTP/2 at once, as the platform's gRPC library does; a larger message goes alone.
const CHUNK: usize = 32 << 10;
/// How long the last answers may take once nothing more is sent.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// A stream under load.
#[derive(Debug)]
pub(crate) struct Load {
    stream: Stream,
    flight: Flight,
    concurrency: usize,
    batch: Option<Batch>,
    unsent: Option<Bytes>,
}

/// Where the one batch that is in flight in batch mode stands.
#[derive(Debug, Default)]
struct Batch {
    /// How many of its messages are still to be sent.
    unsent: usize,
    /// Its end was sent, and is not answered.
    ending: bool,
}

impl Load {
    /// In batch mode `concurrency` is the size of a batch.
    pub(crate) fn new(stream: Stream, mode: Mode, value_size: usize, concurrency: usize) -> Outcome<Self> {
        let batch = match mode {
            Mode::Unary => None,
            Mode::Batch => Some(Batch::default()),
        };
        Ok(Self { stream, flight: Flight::new(value_size)?, concurrency, batch, unsent: None })
    }

    /// Keeps the messages in flight for `time`, then waits for the last answers: what is counted was sent and answered.
    ///
    /// A message's latency is from when it is handed to HTTP/2 until its answer is read.
    pub(crate) async fn run(&mut self, time: Duration) -> Outcome<Window> {
        let started = Instant::now();
        let mut window = Window::new()?;
        let run = poll_fn(|cx| self.poll(cx, started + time, &mut window));
        match timeout(time + LAST_ANSWERS, run).await {
            Ok(result) => result?,
            Err(_) => {
                let missing = self.flight.len();
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
                match &mut self.batch {
                    Some(batch) if answer.end_of_batch => batch.end(self.flight.len())?,
                    _ => window.record(1, now - self.flight.arrive(answer)?),
                }
            }
            if self.unsent.is_none() {
                self.prepare(now, now < until)?;
            }
            if self.unsent.is_some() && self.stream.poll_send(cx, &mut self.unsent)?.is_ready() {
                idle = false;
            }
            if now >= until && self.is_at_rest() {
                return Poll::Ready(Ok(()));
            }
            if idle {
                return Poll::Pending;
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let batch_is_over = self.batch.as_ref().is_none_or(|batch| batch.unsent == 0 && !batch.ending);
        self.flight.len() == 0 && batch_is_over
    }

    /// Writes the next requests, as many as may be in flight. A batch that was begun is always ended.
    fn prepare(&mut self, now: Instant, more: bool) -> Outcome<()> {
        let room = match &mut self.batch {
            None if more => self.concurrency - self.flight.len(),
            None => 0,
            Some(batch) => {
                if more && batch.unsent == 0 && !batch.ending {
                    batch.unsent = self.concurrency;
                }
                batch.unsent
            }
        };
        let count = (CHUNK / self.flight.request_size()).max(1).min(room);
        if count == 0 {
            return Ok(());
        }
        let mut chunk = Vec::with_capacity(count * self.flight.request_size());
        for _ in 0..count {
            self.flight.depart(now, &mut chunk)?;
        }
        if let Some(batch) = &mut self.batch {
            batch.unsent -= count;
            if batch.unsent == 0 {
                batch.ending = true;
                chunk.extend_from_slice(&end_of_batch());
            }
        }
        self.unsent = Some(chunk.into());
        Ok(())
    }
}

impl Batch {
    fn end(&mut self, in_flight: usize) -> Outcome<()> {
        if !self.ending || in_flight > 0 {
            return Err(format!("the server ended a batch with {in_flight} messages of it unanswered").into());
        }
        self.ending = false;
        Ok(())
    }
}
