//! The loop: read a batch, map it, write what came of it, and only then ack it.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use numaflow_sdk::source::{self, NackOffset, ReadRequest};
use numaflow_sdk::{Message, NackOptions};
use tokio::sync::watch;
use tokio::time::Instant;

use super::journal::Journal;
use super::lines::LineSource;
use super::map::{Map, Mapped};
use super::output::Output;
use super::report::{Report, histogram, micros};
use super::resolved::Resolved;
use super::source::SourceHandle;
use super::{DriveError, Settings, Until};

/// The tag of outputs that go to the dead letters.
const DEAD_LETTER: &str = "dead-letter";

/// Where messages come from.
#[derive(Debug)]
pub(super) enum Source {
    Server(SourceHandle),
    Lines(LineSource),
}

impl Source {
    /// Reads a batch; `None` at the end, which only lines have.
    async fn read(&mut self, request: ReadRequest) -> Result<Option<Vec<source::Message>>, DriveError> {
        match self {
            Self::Server(server) => server.read(request).await.map(Some),
            Self::Lines(lines) => lines.read(request).await,
        }
    }

    async fn ack(&mut self, offsets: Vec<source::Offset>) -> Result<(), DriveError> {
        match self {
            // The platform sends no empty request.
            Self::Server(server) if !offsets.is_empty() => server.ack(offsets).await,
            Self::Server(_) | Self::Lines(_) => Ok(()),
        }
    }

    async fn nack(&mut self, nacked: Vec<(source::Message, NackOptions)>) -> Result<(), DriveError> {
        match self {
            Self::Server(_) if nacked.is_empty() => Ok(()),
            Self::Server(server) => {
                let nacks =
                    nacked.into_iter().map(|(message, options)| NackOffset::new(message.offset().clone(), options));
                server.nack(nacks.collect()).await
            }
            Self::Lines(lines) => {
                lines.nack(nacked.into_iter().map(|(message, _)| message));
                Ok(())
            }
        }
    }

    /// Whether a source whose last read came back empty has nothing left.
    async fn is_idle(&self) -> Result<bool, DriveError> {
        match self {
            Self::Server(server) => Ok(server.pending().await? == Some(0)),
            Self::Lines(_) => Ok(false),
        }
    }
}

/// Everything that one run owns.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) source: Source,
    pub(super) map: Option<Map>,
    output: Output,
    batch: ReadRequest,
    concurrency: usize,
    until: watch::Receiver<Until>,
    journal: Journal,
    resolved: Resolved,
    read_latency: Histogram<u64>,
    begun: Option<Instant>,
    last_resolved: Option<Instant>,
    unresolved: u64,
}

impl Pipeline {
    pub(super) fn new(source: Source, map: Option<Map>, output: Output, settings: &Settings, journal: Journal) -> Self {
        Self {
            source,
            map,
            output,
            batch: ReadRequest::new(settings.batch_size, settings.read_timeout),
            concurrency: settings.concurrency,
            until: settings.until.clone(),
            journal,
            resolved: Resolved::default(),
            read_latency: histogram(),
            begun: None,
            last_resolved: None,
            unresolved: 0,
        }
    }

    /// Runs until the end that was set, or that of the input. Every batch is complete when it returns.
    pub(super) async fn run(&mut self) -> Result<(), DriveError> {
        loop {
            let until = *self.until.borrow();
            let room = match until {
                Until::Now => break,
                Until::Resolved(total) => {
                    usize::try_from(total.saturating_sub(self.resolved.count())).unwrap_or(usize::MAX)
                }
                Until::Idle | Until::Told => usize::MAX,
            };
            if room == 0 {
                break;
            }
            let asked = Instant::now();
            let request = ReadRequest::new(self.batch.count.min(room), self.batch.timeout);
            let Some(batch) = self.source.read(request).await? else { break };
            if !batch.is_empty() {
                self.begun.get_or_insert(asked);
                self.read_latency.saturating_record(micros(asked.elapsed()));
                self.settle(batch).await?;
            } else if until == Until::Idle && self.source.is_idle().await? {
                break;
            }
        }
        if let Source::Server(server) = &self.source {
            // For the report.
            server.pending().await?;
        }
        Ok(())
    }

