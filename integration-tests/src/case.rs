//! What a case is, what it is run against, and how it fails.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

/// No case takes longer, whatever the server does. Longer than any single wait in one, so that the wait is named.
const DEADLINE: Duration = Duration::from_secs(10);

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

pub(crate) type Recipe = for<'a> fn(&'a Target) -> Running<'a>;
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

impl Case {
    /// Whether the case is for servers of this kind.
    #[must_use]
    pub fn applies_to(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Runs the case against a server.
    ///
    /// # Errors
    ///
    /// When the server does not keep the rule, does not answer in time, or is not there.
    pub async fn run(&self, target: &Target) -> Result<(), Failure> {
        tokio::time::timeout(DEADLINE, (self.recipe)(target))
            .await
            .unwrap_or_else(|_| Err(Failure::new("the case to come to its end", format!("no end within {DEADLINE:?}"))))
    }
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
        f.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        })
    }
}

/// What a server does for the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `map.v1.Map` in unary mode.
    UnaryMap,
    /// `source.v1.Source`.
    Source,
}

impl Kind {
    /// The gRPC service, as it stands in paths.
    pub(crate) const fn service(self) -> &'static str {
        match self {
            Self::UnaryMap => "map.v1.Map",
            Self::Source => "source.v1.Source",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnaryMap => "map-unary",
            Self::Source => "source",
        })
    }
}

/// The server under test.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// What it serves.
    pub kind: Kind,
    /// The Unix socket it listens on.
    pub socket: PathBuf,
    /// The server-info file it has written.
    pub server_info: PathBuf,
}

impl Target {
    /// Creates a target.
    #[must_use]
    pub fn new(kind: Kind, socket: impl Into<PathBuf>, server_info: impl Into<PathBuf>) -> Self {
        Self { kind, socket: socket.into(), server_info: server_info.into() }
    }
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What the rule asks for.
    pub expected: String,
    /// What there was instead.
    pub came: String,
}

impl Failure {
    pub(crate) fn new(expected: impl Into<String>, came: impl Into<String>) -> Self {
        Self { expected: expected.into(), came: came.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}; came {}", self.expected, self.came)
    }
}

impl std::error::Error for Failure {}

/// Fails unless `holds`; `came` tells what there was.
pub(crate) fn check(holds: bool, expected: &str, came: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new(expected, came())) }
}
