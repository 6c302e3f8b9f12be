//! The platform's side of a map, in the mode that its server-info names: many requests in flight, and all of them sent again
//! when the stream breaks.
//!
//! Unary and stream mode have as many messages in flight as the concurrency allows; stream mode waits for the EOT of each.
//! Batch mode sends what it is given as one batch, with an EOT, and holds all answers back until the EOT that follows them.
//! Outputs of a message are passed on together, when it is answered. The platform forwards those of stream mode as they
//! come, so that a message which is sent again has them twice there; here it has them once.

use std::collections::{HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use numaflow_sdk::source;
use numaflow_sdk::testing::{ClientError, MapAnswer, MapClient, MapMode, MapReceiver, MapSender};
use numaflow_sdk::{MapRequest, Message};
use tokio::time::{Instant, sleep};

use super::dial::ServerAt;
use super::journal::{Journal, Notice};
use super::report::{histogram, micros};
use super::{DriveError, Pauses};

/// The tag that asks for the same request again (protocol: reserved tags; later than platform 1.8.3).
const FAIL: &str = "U+005C__FAIL__";
/// The name of the vertex, with which ids begin.
const VERTEX: &str = "drive";

/// A map server's client with what is in flight to it.
#[derive(Debug)]
pub(super) struct Map {
    server: ServerAt,
    mode: MapMode,
    pauses: Pauses,
    journal: Journal,
    stream: (MapSender, MapReceiver),
    /// What was given to `push` and not answered, by id.
    outstanding: HashMap<String, Outstanding>,
    /// The ids of those that are not sent yet, or have to be sent again.
    to_send: VecDeque<String>,
    /// Batch mode: whether the EOT goes behind them.
    eot_due: bool,
    /// What was answered and not returned.
    done: VecDeque<Mapped>,
    latency: Histogram<u64>,
}

#[derive(Debug)]
struct Outstanding {
    message: source::Message,
    position: usize,
    sent: Instant,
    failures: u32,
    /// What came of it so far.
    outputs: Vec<Message>,
    /// Batch mode: whether the answer is there, and waits for that of the others.
    answered: bool,
}

/// A message and what the map made of it.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) message: source::Message,
    /// What it was pushed with.
    pub(super) position: usize,
    pub(super) outputs: Vec<Message>,
}

impl Map {
    /// Reads the server-info, connects, opens the stream.
    pub(super) async fn connect(server: ServerAt, pauses: Pauses, journal: Journal) -> Result<Self, DriveError> {
        let mode = server.info(&journal).await?.map_or(MapMode::Unary, |info| info.map_mode());
        let stream = open(&server, mode, &pauses, &journal, false).await?;
        Ok(Self {
            server,
            mode,
            pauses,
            journal,
            stream,
            outstanding: HashMap::new(),
            to_send: VecDeque::new(),
            eot_due: false,
            done: VecDeque::new(),
            latency: histogram(),
        })
    }

    /// Whether it takes one more message in, where so many may be in flight. A batch takes all that there are: it was read
    /// as one.
    pub(super) fn has_room(&self, concurrency: usize) -> bool {
        self.mode == MapMode::Batch || self.in_flight() < concurrency
    }

    /// How many messages were pushed and have not come back.
    pub(super) fn in_flight(&self) -> usize {
        self.outstanding.len() + self.done.len()
    }

    /// Takes a message in, to be sent by `next`. Where messages have to be sent again, that is in the order of their
    /// positions.
    pub(super) fn push(&mut self, position: usize, message: source::Message) {
        let id = id(message.offset());
        let sent = Instant::now();
        let outstanding = Outstanding { message, position, sent, failures: 0, outputs: Vec::new(), answered: false };
        self.outstanding.insert(id.clone(), outstanding);
        self.send_later(id);
    }

