//! The platform, played for one source by a process of its own: it has one mailbox, keeps what it got of a batch that
//! breaks off, drops what it has in flight already, acks in any order, and sends acks again until they are answered.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::Outcome;
use super::journal::{Deed, Journal, Place};
use crate::case::Kind;
use crate::outcome::Unproven;
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::common::{NackOptions, ReadyResponse};
use crate::wire::source::{
    self, Acker, Nacked, Offset, ReadResponse, Reader, Record, nack, partitions, pending, read_request,
};

/// How many records a read asks for, at most.
const BATCH: usize = 500;
/// How long a read may wait for records: the platform's own figure.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait before a server that is not there is dialled again.
const REDIAL: Duration = Duration::from_millis(50);
/// How often the platform asks for readiness, pending and partitions.
const ASK: Duration = Duration::from_secs(3);
/// How long a driver that has no room waits before it looks again.
const PAUSE: Duration = Duration::from_millis(5);
/// The most offsets in one ack: in streaming mode the platform acks one by one, otherwise a batch at a time.
const ACKS: usize = 100;

/// What the driver is told.
#[derive(Debug, Clone, Args)]
pub(super) struct DriverArgs {
    /// The source's socket
    #[arg(long)]
    pub(super) socket: PathBuf,
    /// The journal to write
    #[arg(long)]
    pub(super) journal: PathBuf,
    /// What its choices are drawn from
    #[arg(long)]
    pub(super) seed: u64,
    /// The most records in flight
    #[arg(long, default_value_t = 1000)]
    pub(super) in_flight: usize,
    /// Of 1,000 records, how many are nacked at a time
    #[arg(long, default_value_t = 0)]
    pub(super) nacked: u32,
    /// Of 1,000 records, how many are forgotten at a time
    #[arg(long, default_value_t = 0)]
    pub(super) forgotten: u32,
    /// Of 1,000 turns, how many break a stream
    #[arg(long, default_value_t = 0)]
    pub(super) broken: u32,
    /// Every so many-th record is always nacked, and given up in the end; 0 for none
    #[arg(long, default_value_t = 0)]
    pub(super) poison_every: u64,
    /// How many milliseconds a record is worked on, at most
    #[arg(long, default_value_t = 60)]
    pub(super) work: u64,
    /// Ask for one batch and never take it
    #[arg(long)]
    pub(super) idle: bool,
}

/// Drives until it is killed.
pub(super) fn run(args: DriverArgs) -> Outcome<()> {
    let journal = Journal::create(&args.journal)?;
    let rng = Rng::with_seed(args.seed);
    let mut driver = Driver { args, journal, rng, in_flight: HashMap::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(driver.drive())?)
}

struct Driver {
    args: DriverArgs,
    journal: Journal,
    rng: Rng,
    in_flight: HashMap<Place, Held>,
}

/// A record in flight.
#[derive(Debug)]
struct Held {
    offset: Offset,
    number: u64,
    /// When the vertex is done with it.
    done: Instant,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ack,
    /// The ack is in the journal; whether the source has it is not known.
    Acking,
    Nack,
    Forget,
}

/// Why a connection came to its end.
enum Broken {
    /// It is dialled again.
    Connection(Unproven),
    /// The journal cannot be written, so nothing more may be acked.
    Journal(io::Error),
}

impl From<Unproven> for Broken {
    fn from(failure: Unproven) -> Self {
        Self::Connection(failure)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Journal(error)
    }
}

impl Driver {
    /// One connection after another.
    async fn drive(&mut self) -> io::Result<()> {
        let mut told = String::new();
        loop {
            match self.connect().await {
                Ok(()) => {}
                Err(Broken::Connection(failure)) => {
                    // Dialling fails many times in a row while there is no server.
                    let text = failure.to_string();
                    if text != told {
                        say(&text);
                        told = text;
                    }
                }
                Err(Broken::Journal(error)) => return Err(error),
            }
            sleep(REDIAL).await;
        }
    }

    /// One connection: everything is done in turn, as in the platform, so whatever waits delays everything else.
    async fn connect(&mut self) -> Result<(), Broken> {
        let socket = &self.args.socket;
        let connection = Connection::to(&Target::new(Kind::Source, socket, socket.with_extension("info"))).await?;
        let mut reader = Reader::open(&connection).await?;
        let mut acker = Acker::open(&connection).await?;
        self.note(Deed::Connected)?;
        if self.args.idle {
            reader.call.send(&read_request(BATCH, READ_TIMEOUT)).await;
            return std::future::pending().await;
        }
        let mut asked = Instant::now();
        loop {
            self.send_acks(&connection, &mut acker).await?;
            self.send_nacks(&connection).await?;
            self.forget()?;
            if asked.elapsed() >= ASK {
                asked = Instant::now();
                if !is_ready(&connection).await? {
                    return Err(Unproven::broken("a source that is ready", "one that is not").into());
                }
                pending(&connection).await?;
                partitions(&connection).await?;
            }
            let room = self.args.in_flight.saturating_sub(self.in_flight.len()).min(BATCH);
            if room == 0 {
                sleep(PAUSE).await;
            } else if self.breaks() {
                self.note(Deed::Broke)?;
                // Not even the batch is waited for.
                reader.call.send(&read_request(room, READ_TIMEOUT)).await;
                self.receive_some(&mut reader).await?;
                drop(reader);
                reader = Reader::open(&connection).await?;
            } else {
                reader.call.send(&read_request(room, READ_TIMEOUT)).await;
                self.receive(&mut reader).await?;
            }
        }
    }

    fn breaks(&mut self) -> bool {
        self.rng.u32(0..1000) < self.args.broken
    }

