//! The platform's side of a map, in the mode that its server-info names: many requests in flight, and all of them sent again
//! when the stream breaks.
//!
//! Unary and stream mode have as many messages in flight as the concurrency allows; stream mode waits for the EOT of each.
//! Batch mode sends what it is given as one batch, with an EOT, and holds all answers back until the EOT that follows them.
//! Outputs of a message are passed on together, when it is answered. The platform forwards those of stream mode as they
//! come, so that a message which is sent again has them twice there; here it has them once.

mod stream;

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use numaflow_sdk::source;
use numaflow_sdk::testing::{ClientError, MOST_OUTPUTS, MapAnswer, MapMode};
use numaflow_sdk::{MapRequest, Message};
use tokio::time::{Instant, sleep_until};

use super::breach::Breach;
use super::context::{Context, PATIENCE, Trouble};
use super::journal::Notice;
use super::report::{histogram, micros};
use super::{DriveError, Faults, Platform, ServerAt};
use stream::{Stream, receive};

/// The name of the vertex, with which ids begin.
const VERTEX: &str = "drive";

/// A map server's client with what is in flight to it.
#[derive(Debug)]
pub(super) struct Map {
    server: ServerAt,
    mode: MapMode,
    context: Context,
    faults: Faults,
    stream: Stream,
    /// What was given to `push` and not answered, by id.
    outstanding: HashMap<String, Outstanding>,
    /// The ids of those that are not sent yet, or have to be sent again.
    to_send: VecDeque<String>,
    /// Batch mode: whether the EOT goes behind them.
    eot_due: bool,
    /// How many more answers are to come on this stream under ids that were sent twice on purpose.
    duplicates: HashMap<String, u32>,
    /// What was answered and not returned.
    done: VecDeque<Mapped>,
    latency: Histogram<u64>,
    /// How many messages were pushed, and how many were answered the first time that they were sent.
    pushed: u64,
    answered: u64,
    /// When there was an answer last, or none was due.
    heard: Instant,
    /// When it was last said that there is none.
    complained: Instant,
    trouble: Trouble,
}

#[derive(Debug)]
struct Outstanding {
    message: source::Message,
    position: usize,
    sent: Instant,
    failures: u32,
    /// How often it was sent on this stream since it was last answered.
    copies: u32,
    /// What came of it so far.
    outputs: Vec<Message>,
    /// Batch mode: whether the answer is there, and waits for that of the others.
    answered: bool,
}

/// A message and what the map made of it.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) message: source::Message,
    /// The id of the message.
    pub(super) id: String,
    /// What it was pushed with.
    pub(super) position: usize,
    pub(super) outputs: Vec<Message>,
}

impl Mapped {
    /// Where there is no map, a message goes out as it came in.
    pub(super) fn unmapped(position: usize, message: source::Message) -> Self {
        let output = Message::new(message.value().clone()).with_keys(message.keys());
        Self { id: id(message.offset()), position, message, outputs: vec![output] }
    }
}

impl Map {
    /// Reads the server-info, connects, opens the stream.
    pub(super) async fn connect(server: ServerAt, faults: Faults, context: Context) -> Result<Self, DriveError> {
        let mode = server.info(&context).await?.map_or(MapMode::Unary, |info| info.map_mode());
        let mut stream = Stream::new(&server, mode, &context, false);
        stream.open().await?;
        Ok(Self {
            server,
            mode,
            context,
            faults,
            stream,
            outstanding: HashMap::new(),
            to_send: VecDeque::new(),
            eot_due: false,
            duplicates: HashMap::new(),
            done: VecDeque::new(),
            latency: histogram(),
            pushed: 0,
            answered: 0,
            heard: Instant::now(),
            complained: Instant::now(),
            trouble: Trouble::default(),
        })
    }

    /// How many more messages it takes in, where so many may be in flight. A batch takes all that there are, and no other
    /// begins before it is done.
    pub(super) fn room(&self, concurrency: usize) -> usize {
        match (self.mode, self.in_flight()) {
            (MapMode::Batch, 0) => usize::MAX,
            (MapMode::Batch, _) => 0,
            (_, in_flight) => concurrency.saturating_sub(in_flight),
        }
    }

    /// How many messages were pushed and have not come back.
    pub(super) fn in_flight(&self) -> usize {
        self.outstanding.len() + self.done.len()
    }

