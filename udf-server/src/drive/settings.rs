//! What a run is to do.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use super::dial::ServerAt;
use super::generator::Generate;
use super::lines::Lines;
use super::output::{Destination, Format};

/// What a run is to do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Where messages come from.
    pub input: Input,
    /// The map, in the mode that its server-info names; without one, messages go out as they came in.
    pub map: Option<ServerAt>,
    /// Where outputs go, one a line; `None` counts them and writes none.
    pub out: Option<Destination>,
    /// Where outputs tagged `dead-letter` go; beside `out` with `.dead` at the end of its name, where that is a file.
    pub dead_letters: Option<PathBuf>,
    /// What is written of an output.
    pub format: Format,
    /// How many messages a read asks for. 500 as on the platform.
    pub batch_size: usize,
    /// How long a read waits for them. 1 s as on the platform.
    pub read_timeout: Duration,
    /// How many messages the map is given at a time. The batch size as on the platform. In batch mode it is given all that
    /// a read has come back with.
    pub concurrency: usize,
    /// Whether each message is acked by itself, as soon as it is written, while others are read: a MonoVertex with
    /// `streaming: true`. Otherwise a batch is acked as a whole before the next is read. In flight are then as many messages
    /// as the concurrency allows, and one batch that waits for room.
    pub streaming_acks: bool,
    /// The most messages read in a second; `None` takes them as they come.
    pub rate: Option<NonZeroU32>,
    /// Which platform is played.
    pub platform: Platform,
    /// What is to go wrong.
    pub faults: Faults,
    /// How long a server may keep the driver waiting, for its socket, its server-info file, a handshake or an answer, and how
    /// long it may go on failing, before the run ends with what was tried. `None` waits for ever, as the platform does.
    pub wait: Option<Duration>,
    /// When to stop; its sender can change that while the run is on.
    pub until: watch::Receiver<Until>,
    /// How long the batch in flight may take after [`Until::Now`]. 20 s as on the platform.
    pub grace: Duration,
    /// How often what is tried again. As on the platform.
    pub pauses: Pauses,
}

impl Settings {
    /// Creates settings with the platform's defaults: no map, no output, until `until` says so.
    #[must_use]
    pub fn new(input: Input, until: watch::Receiver<Until>) -> Self {
        Self {
            input,
            map: None,
            out: None,
            dead_letters: None,
            format: Format::Value,
            batch_size: 500,
            read_timeout: Duration::from_secs(1),
            concurrency: 500,
            streaming_acks: false,
            rate: None,
            platform: Platform::Main,
            faults: Faults::default(),
            wait: None,
            until,
            grace: Duration::from_secs(20),
            pauses: Pauses::default(),
        }
    }
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A source server.
    Server(ServerAt),
    /// Lines, one message each.
    Lines(Lines),
    /// Numbered messages, made by the driver.
    Generate(Generate),
}

/// A generation of the platform: they differ in what they do when a stream breaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Platform {
    /// From its `main` branch on: reconnects, and sends again what was in flight. The default, because a run goes on and
    /// shows more of a server that fails.
    #[default]
    Main,
    /// Up to 1.8.3: nacks what is not acked and exits, for Kubernetes to start it again. Results with the FAIL tag go out
    /// like any other.
    V1_8,
}

/// What is to go wrong, on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// The driver vanishes once this many messages have come back from the map, or were read where there is none: no
    /// stream is closed, nothing more is acked.
    pub kill_after: Option<NonZeroU64>,
    /// The driver leaves the map's stream and opens another each time this many messages were answered; those that were
    /// sent again do not count, so that every message gets through.
    pub reconnect_every: Option<NonZeroU64>,
    /// Every so many-th message is sent to the map twice, under the same id.
    pub duplicate_every: Option<NonZeroU64>,
    /// Every so many-th message is nacked, the first time that it comes.
    pub nack_every: Option<NonZeroU64>,
    /// How long each answer of the map is left unread.
    pub answer_pause: Duration,
}

/// When a run stops. Lines and generated messages also end with their input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// When told so: not before this is changed.
    Told,
    /// When the source says that nothing is pending, after a read that came back empty.
    Idle,
    /// When this many distinct messages are resolved and acked, those that were before this was set included.
    Resolved(u64),
    /// Now, but for the batch in flight.
    Now,
}

/// How long the driver waits before it tries something again, and between regular questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pauses {
    /// Between two attempts to connect.
    pub dial: Duration,
    /// Before messages are sent to a map for the third time and more often; the second time is at once.
    pub redrive: Duration,
    /// Before acks are sent again.
    pub ack: Duration,
    /// Before nacks are sent again.
    pub nack: Duration,
    /// Between two questions for pending messages.
    pub pending: Duration,
    /// Between two questions for partitions.
    pub partitions: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(1),
            redrive: Duration::from_secs(1),
            ack: Duration::from_millis(100),
            nack: Duration::from_millis(100),
            pending: Duration::from_secs(5),
            partitions: Duration::from_secs(10),
        }
    }
}
