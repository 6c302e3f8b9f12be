//! The loop: read, map, write what came of it, and only then ack it. A batch at a time, or message by message.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use numaflow_sdk::NackOptions;
use numaflow_sdk::source::{Message, Offset, ReadRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::context::Context;
use super::input::{Reader, Settled};
use super::map::{Map, Mapped, every};
use super::output::Output;
use super::report::{Ended, Report, histogram, micros};
use super::resolved::Resolved;
use super::{DriveError, Faults, Settings, Until};

/// The tag of outputs that go to the dead letters.
const DEAD_LETTER: &str = "dead-letter";

/// Everything that one run owns.
#[derive(Debug)]
pub(super) struct Pipeline {
    input: Reader,
    map: Option<Map>,
    output: Output,
    batch: ReadRequest,
    concurrency: usize,
    streaming_acks: bool,
    faults: Faults,
    until: watch::Receiver<Until>,
    context: Context,
    resolved: Resolved,
    /// What was nacked on purpose.
    refused: Resolved,
    /// How many messages came back from the map.
    mapped: u64,
    read_latency: Histogram<u64>,
    begun: Option<Instant>,
    last_resolved: Option<Instant>,
    unresolved: u64,
}

impl Pipeline {
    pub(super) fn new(input: Reader, map: Option<Map>, output: Output, settings: &Settings, context: Context) -> Self {
        Self {
            input,
            map,
            output,
            batch: ReadRequest::new(settings.batch_size, settings.read_timeout),
            concurrency: settings.concurrency,
            streaming_acks: settings.streaming_acks,
            faults: settings.faults,
            until: settings.until.clone(),
            context,
            resolved: Resolved::default(),
            refused: Resolved::default(),
            mapped: 0,
            read_latency: histogram(),
            begun: None,
            last_resolved: None,
            unresolved: 0,
        }
    }

    /// Runs until the end that was set, or that of the input. Everything that was read is settled when it returns.
    pub(super) async fn run(&mut self) -> Result<(), DriveError> {
        if self.streaming_acks {
            self.run_streaming().await?;
        } else {
            self.run_batches().await?;
        }
        // For the report.
        self.input.pending().await?;
        Ok(())
    }

    /// One batch after the other, each settled as a whole.
    async fn run_batches(&mut self) -> Result<(), DriveError> {
        while let Some(request) = self.request(0) {
            let asked = Instant::now();
            let Some(batch) = self.input.read(request).await? else { break };
            if !batch.is_empty() {
                self.arrived(asked, &batch);
                self.settle_batch(batch).await?;
            } else if self.is_idle().await? {
                break;
            }
        }
        Ok(())
    }

    /// Each message settled by itself, while others are read and mapped.
    async fn run_streaming(&mut self) -> Result<(), DriveError> {
        let mut waiting = VecDeque::new();
        let mut settling: JoinSet<Result<Tally, DriveError>> = JoinSet::new();
        let mut position = 0;
        let mut asked = None;
        // Until a message is nacked: then there is something to read again.
        let mut ended = false;
        loop {
            for message in waiting.drain(..self.room(settling.len()).min(waiting.len())) {
                position += 1;
                if let Some(mapped) = self.begin(position, message) {
                    self.settle_one(mapped, &mut settling).await?;
                }
            }
            let mapping = self.map.as_ref().map_or(0, Map::in_flight);
            let in_flight = waiting.len() + mapping + settling.len();
            let request = if ended || !waiting.is_empty() { None } else { self.request(in_flight) };
            // The platform completes a read that it has begun.
            let reads = request.is_some() || self.input.is_reading();
            if in_flight == 0 && !reads {
                return Ok(());
            }
            if reads {
                asked.get_or_insert_with(Instant::now);
            }
            let Self { input, map, batch, .. } = self;
            tokio::select! {
                read = input.read(request.unwrap_or(*batch)), if reads => {
                    let asked = asked.take().unwrap_or_else(Instant::now);
                    match read? {
                        Some(batch) if batch.is_empty() => ended = in_flight == 0 && self.is_idle().await?,
                        Some(batch) => {
                            self.arrived(asked, &batch);
                            waiting.extend(batch);
                        }
                        None => ended = true,
                    }
                }
                mapped = next(map), if mapping > 0 => {
                    self.settle_one(mapped?, &mut settling).await?;
                }
                Some(settled) = settling.join_next() => {
                    // A task ends by itself, or with the run.
                    let tally = settled.unwrap_or(Err(DriveError::SourceTaskLost))?;
                    ended &= tally.nacked == 0;
                    self.settled(&tally);
                }
            }
        }
    }

    /// What to read next, with so many messages in flight; `None` when it is time to stop.
    fn request(&self, in_flight: usize) -> Option<ReadRequest> {
        let room = match *self.until.borrow() {
            Until::Now => 0,
            Until::Resolved(total) => {
                let missing = total.saturating_sub(self.resolved.count() + in_flight as u64);
                usize::try_from(missing).unwrap_or(usize::MAX)
            }
            Until::Idle | Until::Told => usize::MAX,
        };
        (room > 0).then(|| ReadRequest::new(self.batch.count.min(room), self.batch.timeout))
    }

    /// Whether to stop after a read that came back empty, because nothing is left.
    async fn is_idle(&self) -> Result<bool, DriveError> {
        Ok(*self.until.borrow() == Until::Idle && self.input.pending().await? == Some(0))
    }

    fn arrived(&mut self, asked: Instant, batch: &[Message]) {
        self.begun.get_or_insert(asked);
        self.read_latency.saturating_record(micros(asked.elapsed()));
        let read = batch.len() as u64;
        self.unresolved += read;
        self.context.journal.count(|counts| counts.read += read);
    }

    /// Streaming: how many more messages may be in flight, beside those that are being settled.
    fn room(&self, settling: usize) -> usize {
        let left = self.concurrency.saturating_sub(settling);
        match &self.map {
            Some(map) => left.saturating_sub(map.in_flight()).min(map.room(left)),
            None => left,
        }
    }

    /// Gives a message to the map; returns it where there is nothing to map.
    fn begin(&mut self, position: usize, message: Message) -> Option<Mapped> {
        match &mut self.map {
            Some(map) if !self.resolved.contains(message.offset()) => {
                map.push(position, message);
                None
            }
            _ => Some(Mapped::unmapped(position, message)),
        }
    }

    /// Takes a batch to its end: acked, but for what was nacked.
    async fn settle_batch(&mut self, batch: Vec<Message>) -> Result<(), DriveError> {
        let offsets: Vec<Offset> = batch.iter().map(|message| message.offset().clone()).collect();
        let all = match self.map_all(batch).await {
            Ok(all) => all,
            Err(exits @ DriveError::Exits { .. }) => {
                // What failed may be the source, and nothing is left to be done about it.
                drop(self.input.give_back(offsets).await);
                return Err(exits);
            }
            Err(error) => return Err(error),
        };
        let mut tally = Tally::default();
        let mut settled = Vec::with_capacity(all.len());
        for mapped in all {
            settled.push(self.write(mapped, &mut tally).await?);
        }
        self.output.flush().await?;
        self.input.settle(settled).await?;
        self.settled(&tally);
        Ok(())
    }

    /// Maps messages, as many at a time as the concurrency allows; in the order they came in.
    async fn map_all(&mut self, batch: Vec<Message>) -> Result<Vec<Mapped>, DriveError> {
        let mut all = Vec::with_capacity(batch.len());
        let mut new = batch.into_iter().enumerate();
        loop {
            let room = self.map.as_ref().map_or(usize::MAX, |map| map.room(self.concurrency));
            for (position, message) in new.by_ref().take(room) {
                if let Some(mapped) = self.begin(position, message) {
                    self.came_back().await;
                    all.push(mapped);
                }
            }
            if self.map.as_ref().is_none_or(|map| map.in_flight() == 0) {
                break;
            }
            all.push(next(&mut self.map).await?);
            self.came_back().await;
        }
        all.sort_unstable_by_key(|mapped| mapped.position);
        Ok(all)
    }

    /// Counts a message that is ready to be written, and vanishes if it was the last one.
    async fn came_back(&mut self) {
        self.mapped += 1;
        if self.faults.kill_after.is_some_and(|last| self.mapped == last.get()) {
            self.context.killed.kill().await;
        }
    }

    /// Streaming: writes what came of a message and lets the source know.
    async fn settle_one(
        &mut self,
        mapped: Mapped,
        settling: &mut JoinSet<Result<Tally, DriveError>>,
    ) -> Result<(), DriveError> {
        self.came_back().await;
        let mut tally = Tally::default();
        let settled = self.write(mapped, &mut tally).await?;
        self.output.flush().await?;
        let settle = self.input.settle(vec![settled]);
        settling.spawn(async move {
            settle.await?;
            Ok(tally)
        });
        Ok(())
    }

    /// Writes the outputs of one message and says what becomes of it.
    async fn write(&mut self, mapped: Mapped, tally: &mut Tally) -> Result<Settled, DriveError> {
        let Mapped { message, id, outputs, .. } = mapped;
        if self.resolved.contains(message.offset()) {
            tally.redelivered += 1;
            return Ok(Settled::Ack(message.offset().clone()));
        }
        if let Some(options) = self.refuse(&message, &outputs) {
            // None of its outputs is written, so that its redelivery doesn't write them twice.
            tally.nacked += 1;
            return Ok(Settled::Nack(message, options));
        }
        let (mut lines, mut dead_letters) = (0, 0);
        for output in outputs.iter().filter(|output| !output.is_drop()) {
            if output.tags().iter().any(|tag| tag == DEAD_LETTER) {
                self.output.write_dead_letter(&id, output).await?;
                dead_letters += 1;
            } else {
                self.output.write(&id, output).await?;
                lines += 1;
            }
        }
        tally.outputs += lines;
        match (lines, dead_letters) {
            (0, 0) => tally.dropped += 1,
            (0, _) => tally.dead_letters += 1,
            (_, _) => tally.mapped += 1,
        }
        self.resolved.insert(message.offset());
        Ok(Settled::Ack(message.offset().clone()))
    }

    /// With what options a message is nacked, if it is: because the map says so, or on purpose.
    fn refuse(&mut self, message: &Message, outputs: &[numaflow_sdk::Message]) -> Option<NackOptions> {
        if let Some(nack) = outputs.iter().find(|output| output.is_nack()) {
            return Some(nack.nack_options().cloned().unwrap_or_default());
        }
        self.faults.nack_every?;
        if self.refused.contains(message.offset()) {
            return None;
        }
        let number = self.resolved.count() + self.refused.count() + 1;
        if !every(self.faults.nack_every, number) {
            return None;
        }
        self.refused.insert(message.offset());
        Some(NackOptions::new().with_reason("drive nacks on purpose"))
    }

    fn settled(&mut self, tally: &Tally) {
        self.last_resolved = Some(Instant::now());
        let acked = tally.mapped + tally.dropped + tally.dead_letters + tally.redelivered;
        self.unresolved -= acked + tally.nacked;
        self.context.journal.count(|counts| {
            counts.mapped += tally.mapped;
            counts.dropped += tally.dropped;
            counts.dead_letters += tally.dead_letters;
            counts.outputs += tally.outputs;
            counts.nacked += tally.nacked;
            counts.redelivered += tally.redelivered;
            counts.acked += acked;
        });
    }

    /// What the run has come to so far.
    pub(super) fn report(&self, ended: Ended) -> Report {
        let elapsed = match (self.begun, self.last_resolved) {
            (Some(begun), Some(end)) => end - begun,
            (_, _) => Duration::ZERO,
        };
        let map_latency = self.map.as_ref().map(Map::latency);
        let journal = &self.context.journal;
        Report::new(ended, journal, elapsed, &self.read_latency, map_latency, self.unresolved)
    }
}

/// The next message that the map has answered; never where there is none.
async fn next(map: &mut Option<Map>) -> Result<Mapped, DriveError> {
    match map {
        Some(map) => map.next().await,
        None => std::future::pending().await,
    }
}

/// What became of messages.
#[derive(Debug, Default)]
struct Tally {
    mapped: u64,
    dropped: u64,
    dead_letters: u64,
    outputs: u64,
    nacked: u64,
    redelivered: u64,
}
