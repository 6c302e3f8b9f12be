//! What a report means for the run, given what is known already.

use crate::gaps::Gap;
use crate::{Level, Report, Unproven};

/// Where a case stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The rule is kept.
    Kept,
    /// A MUST is broken.
    Broken,
    /// A SHOULD is broken.
    Worse,
    /// The rule is broken, as is known.
    KnownGap,
    /// The rule is kept, and the list of gaps says it is not.
    NoGapAnyMore,
    NotOffered,
    NotRun,
    /// The run was over before the case was.
    CutOff,
}

impl Standing {
    pub(crate) fn of(report: &Report, gap: Option<&Gap>) -> Self {
        match (&report.outcome, gap) {
            (Ok(()), Some(gap)) if !gap.sometimes => Self::NoGapAnyMore,
            (Ok(()), _) => Self::Kept,
            (Err(Unproven::Broken { .. }), Some(_)) => Self::KnownGap,
            (Err(Unproven::Broken { .. }), None) if report.case.level == Level::Must => Self::Broken,
            (Err(Unproven::Broken { .. }), None) => Self::Worse,
            (Err(Unproven::NotOffered(_)), Some(gap)) if !gap.sometimes => Self::NoGapAnyMore,
            (Err(Unproven::NotOffered(_)), _) => Self::NotOffered,
            (Err(Unproven::NotRun(_)), _) => Self::NotRun,
            (Err(Unproven::CutOff(_)), _) => Self::CutOff,
        }
    }

    /// Whether the run fails for it.
    pub(crate) fn fails(self, strict: bool) -> bool {
        match self {
            Self::Broken | Self::NoGapAnyMore | Self::CutOff => true,
            Self::Worse | Self::NotOffered | Self::NotRun => strict,
            Self::Kept | Self::KnownGap => false,
        }
    }

    /// Whether it is other than what is known of the server.
    pub(crate) fn is_news(self) -> bool {
        matches!(self, Self::Broken | Self::Worse | Self::NoGapAnyMore | Self::CutOff)
    }

    /// As a word, the same in all outputs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Kept => "ok",
            Self::Broken => "FAILED",
            Self::Worse => "failed",
            Self::KnownGap => "known gap",
            Self::NoGapAnyMore => "NO GAP ANY MORE",
            Self::NotOffered => "not offered",
            Self::NotRun => "not run",
            Self::CutOff => "CUT OFF",
        }
    }
}
