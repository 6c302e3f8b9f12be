//! The servers that are compared. Each runs in a process of its own, started by this same program.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::Ordering::Relaxed;

use clap::{Args, ValueEnum};
use numaflow_sdk::MapMode;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;
use crate::handler::Handler;
use crate::measure::Used;

mod bare;
mod h2_echo;
mod kafka;
mod ours;
mod published;
mod published_kafka;
mod tonic_echo;
mod tonic_source;

/// Tokio takes the number of a runtime's workers from here, whoever makes the runtime.
pub(crate) const WORKERS: &str = "TOKIO_WORKER_THREADS";

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// numaflow-sdk, through its public API, with everything on that is on by default
    Ours,
    /// the crate numaflow 0.6.0
    Published,
    /// a tonic server that answers with the stream it was sent, mapped
    Tonic,
    /// an echo on the crate h2 alone: what HTTP/2 itself costs (maps only)
    H2,
    /// no server at all: the handler's work, in a loop
    #[value(hide = true)]
    Bare,
}

/// How a server is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Setting {
    /// two worker threads; windows of 1 MiB a stream and 16 MiB a connection and frames of 32 KiB where they can be set
    Equal,
    /// what each peer does on its own
    Default,
}

/// How messages reach a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One by one.
    Unary,
    /// In batches, each with an end that is answered after all its messages.
    Batch,
}

/// What a peer serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    Map,
    BatchMap,
    Source,
    /// A source of what is in Kafka.
    Kafka,
}

/// What a source of Kafka's records reads. In an argument: all three, with commas between.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    /// `host:port` of the broker.
    pub(crate) broker: String,
    pub(crate) topic: String,
    /// The consumer group, which has committed nothing yet.
    pub(crate) group: String,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, topic, group } = self;
        write!(f, "{broker},{topic},{group}")
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(',').collect::<Vec<_>>()[..] {
            [broker, topic, group] => {
                Ok(Self { broker: broker.to_owned(), topic: topic.to_owned(), group: group.to_owned() })
            }
            _ => Err("is not BROKER,TOPIC,GROUP".to_owned()),
        }
    }
}

/// The windows of [`Setting::Equal`]: those that `numaflow-sdk` has.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest frame that a client may send, which ours sets by itself.
const FRAME: u32 = 32 << 10;
/// The worker threads of [`Setting::Equal`].
const EQUAL_WORKERS: usize = 2;
/// The largest message, as the SDKs have it: tonic's own limit is 4 MiB.
const MAX_MESSAGE: usize = 64 << 20;

impl Peer {
    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        value_name(self)
    }
}

impl Setting {
    pub(crate) fn name(self) -> String {
        value_name(self)
    }
}

fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A server as it is to be: the socket and the info file are the process's own.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) peer: Peer,
    pub(crate) service: Service,
    pub(crate) setting: Setting,
    pub(crate) handler: Handler,
    /// The worker threads of its runtime; `None` for what tokio chooses, one a core.
    pub(crate) workers: Option<usize>,
    /// The cores it may use, counted from the first; `None` for all.
    pub(crate) cores: Option<usize>,
    /// The size of a source's values, in bytes.
    pub(crate) value_size: usize,
    /// How many messages it works on at once, where there is no client that would decide that.
    pub(crate) in_flight: usize,
    /// What it reads, where that is Kafka's.
    pub(crate) topic: Option<Topic>,
    /// The program that serves it; `None` for this one.
    pub(crate) program: Option<PathBuf>,
}

impl Spec {
    /// A peer with the identity map.
    pub(crate) fn new(peer: Peer, setting: Setting) -> Self {
        let workers = match setting {
            Setting::Equal => Some(EQUAL_WORKERS),
            Setting::Default => None,
        };
        let handler = Handler::Identity;
        Self {
            peer,
            service: Service::Map,
            setting,
            handler,
            workers,
            cores: None,
            value_size: 0,
            in_flight: 0,
            topic: None,
            program: None,
        }
    }

