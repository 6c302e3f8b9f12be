//! The platform's side of a source: one mailbox, through which every call goes, one at a time.

use std::collections::HashSet;
use std::time::Duration;

use numaflow_sdk::source::{Message, NackOffset, Offset, ReadRequest};
use numaflow_sdk::testing::{AckStream, ClientError, ReadEvent, ReadStream, SourceClient};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::breach::Breach;
use super::context::{Context, Trouble};
use super::dial::{ServerAt, can_nack};
use super::journal::Notice;
use super::{DriveError, Until, stopped};

/// How often the platform tries a failed nack again before it gives up.
const NACK_RETRIES: u32 = 1200;

/// The mailbox of the task that owns the source's client.
#[derive(Debug)]
pub(super) struct SourceHandle {
    mailbox: mpsc::Sender<Call>,
    /// The read that is under way.
    reading: Option<oneshot::Receiver<Result<Vec<Message>, DriveError>>>,
    /// The task that handles the calls and those that ask regular questions; they end with the handle.
    _tasks: JoinSet<()>,
}

/// What puts calls other than reads into the mailbox.
#[derive(Debug, Clone)]
pub(super) struct Settler(mpsc::Sender<Call>);

type Reply<T> = oneshot::Sender<Result<T, DriveError>>;

#[derive(Debug)]
enum Call {
    Read(ReadRequest, Reply<Vec<Message>>),
    Ack(Vec<Offset>, Reply<()>),
    Nack(Vec<NackOffset>, Reply<()>),
    Pending(Reply<Option<u64>>),
    Partitions(Reply<()>),
}

impl SourceHandle {
    /// Connects, opens both streams and starts the task.
    pub(super) async fn connect(
        server: ServerAt,
        until: watch::Receiver<Until>,
        context: Context,
    ) -> Result<Self, DriveError> {
        let client = SourceClient::from(server.dial(SourceClient::SERVICE, &context).await?);
        let can_nack = server.info(&context).await?.is_none_or(|info| can_nack(&info));
        let in_flight = HashSet::new();
        let pauses = context.pauses;
        let trouble = Trouble::default();
        let mut mailbox =
            Mailbox { server, until, context, client, read: None, ack: None, in_flight, can_nack, trouble };
        if let Err(error) = mailbox.open_read().await? {
            mailbox.reopen_read(error).await?;
        }
        if let Err(error) = mailbox.open_ack().await? {
            mailbox.reopen_ack(error).await?;
        }
        let (sender, calls) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(mailbox.run(calls));
        tasks.spawn(ask(sender.clone(), pauses.pending, Call::Pending));
        tasks.spawn(ask(sender.clone(), pauses.partitions, Call::Partitions));
        Ok(Self { mailbox: sender, reading: None, _tasks: tasks })
    }

    /// Whether a call of `read` was cancelled, so that the next one goes on with its read.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    pub(super) fn settler(&self) -> Settler {
        Settler(self.mailbox.clone())
    }

    /// Reads a batch, without the messages that are in flight already. Where the stream breaks, what had arrived is the
    /// batch. Safe to cancel: the next call waits for the same read, whatever it asks for.
    pub(super) async fn read(&mut self, request: ReadRequest) -> Result<Vec<Message>, DriveError> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                let room = self.mailbox.reserve().await.map_err(|_| DriveError::SourceTaskLost)?;
                let (reply, reading) = oneshot::channel();
                room.send(Call::Read(request, reply));
                self.reading.insert(reading)
            }
        };
        let batch = reading.await.unwrap_or(Err(DriveError::SourceTaskLost));
        self.reading = None;
        batch
    }
}

impl Settler {
    /// Acks these offsets; returns when the source has answered.
    pub(super) async fn ack(&self, offsets: Vec<Offset>) -> Result<(), DriveError> {
        call(&self.0, |reply| Call::Ack(offsets, reply)).await
    }

