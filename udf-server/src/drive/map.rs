//! The platform's side of a unary map: many requests in flight, and all of them sent again when the stream breaks.

use std::collections::{HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use numaflow_sdk::source;
use numaflow_sdk::testing::{ClientError, MapAnswer, MapClient, MapMode, MapPermit, MapReceiver, MapSender};
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
    pauses: Pauses,
    journal: Journal,
    stream: (MapSender, MapReceiver),
    /// What was given to `push` and not answered, by id.
    outstanding: HashMap<String, Outstanding>,
    /// The ids of those that are not sent yet, or have to be sent again.
    to_send: VecDeque<String>,
    latency: Histogram<u64>,
}

#[derive(Debug)]
struct Outstanding {
    message: source::Message,
    position: usize,
    sent: Instant,
    failures: u32,
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
        if let Some(info) = server.info(&journal).await?
            && info.map_mode() != MapMode::Unary
        {
            return Err(DriveError::MapMode { socket: server.socket, mode: info.map_mode() });
        }
        let stream = open(&server, &pauses, &journal, false).await?;
        Ok(Self {
            server,
            pauses,
            journal,
            stream,
            outstanding: HashMap::new(),
            to_send: VecDeque::new(),
            latency: histogram(),
        })
    }

    /// How many messages were pushed and have not come back.
    pub(super) fn in_flight(&self) -> usize {
        self.outstanding.len()
    }

    /// Takes a message in, to be sent by `next`. Where messages have to be sent again, that is in the order of their
    /// positions.
    pub(super) fn push(&mut self, position: usize, message: source::Message) {
        let id = id(message.offset());
        let outstanding = Outstanding { message, position, sent: Instant::now(), failures: 0 };
        self.outstanding.insert(id.clone(), outstanding);
        self.to_send.push_back(id);
    }

    /// Sends what is to be sent and returns the next message that the map has answered. Whatever happens to the stream,
    /// each message pushed comes back exactly once. Never returns with nothing in flight; safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Mapped, DriveError> {
        loop {
            let Self { stream: (sender, receiver), outstanding, to_send, .. } = self;
            // Answers first: those that came before a break need not be asked for again.
            let answer = tokio::select! {
                biased;
                answer = receiver.recv() => answer.and_then(|answer| answer.ok_or(ClientError::Closed)),
                permit = sender.ready(), if !to_send.is_empty() => match permit {
                    Ok(permit) => {
                        send_next(permit, to_send, outstanding);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match answer {
                Ok(answer) => {
                    if let Some(mapped) = self.answered(answer) {
                        return Ok(mapped);
                    }
                }
                Err(error) => self.redrive(error).await?,
            }
        }
    }

    /// How long the map took for each message, in microseconds.
    pub(super) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    fn answered(&mut self, answer: MapAnswer) -> Option<Mapped> {
        let Some(outstanding) = self.outstanding.get_mut(&answer.id) else {
            // The platform logs it and goes on.
            self.journal.count(|counts| counts.unknown_answers += 1);
            return None;
        };
        if answer.messages.iter().any(|message| message.tags().iter().any(|tag| tag == FAIL)) {
            self.journal.count(|counts| counts.retried += 1);
            self.to_send.push_back(answer.id);
            return None;
        }
        self.latency.saturating_record(micros(outstanding.sent.elapsed()));
        let Outstanding { message, position, .. } = self.outstanding.remove(&answer.id)?;
        Some(Mapped { message, position, outputs: answer.messages })
    }

    /// Opens a new stream after `error` and lines everything in flight up to be sent again. Each
    /// message is sent again at once the first time, and after a pause when it fails again.
    async fn redrive(&mut self, error: ClientError) -> Result<(), DriveError> {
        lost(&self.server, &self.journal, error)?;
        let in_flight = self.outstanding.len() as u64;
        self.journal.count(|counts| {
            counts.map_reconnects += 1;
            counts.redriven += in_flight;
        });
        let mut pause = false;
        for outstanding in self.outstanding.values_mut() {
            outstanding.failures += 1;
            pause |= outstanding.failures > 1;
        }
        let mut ids: Vec<(usize, String)> =
            self.outstanding.iter().map(|(id, outstanding)| (outstanding.position, id.clone())).collect();
        ids.sort_unstable();
        self.to_send = ids.into_iter().map(|(_, id)| id).collect();
        self.stream = open(&self.server, &self.pauses, &self.journal, pause).await?;
        Ok(())
    }
}

fn send_next(permit: MapPermit<'_>, to_send: &mut VecDeque<String>, outstanding: &mut HashMap<String, Outstanding>) {
    // One that was answered before it was sent again is not in flight any more.
    if let Some(id) = to_send.pop_front()
        && let Some(outstanding) = outstanding.get_mut(&id)
    {
        outstanding.sent = Instant::now();
        permit.send(id, request(&outstanding.message));
    }
}

/// Dials until there is a stream, after a pause if so told.
async fn open(
    server: &ServerAt,
    pauses: &Pauses,
    journal: &Journal,
    mut pause: bool,
) -> Result<(MapSender, MapReceiver), DriveError> {
    loop {
        if pause {
            sleep(pauses.redrive).await;
        }
        let client = MapClient::from(server.dial(MapClient::SERVICE, pauses, journal).await);
        server.info(journal).await?;
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