    /// Takes a message in, to be sent by `next`. Where messages have to be sent again, that is in the order of their
    /// positions.
    pub(super) fn push(&mut self, position: usize, message: source::Message) {
        let id = id(message.offset());
        let now = Instant::now();
        if self.outstanding.is_empty() {
            self.heard = now;
        }
        let outstanding =
            Outstanding { message, position, sent: now, failures: 0, copies: 0, outputs: Vec::new(), answered: false };
        self.outstanding.insert(id.clone(), outstanding);
        self.pushed += 1;
        if every(self.faults.duplicate_every, self.pushed) {
            self.send_later(id.clone());
        }
        self.send_later(id);
    }

    /// Sends what is to be sent and returns the next message that the map has answered. Whatever happens to the stream,
    /// each message pushed comes back exactly once. Never returns with nothing in flight; safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Mapped, DriveError> {
        loop {
            if let Some(mapped) = self.done.pop_front() {
                return Ok(mapped);
            }
            let not_before = (!self.faults.answer_pause.is_zero()).then(|| self.heard + self.faults.answer_pause);
            let complaint = self.heard.max(self.complained) + PATIENCE;
            let end = self.context.left(Duration::ZERO).map(|wait| self.heard + wait);
            let complaint = end.map_or(complaint, |end| end.min(complaint));
            let Self { stream, to_send, eot_due, .. } = self;
            let (sender, receiver) = stream.open().await?;
            // Answers first: those that came before a break need not be asked for again.
            let answer = tokio::select! {
                biased;
                answer = receive(receiver, not_before) => answer,
                permit = sender.ready(), if !to_send.is_empty() || *eot_due => match permit {
                    Ok(permit) => {
                        let Some(id) = to_send.pop_front() else {
                            permit.send_eot();
                            *eot_due = false;
                            continue;
                        };
                        // One that was answered before it was sent again is not in flight any more.
                        if let Some(outstanding) = self.outstanding.get_mut(&id) {
                            outstanding.sent = Instant::now();
                            outstanding.copies += 1;
                            if outstanding.copies > 1 {
                                *self.duplicates.entry(id.clone()).or_default() += 1;
                            }
                            permit.send(id, request(&outstanding.message));
                        }
                        continue;
                    }
                    Err(error) => Err(error),
                },
                () = sleep_until(complaint) => {
                    self.complained = Instant::now();
                    let what = match self.mode {
                        MapMode::Batch => "answers of the map and the end of its batch",
                        MapMode::Stream => "outputs of the map and their ends",
                        MapMode::Unary => "answers of the map",
                    };
                    let what = format!("{what} {}", in_flight(self.outstanding.len()));
                    let waited = self.complained - self.heard;
                    if self.context.left(waited) == Some(Duration::ZERO) {
                        return Err(gave_up(self.mode, self.server.info.is_some(), what, waited));
                    }
                    self.context.journal.note(Notice::Silent { what, time: self.complained - self.heard });
                    continue;
                }
            };
            self.heard = Instant::now();
            match answer {
                Ok(Some(answer)) => self.answered(answer)?,
                Ok(None) => {
                    self.context.breach(Breach::MapEnded, || in_flight(self.outstanding.len()));
                    self.context.exits("the map's stream", || "it was ended with OK".to_owned())?;
                    self.failed("it was ended with OK")?;
                    self.redrive();
                }
                Err(error) => self.broken(error)?,
            }
        }
    }

    /// How long the map took for each message, in microseconds.
    pub(super) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Takes in what the map has sent.
    fn answered(&mut self, answer: MapAnswer) -> Result<(), DriveError> {
        let MapAnswer { id, messages, eot, .. } = answer;
        let ends_here = eot && self.mode != MapMode::Unary;
        if ends_here && !messages.is_empty() {
            self.context.breach(Breach::OutputsInEot, || format!("{} outputs", messages.len()));
        }
        if ends_here && self.mode == MapMode::Batch {
            return self.batch_ended();
        }
        let Some(outstanding) = self.outstanding.get_mut(&id).filter(|outstanding| !outstanding.answered) else {
            self.not_waited_for(&id, eot);
            return Ok(());
        };
        // What is in an EOT is lost on the platform too.
        if !ends_here {
            outstanding.outputs.extend(messages);
        }
        // Those of stream mode come one by one.
        if outstanding.outputs.len() > MOST_OUTPUTS {
            return Err(DriveError::TooManyOutputs { id });
        }
        if self.mode == MapMode::Stream && !eot {
            return Ok(());
        }
        self.latency.saturating_record(micros(outstanding.sent.elapsed()));
        let first_time = outstanding.failures == 0;
        if self.mode == MapMode::Batch {
            outstanding.answered = true;
        } else {
            self.finish(&id);
        }
        self.answered += u64::from(first_time);
        if first_time && every(self.faults.reconnect_every, self.answered) {
            self.redrive();
        }
        Ok(())
    }

    /// An answer that no message waits for: the second one to a message that was sent twice, or one that should not be. The
    /// platform says nothing of an EOT.
    fn not_waited_for(&mut self, id: &str, eot: bool) {
        let completes = self.mode != MapMode::Stream || eot;
        match self.duplicates.get_mut(id) {
            Some(left) => {
                if completes {
                    *left -= 1;
                    if *left == 0 {
                        self.duplicates.remove(id);
                    }
                    self.context.journal.count(|counts| counts.duplicate_answers += 1);
                }
            }
            None if eot => {}
            None => self.context.breach(Breach::UnknownId, || format!("{id:?}")),
        }
    }

    /// The map has ended the batch: all of it is answered, or else all of it is sent again.
    fn batch_ended(&mut self) -> Result<(), DriveError> {
        let unanswered = self.outstanding.values().filter(|outstanding| !outstanding.answered).count();
        if unanswered > 0 {
            let problem = format!("{unanswered} of {} unanswered", self.outstanding.len());
            self.context.breach(Breach::PartialBatch, || problem.clone());
            self.context.exits("the map's stream", || problem.clone())?;
            self.failed(&problem)?;
            self.redrive();
            return Ok(());
        }
        // An EOT that came before ours ends what was sent so far.
        self.eot_due = false;
        self.duplicates.clear();
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
        if self.context.platform == Platform::Main && outstanding.outputs.iter().any(Message::is_fail) {
            self.context.journal.count(|counts| counts.retried += 1);
            outstanding.forget();
            self.outstanding.insert(id.to_owned(), outstanding);
            self.send_later(id.to_owned());
            return;
        }
        let Outstanding { message, position, outputs, .. } = outstanding;
        self.trouble.over();
        self.done.push_back(Mapped { message, id: id.to_owned(), position, outputs });
    }

    fn send_later(&mut self, id: String) {
        self.to_send.push_back(id);
        self.eot_due = self.mode == MapMode::Batch;
    }

    /// The stream is lost: the platform sends again what was in flight, or exits.
    fn broken(&mut self, error: ClientError) -> Result<(), DriveError> {
        self.context.lost(&self.server, "the map's stream", error, &mut self.trouble)?;
        self.redrive();
        Ok(())
    }

    /// The map has ended its stream in a way that the platform goes on after.
    fn failed(&mut self, problem: &str) -> Result<(), DriveError> {
        self.context.goes_on(&mut self.trouble, &self.server, "the map's stream", || problem.to_owned())
    }

    /// Begins a new stream and lines everything in flight up to be sent again. Each message is sent again at once the first
    /// time, and after a pause when it fails again; in stream mode always after a pause.
    fn redrive(&mut self) {
        let in_flight = self.outstanding.len() as u64;
        self.context.journal.count(|counts| {
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
        self.duplicates.clear();
        self.eot_due = false;
        for (_, id) in ids {
            self.send_later(id);
        }
        self.stream = Stream::new(&self.server, self.mode, &self.context, pause);
    }
}

impl Outstanding {
    /// What came of it does not count: it will be sent again.
    fn forget(&mut self) {
        self.outputs.clear();
        self.answered = false;
        self.copies = 0;
    }
}

/// Whether it is the turn of this number, counted from 1.
pub(super) fn every(period: Option<NonZeroU64>, number: u64) -> bool {
    period.is_some_and(|period| number % period == 0)
}

/// What to do about a map that does not answer.
fn gave_up(mode: MapMode, has_info: bool, what: String, waited: Duration) -> DriveError {
    let advice = if mode == MapMode::Unary && !has_info {
        "the map is taken for one in unary mode; one in batch or stream mode has to be given with its server-info file, by \
         --map-info"
    } else {
        "the map has the messages and does not answer: look at its log, or whether its handler is slow"
    };
    DriveError::GaveUp { what, waited, last: None, advice }
}

fn in_flight(messages: usize) -> String {
    format!("with {messages} messages in flight")
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