    /// Nacks these offsets; returns when the source has answered or the platform would give up.
    pub(super) async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), DriveError> {
        call(&self.0, |reply| Call::Nack(offsets, reply)).await
    }

    /// Asks how many messages wait; `None` where there is no answer.
    pub(super) async fn pending(&self) -> Result<Option<u64>, DriveError> {
        call(&self.0, Call::Pending).await
    }
}

/// Puts a call into the mailbox and waits for its reply.
async fn call<T>(mailbox: &mpsc::Sender<Call>, call: impl FnOnce(Reply<T>) -> Call) -> Result<T, DriveError> {
    let (reply, answer) = oneshot::channel();
    // A task that is gone drops the call, and the reply with it.
    drop(mailbox.send(call(reply)).await);
    answer.await.unwrap_or(Err(DriveError::SourceTaskLost))
}

/// Asks a question at once and then regularly. It queues like every other call.
async fn ask<T>(mailbox: mpsc::Sender<Call>, period: Duration, question: impl Fn(Reply<T>) -> Call) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if call(&mailbox, &question).await.is_err() {
            return;
        }
    }
}

/// The task: it alone owns the client, and handles one call at a time, so that no two calls overlap on the wire.
struct Mailbox {
    server: ServerAt,
    until: watch::Receiver<Until>,
    context: Context,
    client: SourceClient,
    read: Option<ReadStream>,
    ack: Option<AckStream>,
    /// Delivered and neither acked nor nacked.
    in_flight: HashSet<Offset>,
    can_nack: bool,
    trouble: Trouble,
}