    /// Notes what is about no record.
    fn note(&mut self, deed: Deed) -> io::Result<()> {
        self.journal.note((0, 0), deed)?;
        self.journal.write()
    }

    /// Receives a batch. What has come of it stays, also when the rest does not.
    async fn receive(&mut self, reader: &mut Reader) -> Result<(), Broken> {
        while self.receive_one(reader).await? {}
        Ok(())
    }

    /// Receives the beginning of a batch.
    async fn receive_some(&mut self, reader: &mut Reader) -> Result<(), Broken> {
        for _ in 0..self.rng.usize(0..50) {
            if !self.receive_one(reader).await? {
                break;
            }
        }
        Ok(())
    }

    /// Receives a record; `false` at the end of the batch.
    async fn receive_one(&mut self, reader: &mut Reader) -> Result<bool, Broken> {
        let response: ReadResponse = reader.call.message("a record or the end of the batch").await?;
        if response.status.is_some_and(|status| status.eot) {
            return Ok(false);
        }
        let record = response.result.ok_or_else(|| Unproven::broken("a record or the end of the batch", "neither"))?;
        source::check_record(&record)?;
        self.take(record)?;
        Ok(true)
    }

    fn take(&mut self, record: Record) -> Result<(), Broken> {
        let unreadable =
            || Unproven::broken("an offset topic:partition:offset and a numbered value", format!("{record:?}"));
        let offset = record.offset.clone().ok_or_else(unreadable)?;
        let place = place_of(&offset).ok_or_else(unreadable)?;
        let number = super::producers::number_of(&record.payload).ok_or_else(unreadable)?;
        if let Some(held) = self.in_flight.get(&place) {
            if held.number != number {
                self.journal.note(place, Deed::Mistook { number })?;
            }
            return Ok(());
        }
        let args = &self.args;
        let is_poison = args.poison_every > 0 && number % args.poison_every == args.poison_every - 1;
        let drawn = self.rng.u32(0..1000);
        let fate = if is_poison || drawn < args.nacked {
            Fate::Nack
        } else if drawn < args.nacked + args.forgotten {
            Fate::Forget
        } else {
            Fate::Ack
        };
        // Most are done soon, and a few late: acks come in no order.
        let work = Duration::from_millis(args.work).mul_f64(self.rng.f64().powi(3));
        let done = Instant::now() + work;
        self.journal.note(place, Deed::Took { number })?;
        self.in_flight.insert(place, Held { offset, number, done, fate });
        Ok(())
    }

    /// The records of these fates that the vertex is done with, in no order.
    fn done(&mut self, fates: &[Fate]) -> Vec<Place> {
        let now = Instant::now();
        let done = self.in_flight.iter().filter(|(_, held)| held.done <= now && fates.contains(&held.fate));
        let mut places: Vec<Place> = done.map(|(place, _)| *place).collect();
        // The order of the map is another one in every process; the seed's is the same.
        places.sort_unstable();
        self.rng.shuffle(&mut places);
        places
    }

    async fn send_acks(&mut self, connection: &Connection, acker: &mut Acker) -> Result<(), Broken> {
        let places = self.done(&[Fate::Ack, Fate::Acking]);
        let mut rest = &places[..];
        while !rest.is_empty() {
            let (places, later) = rest.split_at(self.rng.usize(1..=ACKS).min(rest.len()));
            rest = later;
            let mut offsets = Vec::new();
            for place in places {
                let Some(held) = self.in_flight.get_mut(place) else { continue };
                if held.fate == Fate::Ack {
                    held.fate = Fate::Acking;
                    self.journal.note(*place, Deed::Acks)?;
                }
                offsets.push(held.offset.clone());
            }
            self.journal.write()?;
            acker.send(offsets).await;
            if self.breaks() {
                self.note(Deed::Broke)?;
                // The answer is lost: the same acks are sent again.
                *acker = Acker::open(connection).await?;
                continue;
            }
            acker.answer().await?;
            for place in places {
                self.in_flight.remove(place);
                self.journal.note(*place, Deed::Acked)?;
            }
        }
        Ok(())
    }

    async fn send_nacks(&mut self, connection: &Connection) -> Result<(), Broken> {
        for place in self.done(&[Fate::Nack]) {
            let Some(held) = self.in_flight.get(&place) else { continue };
            let options = NackOptions {
                reason: Some("chaos".to_owned()),
                delay: Some(self.rng.u64(0..400)),
                ..NackOptions::default()
            };
            let nacked = Nacked { offsets: vec![held.offset.clone()], nack_options: Some(options) };
            nack(connection, vec![nacked]).await?;
            self.in_flight.remove(&place);
            self.journal.note(place, Deed::Nacked)?;
        }
        Ok(())
    }

    fn forget(&mut self) -> io::Result<()> {
        for place in self.done(&[Fate::Forget]) {
            self.in_flight.remove(&place);
            self.journal.note(place, Deed::LetGo)?;
        }
        self.journal.write()
    }
}

/// Asks what the platform's liveness probe asks.
async fn is_ready(connection: &Connection) -> Result<bool, Unproven> {
    let response: ReadyResponse = connection.unary("/source.v1.Source/IsReady", &()).await?;
    Ok(response.ready)
}

/// Reads `topic:partition:offset`.
fn place_of(offset: &Offset) -> Option<Place> {
    let mut parts = str::from_utf8(&offset.offset).ok()?.rsplit(':');
    let at = parts.next()?.parse().ok()?;
    let partition = parts.next()?.parse().ok()?;
    (partition == offset.partition_id).then_some((partition, at))
}

/// Says a line in the driver's log, which is standard error.
fn say(line: &str) {
    crate::program::note(&format!("{} {line}", super::clock::now()));
}