    /// Sends what is to be sent and returns the next message that the map has answered. Whatever happens to the stream,
    /// each message pushed comes back exactly once. Never returns with nothing in flight; safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Mapped, DriveError> {
        loop {
            if let Some(mapped) = self.done.pop_front() {
                return Ok(mapped);
            }
            let Self { stream: (sender, receiver), to_send, eot_due, .. } = self;
            // Answers first: those that came before a break need not be asked for again.
            let answer = tokio::select! {
                biased;
                answer = receiver.recv() => answer.and_then(|answer| answer.ok_or(ClientError::Closed)),
                permit = sender.ready(), if !to_send.is_empty() || *eot_due => match permit {
                    Ok(permit) => {
                        match to_send.pop_front() {
                            Some(id) => {
                                // One that was answered before it was sent again is not in flight any more.
                                if let Some(outstanding) = self.outstanding.get_mut(&id) {
                                    outstanding.sent = Instant::now();
                                    permit.send(id, request(&outstanding.message));
                                }
                            }
                            None => {
                                permit.send_eot();
                                *eot_due = false;
                            }
                        }
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match answer {
                Ok(answer) => self.answered(answer).await?,
                Err(error) => {
                    lost(&self.server, &self.journal, error)?;
                    self.redrive().await?;
                }
            }
        }
    }

    /// How long the map took for each message, in microseconds.
    pub(super) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Takes in what the map has sent.
    async fn answered(&mut self, answer: MapAnswer) -> Result<(), DriveError> {
        let MapAnswer { id, messages, eot, .. } = answer;
        if eot && self.mode == MapMode::Batch {
            return self.batch_ended().await;
        }
        let Some(outstanding) = self.outstanding.get_mut(&id).filter(|outstanding| !outstanding.answered) else {
            // The platform logs an answer that nobody waits for, and says nothing of an EOT.
            self.journal.count(|counts| counts.unknown_answers += u64::from(!eot));
            return Ok(());
        };
        // What is in an EOT is lost on the platform too.
        if self.mode == MapMode::Unary || !eot {
            outstanding.outputs.extend(messages);
        }
        if self.mode == MapMode::Stream && !eot {
            return Ok(());
        }
        self.latency.saturating_record(micros(outstanding.sent.elapsed()));
        if self.mode == MapMode::Batch {
            outstanding.answered = true;
        } else {
            self.finish(&id);
        }
        Ok(())
    }

    /// The map has ended the batch: all of it is answered, or else all of it is sent again.
    async fn batch_ended(&mut self) -> Result<(), DriveError> {
        let unanswered = self.outstanding.values().filter(|outstanding| !outstanding.answered).count();
        if unanswered > 0 {
            self.journal.note(Notice::PartialBatch { unanswered });
            return self.redrive().await;
        }
        // An EOT that came before ours ends what was sent so far.
        self.eot_due = false;
        let mut ids: Vec<_> = self.outstanding.iter().map(|(id, message)| (message.position, id.clone())).collect();
        ids.sort_unstable();
        for (_, id) in ids {
            self.finish(&id);
        }
        Ok(())
    }

    /// Passes on a message that is answered for good, or sends it again where the answer asks for that.
    fn finish(&mut self, id: &str) {
        let Some(mut outstanding) = self.outstanding.remove(id) else { return };
        if outstanding.outputs.iter().any(|message| message.tags().iter().any(|tag| tag == FAIL)) {
            self.journal.count(|counts| counts.retried += 1);
            outstanding.forget();
            self.outstanding.insert(id.to_owned(), outstanding);
            self.send_later(id.to_owned());
            return;
        }
        let Outstanding { message, position, outputs, .. } = outstanding;
        self.done.push_back(Mapped { message, position, outputs });
    }

    fn send_later(&mut self, id: String) {
        self.to_send.push_back(id);
        self.eot_due = self.mode == MapMode::Batch;
    }

    /// Opens a new stream and lines everything in flight up to be sent again. Each message is sent again at once the first
    /// time, and after a pause when it fails again; in stream mode always after a pause.
    async fn redrive(&mut self) -> Result<(), DriveError> {
        let in_flight = self.outstanding.len() as u64;
        self.journal.count(|counts| {
            counts.map_reconnects += 1;
            counts.redriven += in_flight;
        });
        let mut pause = self.mode == MapMode::Stream && in_flight > 0;
        let mut ids = Vec::with_capacity(self.outstanding.len());
        for (id, outstanding) in &mut self.outstanding {
            outstanding.forget();
            outstanding.failures += 1;
            pause |= outstanding.failures > 1;
            ids.push((outstanding.position, id.clone()));
        }
        ids.sort_unstable();
        self.to_send.clear();
        for (_, id) in ids {
            self.send_later(id);
        }
        self.stream = open(&self.server, self.mode, &self.pauses, &self.journal, pause).await?;
        Ok(())
    }
}

impl Outstanding {
    /// What came of it does not count: it will be sent again.
    fn forget(&mut self) {
        self.outputs.clear();
        self.answered = false;
    }
}

/// Dials until there is a stream, after a pause if so told.
async fn open(
    server: &ServerAt,
    mode: MapMode,
    pauses: &Pauses,
    journal: &Journal,
    mut pause: bool,
) -> Result<(MapSender, MapReceiver), DriveError> {
    loop {
        if pause {
            sleep(pauses.redrive).await;
        }
        let client = MapClient::from(server.dial(MapClient::SERVICE, pauses, journal).await);
        if let Some(info) = server.info(journal).await?
            && info.map_mode() != mode
        {
            return Err(DriveError::MapMode { socket: server.socket.clone(), was: mode, is: info.map_mode() });
        }
        match client.open().await {
            Ok(stream) => return Ok(stream.split()),
            Err(error) => lost(server, journal, error)?,
        }
        pause = true;
    }
}

/// Says that the stream failed and is opened again, unless the server broke the protocol: that ends the run.
fn lost(server: &ServerAt, journal: &Journal, error: ClientError) -> Result<(), DriveError> {
    if error.is_protocol_violation() {
        return Err(DriveError::Server { socket: server.socket.clone(), error });
    }
    journal.note(Notice::Lost { what: "the map's stream", error });
    Ok(())
}

/// `<vertex>-<base64 of the offset>-<partition>-<index>`, as in a MonoVertex without transformer.
fn id(offset: &source::Offset) -> String {
    format!("{VERTEX}-{}-{}-0", BASE64.encode(offset.as_bytes()), offset.partition_id())
}

fn request(message: &source::Message) -> MapRequest {
    let mut request = MapRequest::new(message.value().clone())
        .with_keys(message.keys())
        .with_event_time(message.event_time())
        .with_user_metadata(message.user_metadata().clone());
    for (name, value) in message.headers() {
        request = request.with_header(name, value);
    }
    request
}
