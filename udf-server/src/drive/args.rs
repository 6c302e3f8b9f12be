//! The command line of `drive`.

use std::fs;
use std::io;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use numaflow_sdk::parse_duration;
use tokio::sync::watch;

use super::{Destination, Faults, Format, Generate, Input, Lines, Platform, ServerAt, Settings, Until};
use crate::error::Failure;

/// What stands for standard input or output.
const STANDARD: &str = "-";

const EXAMPLES: &str = "\
Messages come from a source server, from lines, or are made here. A map in any mode works on them, in any language: unary,
batch or stream, as its server-info file says. With the flags under Trouble the driver is the kind of platform that one
would rather not meet.

100,000 messages through a map, and how fast that was:
  udf-server drive --generate 100000 --map m.sock --map-info m-info
A map in a pipe:
  printf 'a\\nb\\n' | udf-server drive --source - --map m.sock --map-info m-info --out - --dead-letters dead.txt -q
Everything that a source has, with what the map makes of it:
  udf-server drive --source s.sock --map m.sock --map-info m-info --until-idle --out out.jsonl
Whether a source delivers again what a platform that was killed had not acked:
  udf-server drive --source s.sock --kill-after 1000
  udf-server drive --source s.sock --until-idle

Servers that are not there are waited for, as long as --wait says. What a server does against the protocol is told, with what the platform does
about it; where the platform can't go on, the run ends.
Exit codes: 0 all that was read is settled, or the driver vanished as asked; 64 a mistake in the flags; 1 anything else.";

/// Plays the platform for a source and a map: reads, maps, writes, acks, as Numaflow does it on the wire, for containers in
/// any language.
///
/// Messages come from a source server, from lines, or are made here. A map in any mode works on them: unary, batch or
/// stream, as its server-info file says. With the flags under Trouble the driver is the kind of platform that one would
/// rather not meet.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES, group(ArgGroup::new("input").required(true)))]
pub struct DriveArgs {
    /// Where messages come from: the socket of a source server, a file of lines, or - for standard input
    #[arg(long, value_name = "SOCKET|FILE|-", group = "input", help_heading = "Input")]
    source: Option<PathBuf>,
    /// The server-info file of the source server
    #[arg(long, value_name = "FILE", conflicts_with = "generate", help_heading = "Input")]
    source_info: Option<PathBuf>,
    /// Make this many messages, with their numbers as values
    #[arg(long, value_name = "N", group = "input", help_heading = "Input")]
    generate: Option<NonZeroU64>,
    /// How long the values that are made are
    #[arg(long, value_name = "N", default_value = "256", conflicts_with = "source", help_heading = "Input")]
    value_bytes: usize,
    /// How many different keys the messages that are made have, in turn [default: they have none]
    #[arg(long, value_name = "N", conflicts_with = "source", help_heading = "Input")]
    keys: Option<NonZeroU32>,
    /// Read at most this many messages in a second [default: as fast as they are acked]
    #[arg(long, value_name = "N", help_heading = "Input")]
    rate: Option<NonZeroU32>,
    /// Stop when this many distinct messages are acked
    #[arg(long, value_name = "N", conflicts_with = "until_idle", help_heading = "Input")]
    count: Option<u64>,
    /// Stop when the source says that nothing is pending
    #[arg(long, help_heading = "Input")]
    until_idle: bool,

    /// The socket of a map server [default: no map, messages go out as they came in]
    #[arg(long, value_name = "SOCKET", help_heading = "Map")]
    map: Option<PathBuf>,
    /// The server-info file of the map server, which names its mode [default: unary mode]
    #[arg(long, value_name = "FILE", requires = "map", help_heading = "Map")]
    map_info: Option<PathBuf>,

    /// Where outputs go, one a line; - for standard output [default: they are counted and not written]
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    out: Option<PathBuf>,
    /// What a line holds: the value as it is, or a JSON object with id, keys, tags, user metadata and value
    #[arg(long, value_name = "FORMAT", default_value = "value", help_heading = "Output")]
    out_format: OutFormat,
    /// Where outputs tagged dead-letter go; --out - needs it [default: the file of --out with .dead at its end]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    dead_letters: Option<PathBuf>,
    /// Print the summary as one JSON object on standard output, which outputs then can't have
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// Show neither progress nor a summary for people; trouble is told all the same
    #[arg(long, short, help_heading = "Output")]
    pub(super) quiet: bool,

