//! How a case ends.

use std::fmt;
use std::time::Duration;

use crate::wire::Frame;
use crate::{Case, Kind};

/// Why a case has not shown that its rule is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unproven {
    /// The rule is broken.
    Broken {
        /// What the rule asks for.
        expected: String,
        /// What there was instead.
        came: String,
    },
    /// The server says that it has no means for this part of the handler contract.
    NotOffered(String),
    /// The case can't be played here, for the reason given: it needs to start the server itself, or something of the
    /// machine.
    NotRun(String),
    /// The run was over, after so long, before the case was.
    CutOff(Duration),
}

impl Unproven {
    pub(crate) fn broken(expected: impl Into<String>, came: impl Into<String>) -> Self {
        Self::Broken { expected: expected.into(), came: came.into() }
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { expected, came } => write!(f, "expected {expected}; came {came}"),
            Self::NotOffered(part) => write!(f, "not offered: {part}"),
            Self::NotRun(reason) => write!(f, "not run: {reason}"),
            Self::CutOff(deadline) => {
                write!(f, "cut off: the run was over after {deadline:?}; --deadline gives it longer")
            }
        }
    }
}

impl std::error::Error for Unproven {}

/// Fails unless `holds`; `came` tells what there was.
pub(crate) fn check(holds: bool, expected: &str, came: impl FnOnce() -> String) -> Result<(), Unproven> {
    if holds { Ok(()) } else { Err(Unproven::broken(expected, came())) }
}

/// A case that was played, or was to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The case.
    pub case: &'static Case,
    /// The kind of server it was played against.
    pub kind: Kind,
    /// Whether the server keeps the rule.
    pub outcome: Result<(), Unproven>,
    /// What went over the socket, oldest first; where that was very much, the beginning and the end of it.
    pub frames: Vec<Frame>,
    /// The end of what the server printed, if the suite started it.
    pub log: String,
    /// How long the case took, with the start of the server.
    pub took: Duration,
}

impl Report {
    /// Whether the rule is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.outcome, Err(Unproven::Broken { .. }))
    }
}