    /// The arguments of the process that serves it.
    pub(crate) fn to_arguments(&self, socket: &Path, info: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["serve".into(), self.peer.name().into()];
        let mut add = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        add("--service", value_name(self.service).into());
        add("--setting", self.setting.name().into());
        add("--handler", self.handler.to_string().into());
        add("--value-size", self.value_size.to_string().into());
        add("--in-flight", self.in_flight.to_string().into());
        add("--socket", socket.into());
        add("--info", info.into());
        if let Some(cores) = self.cores {
            add("--cores", cores.to_string().into());
        }
        if let Some(topic) = &self.topic {
            add("--topic", topic.to_string().into());
        }
        arguments
    }
}

/// What a server's process is told.
#[derive(Debug, Args)]
pub(crate) struct Serving {
    peer: Peer,
    #[arg(long)]
    service: Service,
    #[arg(long)]
    setting: Setting,
    #[arg(long)]
    handler: Handler,
    #[arg(long)]
    value_size: usize,
    #[arg(long)]
    in_flight: usize,
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    info: PathBuf,
    #[arg(long)]
    cores: Option<usize>,
    #[arg(long)]
    topic: Option<Topic>,
}

impl Serving {
    /// What a source of Kafka's records reads.
    fn topic(&self) -> Outcome<&Topic> {
        Ok(self.topic.as_ref().ok_or("a source of Kafka's records needs --topic")?)
    }
}

/// Serves until the process that started this one ends or has enough.
pub(crate) fn run(serving: Serving) -> Outcome<()> {
    if let Some(cores) = serving.cores {
        keep_to(cores)?;
    }
    std::thread::Builder::new().name("control".to_owned()).spawn(answer_questions)?;
    match (serving.peer, serving.service) {
        (Peer::Ours, Service::Map) => ours::map(serving, MapMode::Unary),
        (Peer::Ours, Service::BatchMap) => ours::map(serving, MapMode::Batch),
        (Peer::Ours, Service::Source) => ours::source(serving),
        (Peer::Ours, Service::Kafka) => kafka::source(serving),
        (Peer::Published, Service::Map) => block_on(published::map(serving)),
        (Peer::Published, Service::BatchMap) => block_on(published::batch_map(serving)),
        (Peer::Published, Service::Source) => block_on(published::source(serving)),
        (Peer::Published, Service::Kafka) => block_on(published_kafka::source(serving)),
        // Their answers leave in order, and so a batch's end is answered last.
        (Peer::Tonic, Service::Map | Service::BatchMap) => block_on(tonic_echo::serve(serving)),
        (Peer::Tonic, Service::Source) => block_on(tonic_source::serve(serving)),
        (Peer::H2, Service::Map | Service::BatchMap) => block_on(h2_echo::serve(serving)),
        (Peer::Bare, Service::Map) => bare::run(&serving),
        (peer, service) => Err(format!("{} has no {}", peer.name(), value_name(service)).into()),
    }
}

/// Keeps this process to the first cores of those it may use.
fn keep_to(cores: usize) -> Outcome<()> {
    let allowed = sched_getaffinity(None)?;
    let mut chosen = CpuSet::new();
    let available = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    for core in available.take(cores) {
        chosen.set(core);
    }
    if chosen.count() as usize != cores {
        return Err(format!("{cores} cores are wanted, and there are {}", allowed.count()).into());
    }
    Ok(sched_setaffinity(None, &chosen)?)
}

/// Answers every line of standard input with what this process has used, and ends the process at its end, which is there
/// when the parent is gone, however it went.
#[expect(clippy::exit, reason = "nothing of this process is worth waiting for once its parent is gone")]
fn answer_questions() {
    for line in std::io::stdin().lock().lines() {
        let Ok(used) = Used::by_this_process(bare::DONE.load(Relaxed)) else { break };
        if line.is_err() || writeln!(std::io::stdout(), "{}", used.to_line()).is_err() {
            break;
        }
    }
    std::process::exit(0);
}

/// Runs a server on the runtime that `#[tokio::main]` would make.
fn block_on(server: impl Future<Output = Outcome<()>>) -> Outcome<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(server)
}

/// The generated records, as far as all sources make them alike.
mod records {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    pub(super) const KEY: &str = "key";

    /// Counts the records of a source: a record's offset is its number.
    #[derive(Debug, Default)]
    pub(super) struct Numbers(AtomicU64);

    impl Numbers {
        /// The offset of the next record.
        pub(super) fn next(&self) -> [u8; 8] {
            self.0.fetch_add(1, Relaxed).to_be_bytes()
        }
    }
}