impl Mailbox {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        while let Some(call) = calls.recv().await {
            self.handle(call).await;
        }
    }

    async fn handle(&mut self, call: Call) {
        // Whoever asked may have left.
        match call {
            Call::Read(request, reply) => drop(reply.send(self.read(request).await)),
            Call::Ack(offsets, reply) => drop(reply.send(self.ack(offsets).await)),
            Call::Nack(offsets, reply) => drop(reply.send(self.nack(offsets).await)),
            Call::Pending(reply) => drop(reply.send(self.pending().await)),
            Call::Partitions(reply) => {
                // The answer is for a pipeline's watermark, which the driver has none of.
                let answered = self.context.patiently("the answer to Partitions", self.client.partitions()).await;
                drop(reply.send(answered.map(drop)));
            }
        }
    }

    async fn pending(&self) -> Result<Option<u64>, DriveError> {
        // The platform logs a failure and goes on.
        let answer = self.context.patiently("the answer to Pending", self.client.pending()).await?;
        let pending = answer.ok().flatten();
        self.context.journal.count(|counts| counts.pending = pending.or(counts.pending));
        Ok(pending)
    }

    async fn read(&mut self, request: ReadRequest) -> Result<Vec<Message>, DriveError> {
        let mut batch = Vec::new();
        let asked = request.count;
        let result = match &mut self.read {
            Some(stream) => {
                let receiving = receive(stream, request, &mut batch);
                self.context.patiently_after(request.timeout, "the end of a batch", receiving).await?
            }
            None => Err(ClientError::Closed),
        };
        match result {
            Ok(ReadEvent::End) => {
                self.context.breach(Breach::ReadEnded, || format!("after {} messages of a batch", batch.len()));
                self.read = None;
            }
            Ok(ReadEvent::Eot | ReadEvent::Message(_)) => self.trouble.over(),
            Err(error) => {
                self.context.journal.count(|counts| counts.read_reconnects += 1);
                self.read = None;
                let mut until = self.until.clone();
                tokio::select! {
                    result = self.reopen_read(error) => result?,
                    () = stopped(&mut until) => {}
                }
            }
        }
        let arrived = batch.len();
        if arrived > asked {
            self.context.breach(Breach::TooMany, || format!("{arrived} instead of {asked}"));
        }
        batch.retain(|message| self.in_flight.insert(message.offset().clone()));
        let duplicates = arrived - batch.len();
        self.context.journal.count(|counts| counts.in_flight_duplicates += duplicates as u64);
        Ok(batch)
    }

    async fn open_read(&mut self) -> Result<Result<(), ClientError>, DriveError> {
        let opening = self.context.patiently("the source's answer to the read handshake", self.client.read_stream());
        Ok(opening.await?.map(|stream| self.read = Some(stream)))
    }

    /// Reconnects after `error` until there is a read stream. The ack stream stays what it is and fails on its own.
    ///
    /// The platform's process ends where the handshake fails at this point, and is started again; here that is another
    /// attempt.
    async fn reopen_read(&mut self, mut error: ClientError) -> Result<(), DriveError> {
        loop {
            self.context.lost(&self.server, "the source's read stream", error, &mut self.trouble)?;
            self.redial().await?;
            match self.open_read().await? {
                Ok(()) => return Ok(()),
                Err(failed) => error = failed,
            }
            sleep(self.context.pauses.dial).await;
        }
    }

    async fn redial(&mut self) -> Result<(), DriveError> {
        self.client = self.server.dial(SourceClient::SERVICE, &self.context).await?.into();
        self.server.info(&self.context).await?;
        Ok(())
    }

    /// Acks until it works: the same offsets again, as often as it takes.
    async fn ack(&mut self, offsets: Vec<Offset>) -> Result<(), DriveError> {
        loop {
            let result = match &mut self.ack {
                Some(stream) => self.context.patiently("the answer to an ack", stream.ack(offsets.clone())).await?,
                None => Err(ClientError::Closed),
            };
            match result {
                Ok(()) => break,
                Err(error) => self.reopen_ack(error).await?,
            }
        }
        self.trouble.over();
        self.forget(&offsets);
        Ok(())
    }

    async fn open_ack(&mut self) -> Result<Result<(), ClientError>, DriveError> {
        let opening = self.context.patiently("the source's answer to the ack handshake", self.client.ack_stream());
        Ok(opening.await?.map(|stream| self.ack = Some(stream)))
    }

    /// Opens the ack stream again after `error`: on the connection there is, or on a new one where that is lost.
    async fn reopen_ack(&mut self, mut error: ClientError) -> Result<(), DriveError> {
        self.context.journal.count(|counts| counts.ack_reconnects += 1);
        self.ack = None;
        loop {
            self.context.lost(&self.server, "the source's ack stream", error, &mut self.trouble)?;
            sleep(self.context.pauses.ack).await;
            match self.open_ack().await? {
                Ok(()) => return Ok(()),
                Err(failed) => error = failed,
            }
            self.redial().await?;
        }
    }

    async fn nack(&mut self, nacks: Vec<NackOffset>) -> Result<(), DriveError> {
        if self.can_nack {
            self.call_nack(&nacks).await?;
        } else {
            self.context.journal.note(Notice::CannotNack);
        }
        self.forget(nacks.iter().map(|nack| &nack.offset));
        Ok(())
    }

    async fn call_nack(&mut self, nacks: &[NackOffset]) -> Result<(), DriveError> {
        for _ in 0..=NACK_RETRIES {
            match self.context.patiently("the answer to a nack", self.client.nack(nacks.to_vec())).await? {
                Ok(()) => return Ok(()),
                // An answer without its result is a failure like others here, and leaves the ack stream alone.
                Err(error) if error.is_protocol_violation() => {
                    self.context.journal.note(Notice::Lost { what: "a nack", error });
                    sleep(self.context.pauses.nack).await;
                }
                Err(error) => self.reopen_ack(error).await?,
            }
        }
        self.context.journal.note(Notice::NackGivenUp);
        Ok(())
    }

    fn forget<'a>(&mut self, offsets: impl IntoIterator<Item = &'a Offset>) {
        for offset in offsets {
            self.in_flight.remove(offset);
        }
    }
}

/// Asks for a batch and collects it. What has arrived is in `batch` also where this fails.
async fn receive(
    stream: &mut ReadStream,
    request: ReadRequest,
    batch: &mut Vec<Message>,
) -> Result<ReadEvent, ClientError> {
    stream.request(request).await?;
    loop {
        match stream.next().await? {
            ReadEvent::Message(message) => batch.push(message),
            end @ (ReadEvent::Eot | ReadEvent::End) => return Ok(end),
        }
    }
}
