//! Why a run failed.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use numaflow_sdk::ServeError;
use numaflow_sdk::testing::{ClientError, InfoError, MOST_OUTPUTS, MapMode};

/// Why a run failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum DriveError {
    /// An input or output can't be opened.
    Open {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// An output is the file that is read.
    SameFile {
        /// The input's name.
        input: String,
        /// The output's name.
        output: String,
    },
    /// Outputs and dead letters would go to the same file.
    SameOutput {
        /// The outputs' name.
        out: String,
        /// The dead letters' name.
        dead_letters: String,
    },
    /// Outputs go to standard output, and dead letters nowhere.
    NoDeadLetters,
    /// A socket's path is too long.
    Socket(ServeError),
    /// A server has kept the driver waiting for too long.
    GaveUp {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// What came of the last attempt.
        last: Option<String>,
        /// What to do.
        advice: &'static str,
    },
    /// The input can't be read.
    Input {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// An output can't be written.
    Output {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// A server broke the protocol.
    Server {
        /// Its socket.
        socket: PathBuf,
        /// What it did.
        error: ClientError,
    },
    /// A map has answered a message with more outputs than are kept in memory.
    TooManyOutputs {
        /// The id of the message.
        id: String,
    },
    /// A server-info file is not valid.
    Info(InfoError),
    /// A map came back in another mode.
    MapMode {
        /// Its socket.
        socket: PathBuf,
        /// The mode that it was served in.
        was: MapMode,
        /// The mode that it is served in now.
        is: MapMode,
    },
    /// The platform that is played exits at this, and so does the driver: a run that ends so has a report, with
    /// [`Ended::Exited`](super::Ended::Exited).
    Exits {
        /// What failed.
        what: &'static str,
        /// How.
        problem: String,
    },
    /// The task that owns the source's client is gone.
    SourceTaskLost,
    /// The run was stopped before it reached its servers.
    NotReached,
    /// The input ended too early.
    TooFew {
        /// How many distinct messages were acked.
        resolved: u64,
        /// How many there should have been.
        wanted: u64,
    },
    /// The program can't be set up.
    SetUp {
        /// What the system says.
        source: io::Error,
    },
    /// The run was stopped before its last batch was complete.
    Unresolved {
        /// How many messages were read and not acked.
        messages: u64,
    },
}

impl DriveError {
    /// Whether the mistake is in what was asked for.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Open { .. } | Self::SameFile { .. } | Self::SameOutput { .. } | Self::NoDeadLetters | Self::Socket(_)
        )
    }
}

impl DriveError {
    /// Whether the reader of the outputs closed the pipe. This is no failure: a message whose output was not written is not
    /// acked.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for DriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { name, .. } => write!(f, "{name} cannot be opened"),
            Self::SameFile { input, output } => {
                write!(f, "the output {output} is the same file as the input {input}: name another for the output")
            }
            Self::SameOutput { out, dead_letters } => write!(
                f,
                "the outputs ({out}) and the dead letters ({dead_letters}) would go to the same file: name another for the \
                 dead letters"
            ),
            Self::NoDeadLetters => f.write_str(
                "outputs go to standard output, and outputs tagged dead-letter would go nowhere: give --dead-letters FILE, or \
                 /dev/null to throw them away",
            ),
            Self::Socket(_) => f.write_str("a server cannot be reached"),
            Self::GaveUp { what, waited, last, advice } => {
                let last = last.as_ref().map(|last| format!(" ({last})")).unwrap_or_default();
                write!(
                    f,
                    "gave up after {} s of waiting for {what}{last}: {advice}. --wait gives it more time",
                    waited.as_secs_f64()
                )
            }
            Self::Input { name, .. } => write!(f, "{name} cannot be read"),
            Self::Output { name, .. } => write!(f, "{name} cannot be written"),
            Self::Server { socket, .. } => write!(f, "the server on {} cannot be driven", socket.display()),
            Self::TooManyOutputs { id } => write!(
                f,
                "the map has answered the message {id} with more than {MOST_OUTPUTS} outputs, and drive keeps all outputs of a \
                 message in memory until it is answered whole"
            ),
            Self::Info(_) => f.write_str("a server cannot be driven"),
            Self::MapMode { socket, was, is } => {
                write!(f, "the map on {} was served as {was}, and is now as {is}: start drive again", socket.display())
            }
            Self::Exits { what, problem } => write!(
                f,
                "{what} failed, at which platform 1.8 nacks what is not acked and exits (--platform main goes on): {problem}"
            ),
            Self::SourceTaskLost => f.write_str("the task that talks to the source ended"),
            Self::NotReached => f.write_str("stopped before the servers were reached: nothing was read or written"),
            Self::TooFew { resolved, wanted } => {
                write!(f, "the input ended after {resolved} messages, and --count asks for {wanted}")
            }
            Self::SetUp { .. } => f.write_str("drive cannot be started"),
            Self::Unresolved { messages } => {
                write!(f, "stopped with {messages} messages read and not acked; the source still has them")
            }
        }
    }
}

impl Error for DriveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Open { source, .. }
            | Self::Input { source, .. }
            | Self::Output { source, .. }
            | Self::SetUp { source } => Some(source),
            Self::Server { error, .. } => Some(error),
            Self::Info(error) => Some(error),
            Self::Socket(error) => Some(error),
            Self::SameFile { .. }
            | Self::SameOutput { .. }
            | Self::NoDeadLetters
            | Self::GaveUp { .. }
            | Self::TooManyOutputs { .. }
            | Self::MapMode { .. }
            | Self::Exits { .. }
            | Self::SourceTaskLost
            | Self::NotReached
            | Self::TooFew { .. }
            | Self::Unresolved { .. } => None,
        }
    }
}
