//! What a case is, and how it is played.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::outcome::{Report, Unproven};
use crate::server::Launcher;
use crate::target::{Subject, Target};

/// No case against a server that runs takes longer, whatever the server does. Longer than any single wait in one, so that
/// the wait is named.
const SERVER_DEADLINE: Duration = Duration::from_secs(30);
/// The same for a case that starts servers, and may wait for one to end for as long as a pod is given.
const PROCESS_DEADLINE: Duration = Duration::from_secs(90);

/// One rule of the protocol and the recipe that tells whether a server keeps it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// The name that results, gap lists and other documents know the case by; it never changes.
    pub id: &'static str,
    /// What it means when the case fails.
    pub level: Level,
    /// The section of the protocol that has the rule, by number and title.
    pub section: &'static str,
    /// The rule, in one sentence.
    pub sentence: &'static str,
    /// The kinds of server that the rule is for.
    pub kinds: &'static [Kind],
    pub(crate) recipe: Recipe,
}

/// How a case is played.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recipe {
    /// Against a server that runs.
    Server(for<'a> fn(&'a Target) -> Playing<'a>),
    /// With servers that the case starts, stops and kills by itself.
    Process(for<'a> fn(&'a Launcher) -> Playing<'a>),
}

pub(crate) type Playing<'a> = Pin<Box<dyn Future<Output = Result<(), Unproven>> + Send + 'a>>;

impl Case {
    /// Whether the case is for servers of this kind.
    #[must_use]
    pub fn applies_to(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether the case starts the server itself, so that it can't be played against one that somebody else has started.
    #[must_use]
    pub fn needs_a_command(&self) -> bool {
        matches!(self.recipe, Recipe::Process(_))
    }

    /// Plays the case.
    ///
    /// It ends by its own deadline whatever the server does: 30 s, and for a case that starts and ends servers 90 s. What
    /// it started is killed by then, also when the future is dropped.
    pub async fn play(&'static self, subject: &Subject) -> Report {
        let started = Instant::now();
        let kind = subject.kind();
        let report = |outcome, frames, log| Report {
            case: self,
            kind,
            outcome: self.as_the_contract_allows(outcome),
            frames,
            log,
            took: started.elapsed(),
        };
        match subject {
            Subject::Running(target) => {
                // Another case's frames are none of this one's.
                let target = Target::new(kind, &target.socket, &target.server_info);
                let outcome = match self.recipe {
                    Recipe::Server(recipe) => by(SERVER_DEADLINE, recipe(&target)).await,
                    Recipe::Process(_) => Err(Unproven::NotRun("it starts the server itself: see --exec".to_owned())),
                };
                report(outcome, target.transcript.frames(), String::new())
            }
            Subject::Command { command, .. } => match Launcher::new(kind, command) {
                Ok(launcher) => {
                    let outcome = match self.recipe {
                        Recipe::Server(recipe) => with_server(&launcher, recipe).await,
                        Recipe::Process(recipe) => by(PROCESS_DEADLINE, recipe(&launcher)).await,
                    };
                    report(outcome, launcher.target().transcript.frames(), launcher.log())
                }
                Err(error) => {
                    let outcome = Err(Unproven::broken("a folder for the server's files", error.to_string()));
                    report(outcome, Vec::new(), String::new())
                }
            },
        }
    }
}

impl Case {
    /// A part that every SDK has the means for is not one that a server may leave out.
    fn as_the_contract_allows(&self, outcome: Result<(), Unproven>) -> Result<(), Unproven> {
        match outcome {
            Err(Unproven::NotOffered(part)) if !self.is_optional() => {
                Err(Unproven::broken("what the handler contract has for every SDK", format!("not offered: {part}")))
            }
            outcome => outcome,
        }
    }
}

async fn with_server(launcher: &Launcher, recipe: for<'a> fn(&'a Target) -> Playing<'a>) -> Result<(), Unproven> {
    let server = launcher.start().await?;
    let outcome = by(SERVER_DEADLINE, recipe(&server.target)).await;
    server.kill().await;
    outcome
}

async fn by(deadline: Duration, playing: Playing<'_>) -> Result<(), Unproven> {
    timeout(deadline, playing)
        .await
        .unwrap_or_else(|_| Err(Unproven::broken("the case to come to its end", format!("no end within {deadline:?}"))))
}

/// How binding a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A server that breaks the rule does not work with the platform.
    Must,
    /// A server that breaks the rule works, and is worse for it.
    Should,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        })
    }
}

/// What a server does for the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `map.v1.Map` in unary mode.
    UnaryMap,
    /// `map.v1.Map` in batch mode.
    BatchMap,
    /// `map.v1.Map` in stream mode.
    StreamMap,
    /// `source.v1.Source`.
    Source,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[Self::UnaryMap, Self::BatchMap, Self::StreamMap, Self::Source];
    /// The three modes of a map.
    pub(crate) const MAPS: &[Self] = &[Self::UnaryMap, Self::BatchMap, Self::StreamMap];

    /// The gRPC service, as it stands in paths.
    pub(crate) const fn service(self) -> &'static str {
        match self {
            Self::UnaryMap | Self::BatchMap | Self::StreamMap => "map.v1.Map",
            Self::Source => "source.v1.Source",
        }
    }

    /// What the platform calls the container.
    pub(crate) const fn container_type(self) -> &'static str {
        match self {
            Self::UnaryMap | Self::BatchMap | Self::StreamMap => "udf",
            Self::Source => "udsource",
        }
    }

    /// The socket that the platform dials.
    pub(crate) const fn default_socket(self) -> &'static str {
        match self {
            Self::UnaryMap => "/var/run/numaflow/map.sock",
            Self::BatchMap => "/var/run/numaflow/batchmap.sock",
            Self::StreamMap => "/var/run/numaflow/mapstream.sock",
            Self::Source => "/var/run/numaflow/source.sock",
        }
    }

    /// The server-info file that the platform reads.
    pub(crate) const fn default_server_info(self) -> &'static str {
        match self {
            Self::UnaryMap | Self::BatchMap | Self::StreamMap => "/var/run/numaflow/mapper-server-info",
            Self::Source => "/var/run/numaflow/sourcer-server-info",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UnaryMap => "map-unary",
            Self::BatchMap => "map-batch",
            Self::StreamMap => "map-stream",
            Self::Source => "source",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let kind = Self::ALL.iter().find(|kind| kind.to_string() == name);
        kind.copied().ok_or_else(|| format!("{name:?} is no kind of server; there are {}", known()))
    }
}