    /// Takes a batch to its end: acked, but for what the map nacked.
    async fn settle(&mut self, batch: Vec<source::Message>) -> Result<(), DriveError> {
        let read = batch.len() as u64;
        self.unresolved = read;
        self.journal.count(|counts| counts.read += read);

        let mut acks: Vec<Option<source::Offset>> = Vec::with_capacity(batch.len());
        let mut new = VecDeque::with_capacity(batch.len());
        for (position, message) in batch.into_iter().enumerate() {
            acks.push(Some(message.offset().clone()));
            if !self.resolved.contains(message.offset()) {
                new.push_back((position, message));
            }
        }
        let redelivered = read - new.len() as u64;

        let mut tally = Tally::default();
        let mut nacks = Vec::new();
        for Mapped { position, message, outputs } in self.map_all(new).await? {
            if let Some(nack) = outputs.iter().find(|output| output.is_nack()) {
                // None of its outputs is written, so that its redelivery doesn't write them twice.
                acks[position] = None;
                nacks.push((message, nack.nack_options().cloned().unwrap_or_default()));
                continue;
            }
            self.write(&outputs, &mut tally).await?;
            self.resolved.insert(message.offset());
        }
        self.output.flush().await?;
        let acks: Vec<source::Offset> = acks.into_iter().flatten().collect();
        let (acked, nacked) = (acks.len() as u64, nacks.len() as u64);
        self.source.ack(acks).await?;
        self.source.nack(nacks).await?;
        self.last_resolved = Some(Instant::now());
        self.unresolved = 0;
        self.journal.count(|counts| {
            counts.mapped += tally.mapped;
            counts.dropped += tally.dropped;
            counts.dead_letters += tally.dead_letters;
            counts.outputs += tally.outputs;
            counts.nacked += nacked;
            counts.redelivered += redelivered;
            counts.acked += acked;
        });
        Ok(())
    }

    /// Maps the messages, as many at a time as the concurrency allows; in the order they came in.
    async fn map_all(&mut self, mut new: VecDeque<(usize, source::Message)>) -> Result<Vec<Mapped>, DriveError> {
        let Some(map) = &mut self.map else {
            return Ok(new.into_iter().map(unmapped).collect());
        };
        let mut all = Vec::with_capacity(new.len());
        loop {
            while map.has_room(self.concurrency)
                && let Some((position, message)) = new.pop_front()
            {
                map.push(position, message);
            }
            if map.in_flight() == 0 {
                break;
            }
            all.push(map.next().await?);
        }
        all.sort_unstable_by_key(|mapped| mapped.position);
        Ok(all)
    }

    /// Writes the outputs of one message and counts what became of it.
    async fn write(&mut self, outputs: &[Message], tally: &mut Tally) -> Result<(), DriveError> {
        let (mut lines, mut dead_letters) = (0, 0);
        for output in outputs.iter().filter(|output| !output.is_drop()) {
            if output.tags().iter().any(|tag| tag == DEAD_LETTER) {
                self.output.write_dead_letter(output).await?;
                dead_letters += 1;
            } else {
                self.output.write(output).await?;
                lines += 1;
            }
        }
        tally.outputs += lines;
        match (lines, dead_letters) {
            (0, 0) => tally.dropped += 1,
            (0, _) => tally.dead_letters += 1,
            (_, _) => tally.mapped += 1,
        }
        Ok(())
    }

    /// What the run has come to so far.
    pub(super) fn report(&self) -> Report {
        let elapsed = match (self.begun, self.last_resolved) {
            (Some(begun), Some(end)) => end - begun,
            (_, _) => Duration::ZERO,
        };
        let map_latency = self.map.as_ref().map(Map::latency);
        Report::new(self.journal.counts(), elapsed, &self.read_latency, map_latency, self.unresolved)
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
struct Tally {
    mapped: u64,
    dropped: u64,
    dead_letters: u64,
    outputs: u64,
}

/// Where there is no map, a message goes out as it came in.
fn unmapped((position, message): (usize, source::Message)) -> Mapped {
    let output = Message::new(message.value().clone()).with_keys(message.keys());
    Mapped { position, message, outputs: vec![output] }
}
