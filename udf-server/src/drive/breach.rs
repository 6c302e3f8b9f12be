//! What a server does against the protocol, where the platform goes on.
//!
//! What the platform can't go on after ends the run, as [`DriveError::Server`](super::DriveError::Server).

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Platform;

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Breach {
    /// The map answered an id that was not waiting for an answer.
    UnknownId,
    /// The map ended a batch before each of its messages was answered.
    PartialBatch,
    /// The map put outputs into an EOT.
    OutputsInEot,
    /// The map ended its stream with OK.
    MapEnded,
    /// The source ended its read stream with OK.
    ReadEnded,
    /// The source delivered more messages than the read asked for.
    TooMany,
}

impl Breach {
    /// What the platform does about it.
    #[must_use]
    pub const fn consequence(self, platform: Platform) -> &'static str {
        match (self, platform) {
            (Self::UnknownId, _) => "logs it and ignores it",
            (Self::PartialBatch, Platform::Main) => "drops the stream and sends the whole batch again, for ever",
            (Self::OutputsInEot, _) => "loses these outputs",
            (Self::MapEnded, Platform::Main) => {
                "takes it for a failure, reconnects, and sends again what was in flight"
            }
            (Self::PartialBatch | Self::MapEnded, Platform::V1_8) => "nacks what is not acked and exits",
            (Self::ReadEnded, _) => "does not reconnect: its reads come back empty until sending one fails",
            (Self::TooMany, _) => "takes them all",
        }
    }

    const fn rule(self) -> &'static str {
        match self {
            Self::UnknownId => "the map answered an id that no message waits under",
            Self::PartialBatch => "the map ended a batch before each of its messages was answered",
            Self::OutputsInEot => "the map put outputs into an EOT",
            Self::MapEnded => "the map ended its stream with OK while the platform had it open",
            Self::ReadEnded => "the source ended its read stream with OK while the platform had it open",
            Self::TooMany => "the source delivered more messages than it was asked for",
        }
    }
}

/// What the server did, without what came of it.
impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

/// How often a rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Breached {
    /// The rule.
    pub breach: Breach,
    /// How often.
    pub times: u64,
    /// What happened the first time.
    pub first: String,
    /// What the platform does about it.
    pub platform: &'static str,
}

impl fmt::Display for Breached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { breach, first, platform, .. } = self;
        write!(f, "protocol broken: {breach} ({first}). The platform {platform}")
    }
}

/// All that were broken in a run.
#[derive(Debug, Default)]
pub(super) struct Breaches(BTreeMap<Breach, Breached>);

impl Breaches {
    /// Counts one, and returns it where it is the first of its kind.
    pub(super) fn add(
        &mut self,
        breach: Breach,
        platform: Platform,
        what: impl FnOnce() -> String,
    ) -> Option<&Breached> {
        let mut first = false;
        let breached = self.0.entry(breach).or_insert_with(|| {
            first = true;
            Breached { breach, times: 0, first: what(), platform: breach.consequence(platform) }
        });
        breached.times += 1;
        first.then_some(breached)
    }

    pub(super) fn all(&self) -> Vec<Breached> {
        self.0.values().cloned().collect()
    }
}
