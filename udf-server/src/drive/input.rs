//! Where messages come from, and where word of them goes back to.

use std::future::Future;

use numaflow_sdk::NackOptions;
use numaflow_sdk::source::{Message, NackOffset, Offset, ReadRequest};
use tokio::sync::watch;

use super::context::Context;
use super::generator::Generator;
use super::lines::LineSource;
use super::pace::Pace;
use super::source::SourceHandle;
use super::{DriveError, Input, Settings, Until, stopped};

/// What becomes of a message at its source.
#[derive(Debug)]
pub(super) enum Settled {
    Ack(Offset),
    Nack(Message, NackOptions),
}

/// The input, at the rate that was asked for.
#[derive(Debug)]
pub(super) struct Reader {
    source: Source,
    pace: Option<Pace>,
    until: watch::Receiver<Until>,
}

#[derive(Debug)]
enum Source {
    Server(SourceHandle),
    Lines(LineSource),
    Generator(Generator),
}

impl Reader {
    pub(super) async fn open(settings: &Settings, context: &Context) -> Result<Self, DriveError> {
        let source = match &settings.input {
            Input::Server(server) => {
                let until = settings.until.clone();
                Source::Server(SourceHandle::connect(server.clone(), until, context.clone()).await?)
            }
            Input::Lines(lines) => Source::Lines(LineSource::open(lines)?),
            Input::Generate(what) => Source::Generator(Generator::new(*what)),
        };
        Ok(Self { source, pace: settings.rate.map(Pace::new), until: settings.until.clone() })
    }

    /// Reads a batch; `None` at the end, which servers don't have. A nacked message may still come after it. Safe to
    /// cancel: the next call goes on with the same read.
    pub(super) async fn read(&mut self, request: ReadRequest) -> Result<Option<Vec<Message>>, DriveError> {
        let count = match &mut self.pace {
            Some(pace) => tokio::select! {
                count = pace.ready(request.count) => count,
                // There is nothing to wait for any more.
                () = stopped(&mut self.until) => return Ok(Some(Vec::new())),
            },
            None => request.count,
        };
        let request = ReadRequest::new(count, request.timeout);
        let batch = match &mut self.source {
            Source::Server(server) => Some(server.read(request).await?),
            Source::Lines(lines) => lines.read(request).await?,
            Source::Generator(generator) => generator.read(request.count),
        };
        if let (Some(pace), Some(batch)) = (&mut self.pace, &batch) {
            pace.took(batch.len());
        }
        Ok(batch)
    }

    /// Tells the source what became of messages: acks, in one request, then nacks. The future ends when the source has
    /// taken it; it is one that can be spawned.
    pub(super) fn settle(
        &mut self,
        settled: Vec<Settled>,
    ) -> impl Future<Output = Result<(), DriveError>> + Send + use<> {
        let mut acks = Vec::with_capacity(settled.len());
        let mut nacks = Vec::new();
        for settled in settled {
            match settled {
                Settled::Ack(offset) => acks.push(offset),
                Settled::Nack(message, options) => nacks.push((message, options)),
            }
        }
        let server = match &mut self.source {
            Source::Server(server) => Some(server.settler()),
            Source::Lines(lines) => {
                lines.nack(nacks.drain(..).map(|(message, _)| message));
                None
            }
            Source::Generator(generator) => {
                generator.nack(nacks.drain(..).map(|(message, _)| message));
                None
            }
        };
        async move {
            let Some(server) = server else { return Ok(()) };
            // The platform sends no empty request.
            if !acks.is_empty() {
                server.ack(acks).await?;
            }
            if !nacks.is_empty() {
                let offset = |(message, options): (Message, _)| NackOffset::new(message.offset().clone(), options);
                server.nack(nacks.into_iter().map(offset).collect()).await?;
            }
            Ok(())
        }
    }

    /// Nacks all of this to a server, as a platform does that is about to exit. Other inputs have nobody to tell.
    pub(super) async fn give_back(&mut self, offsets: Vec<Offset>) -> Result<(), DriveError> {
        match &mut self.source {
            Source::Server(server) => {
                let nack = |offset| NackOffset::new(offset, NackOptions::default());
                server.settler().nack(offsets.into_iter().map(nack).collect()).await
            }
            Source::Lines(_) | Source::Generator(_) => Ok(()),
        }
    }

    /// Whether a read has begun that nobody has waited for to its end.
    pub(super) fn is_reading(&self) -> bool {
        match &self.source {
            Source::Server(server) => server.is_reading(),
            Source::Lines(_) | Source::Generator(_) => false,
        }
    }

    /// How many messages wait at a server; `None` where that is not known.
    pub(super) async fn pending(&self) -> Result<Option<u64>, DriveError> {
        match &self.source {
            Source::Server(server) => server.settler().pending().await,
            Source::Lines(_) | Source::Generator(_) => Ok(None),
        }
    }
}