    /// How long a server may keep the driver waiting, for its socket, its info file, a handshake or an answer, and how long it
    /// may go on failing; then the run ends and tells what was tried. off waits for ever, as the platform does
    #[arg(long, value_name = "TIME|off", default_value = "2m", value_parser = wait, help_heading = "Platform")]
    wait: Wait,
    /// Which platform to be: main reconnects and sends again what was in flight when a stream breaks, so that a run shows
    /// how a server comes back; 1.8 nacks what is not acked and exits, as the releases up to 1.8.3 do
    #[arg(long, value_name = "VERSION", default_value = "main", help_heading = "Platform")]
    platform: Version,
    /// How many messages a read asks for
    #[arg(long, value_name = "N", default_value = "500", help_heading = "Platform")]
    batch_size: NonZeroUsize,
    /// How long a read waits for them
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time, help_heading = "Platform")]
    read_timeout: Duration,
    /// How many messages the map is given at a time [default: the batch size]
    #[arg(long, value_name = "N", help_heading = "Platform")]
    concurrency: Option<NonZeroUsize>,
    /// Ack each message by itself, as soon as it is written, and read on meanwhile: a MonoVertex with streaming: true, which
    /// only the platform's main branch has [default: a batch at a time]
    #[arg(long, help_heading = "Platform")]
    streaming_acks: bool,

    /// Vanish when this many messages have come back from the map, or were read where there is none: nothing more is acked,
    /// no stream is closed
    #[arg(long, value_name = "N", help_heading = "Trouble")]
    kill_after: Option<NonZeroU64>,
    /// Leave the map's stream each time that this many messages were answered, and send again what was in flight
    #[arg(long, value_name = "N", requires = "map", help_heading = "Trouble")]
    reconnect_every: Option<NonZeroU64>,
    /// Send every N-th message to the map twice, under the same id
    #[arg(long, value_name = "N", requires = "map", help_heading = "Trouble")]
    duplicate_every: Option<NonZeroU64>,
    /// Nack every N-th message the first time that it comes, as a sink may
    #[arg(long, value_name = "N", help_heading = "Trouble")]
    nack_every: Option<NonZeroU64>,
    /// Leave each answer of the map unread for this long: with large values the map soon finds no room to write
    #[arg(long, value_name = "TIME", value_parser = time, requires = "map", help_heading = "Trouble")]
    slow_reader: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutFormat {
    Value,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    Main,
    #[value(name = "1.8")]
    V1_8,
}

/// A time, or none.
#[derive(Debug, Clone, Copy)]
struct Wait(Option<Duration>);

fn wait(text: &str) -> Result<Wait, &'static str> {
    match text {
        "off" => Ok(Wait(None)),
        _ => parse_duration(text)
            .map(|time| Wait(Some(time)))
            .map_err(|_| "give a time with its unit, such as 500ms, 25s or 2m, or off"),
    }
}

/// Parses a flag's time.
pub(crate) fn time(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).map_err(|_| "give a time with its unit, such as 500ms, 25s or 2m")
}

impl DriveArgs {
    pub(super) fn until(&self) -> Until {
        match self.count {
            Some(count) => Until::Resolved(count),
            None if self.until_idle => Until::Idle,
            None => Until::Told,
        }
    }

    pub(super) fn settings(&self, until: watch::Receiver<Until>) -> Result<Settings, Failure> {
        if self.json && self.writes_to_stdout() {
            let problem =
                "--json: its summary would be among the outputs, which go to standard output too; take --out FILE";
            return Err(Failure::configuration(problem));
        }
        if self.streaming_acks && self.platform == Version::V1_8 {
            let problem = "--streaming-acks: platform 1.8 acks batches; take it together with --platform main";
            return Err(Failure::configuration(problem));
        }
        let mut settings = Settings::new(self.input()?, until);
        settings.map = self.map.as_ref().map(|socket| ServerAt { socket: socket.clone(), info: self.map_info.clone() });
        settings.out = self.out.as_ref().map(|out| match is_standard(out) {
            true => Destination::Stdout,
            false => Destination::File(out.clone()),
        });
        settings.format = match self.out_format {
            OutFormat::Value => Format::Value,
            OutFormat::Json => Format::Json,
        };
        settings.dead_letters = self.dead_letters.clone();
        settings.wait = self.wait.0;
        settings.batch_size = self.batch_size.get();
        settings.read_timeout = self.read_timeout;
        settings.concurrency = self.concurrency.unwrap_or(self.batch_size).get();
        settings.streaming_acks = self.streaming_acks;
        settings.rate = self.rate;
        settings.platform = match self.platform {
            Version::Main => Platform::Main,
            Version::V1_8 => Platform::V1_8,
        };
        settings.faults = Faults {
            kill_after: self.kill_after,
            reconnect_every: self.reconnect_every,
            duplicate_every: self.duplicate_every,
            nack_every: self.nack_every,
            answer_pause: self.slow_reader.unwrap_or_default(),
        };
        Ok(settings)
    }

    pub(super) fn writes_to_stdout(&self) -> bool {
        self.out.as_deref().is_some_and(is_standard)
    }

    fn input(&self) -> Result<Input, Failure> {
        match (&self.source, self.generate) {
            (Some(source), _) => self.source(source),
            (None, Some(count)) => {
                Ok(Input::Generate(Generate { count, value_bytes: self.value_bytes, keys: self.keys }))
            }
            // The group asks for one of them.
            (None, None) => Err(Failure::configuration("give --source or --generate")),
        }
    }

    /// What `--source` names. A socket that isn't there yet is told from a mistyped file by its name or its info file.
    fn source(&self, source: &Path) -> Result<Input, Failure> {
        let server = || Input::Server(ServerAt { socket: source.to_owned(), info: self.source_info.clone() });
        if !is_standard(source) {
            match fs::metadata(source) {
                Ok(metadata) if metadata.file_type().is_socket() => return Ok(server()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.source_info.is_some() || source.extension().is_some_and(|name| name == "sock") {
                        return Ok(server());
                    }
                    return Err(Failure::configuration(format!(
                        "--source {}: there is no such file or socket; to wait for a socket, give it a name that ends \
                         in .sock",
                        source.display()
                    )));
                }
                Ok(_) | Err(_) => {}
            }
        }
        if self.source_info.is_some() {
            return Err(Failure::configuration(format!(
                "--source-info is for source servers, and --source {} is not a socket",
                source.display()
            )));
        }
        Ok(Input::Lines(match is_standard(source) {
            true => Lines::Stdin,
            false => Lines::File(source.to_owned()),
        }))
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD
}
