//! The list of known gaps: deviations of a server that somebody has looked at.
//!
//! ```yaml
//! - case: general.half-close
//!   kinds: [map-unary]         # all kinds, where it is left out
//!   reason: the goroutine that sends waits for the context of the call
//!   sometimes: true            # the case may also pass; false, where it is left out
//!   section: 1.3 Half-close, cancellation, stream end
//!   frames: |                  # what was seen, for people
//!     0.000 ms -> ...
//! ```

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::{Kind, Report, cases};

/// How many frames of a case's beginning, and of its end, are written, and how much of each.
const SHOWN: usize = 10;
const WIDTH: usize = 160;

/// A deviation that is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gap {
    case: String,
    #[serde(default)]
    kinds: Vec<String>,
    pub(crate) reason: String,
    /// Whether the case fails on some runs only.
    #[serde(default)]
    pub(crate) sometimes: bool,
    #[serde(default)]
    section: String,
    #[serde(default)]
    frames: String,
}

/// The gaps of one server.
#[derive(Debug, Default)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    /// Reads a list; each entry must mean something.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|problem| format!("{}: {problem}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // A list that has become empty is one, too.
        let gaps: Option<Vec<Gap>> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let gaps = gaps.unwrap_or_default();
        for gap in &gaps {
            if cases::find(&gap.case).is_none() {
                return Err(format!("there is no case {}: `numaflow-conformance list` shows them all", gap.case));
            }
            if gap.reason.trim().is_empty() {
                return Err(format!("{} has no reason: say why the server does what it does", gap.case));
            }
            for kind in &gap.kinds {
                if !cases::find(&gap.case).is_some_and(|case| kind.parse().is_ok_and(|kind| case.applies_to(kind))) {
                    kind.parse::<Kind>()?;
                    return Err(format!("{} is no case for {kind}", gap.case));
                }
            }
        }
        for (number, gap) in gaps.iter().enumerate() {
            let same = |other: &&Gap| other.case == gap.case && other.kinds.iter().any(|kind| gap.kinds.contains(kind));
            if gaps[..number].iter().any(|other| same(&other) || (other.case == gap.case && other.kinds.is_empty())) {
                return Err(format!("{} is there twice", gap.case));
            }
        }
        Ok(Self(gaps))
    }

    /// The gap that a case of a kind falls into.
    pub(crate) fn find(&self, id: &str, kind: Kind) -> Option<&Gap> {
        let named = |gap: &Gap| gap.kinds.is_empty() || gap.kinds.contains(&kind.to_string());
        self.0.iter().find(|gap| gap.case == id && named(gap))
    }

    /// The list after a run: what is broken, and what is known and was not disproved, because it was not played, may also
    /// be kept, or names all kinds at once. Reasons stay; those of new gaps are for people to write.
    pub(crate) fn write(&self, path: &Path, reports: &[&Report]) -> Result<(), String> {
        let mut text = String::new();
        let named = |gap: &Gap, report: &Report| {
            gap.case == report.case.id && (gap.kinds.is_empty() || gap.kinds == [report.kind.to_string()])
        };
        for gap in &self.0 {
            let report = reports.iter().find(|report| named(gap, report));
            let stays = gap.kinds.len() != 1 || gap.sometimes || report.is_none();
            if stays && (gap.kinds.len() != 1 || report.is_none_or(|report| !report.is_broken())) {
                // A string takes whatever is written to it.
                _ = gap.write(&mut text);
            }
        }
        for report in reports.iter().filter(|report| report.is_broken()) {
            let known = self.find(report.case.id, report.kind);
            // One for several kinds is written above.
            if known.is_none_or(|gap| gap.kinds.len() == 1) {
                _ = Gap::of(report, known).write(&mut text);
            }
        }
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Gap {
    /// What a report says, with the reason that is known.
    fn of(report: &Report, known: Option<&Self>) -> Self {
        let mut frames: Vec<String> = report.outcome.as_ref().err().map(ToString::to_string).into_iter().collect();
        // How it begins and how it ends tells most, and a list of gaps is there to be read.
        let (first, last) = report.frames.split_at(report.frames.len().min(SHOWN));
        frames.extend(first.iter().chain(&last[last.len().saturating_sub(SHOWN)..]).map(|frame| {
            let mut line = frame.to_string();
            line.truncate(line.char_indices().nth(WIDTH).map_or(line.len(), |(cut, _)| cut));
            line
        }));
        Self {
            case: report.case.id.to_owned(),
            kinds: vec![report.kind.to_string()],
            reason: known.map_or_else(String::new, |gap| gap.reason.clone()),
            sometimes: known.is_some_and(|gap| gap.sometimes),
            section: report.case.section.to_owned(),
            frames: frames.iter().map(|line| one_line(line)).collect::<Vec<_>>().join("\n"),
        }
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        // JSON's strings are YAML's.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        writeln!(text, "- case: {}", self.case)?;
        if !self.kinds.is_empty() {
            writeln!(text, "  kinds: [{}]", self.kinds.join(", "))?;
        }
        writeln!(text, "  reason: {}", quoted(&self.reason))?;
        if self.sometimes {
            writeln!(text, "  sometimes: true")?;
        }
        if !self.section.is_empty() {
            writeln!(text, "  section: {}", quoted(&self.section))?;
        }
        if !self.frames.is_empty() {
            // The indentation is given, so that a first line may begin with spaces.
            writeln!(text, "  frames: |2")?;
            self.frames.lines().try_for_each(|line| writeln!(text, "    {line}"))?;
        }
        Ok(())
    }
}

/// The text without anything that would end a line, or that YAML does not allow.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Unproven;

    fn report(outcome: Result<(), Unproven>) -> Report {
        let case = cases::all().next().unwrap();
        Report { case, kind: case.kinds[0], outcome, frames: Vec::new(), log: String::new(), took: Duration::ZERO }
    }

    #[test]
    fn a_list_that_was_written_is_read_once_it_has_reasons() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gaps.yaml");
        let broken = report(Err(Unproven::broken("a: \"b\"", "\tnothing\nat all")));
        let (id, kind) = (broken.case.id, broken.kind);
        Gaps::default().write(&path, &[&report(Ok(())), &broken]).unwrap();
        assert!(Gaps::read(&path).unwrap_err().ends_with("say why the server does what it does"));

        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, written.replace("reason: \"\"", "reason: it: \"is\" so")).unwrap();
        assert!(Gaps::read(&path).is_err(), "a reason that is no YAML");
        std::fs::write(&path, written.replace("reason: \"\"", "reason: so it is")).unwrap();
        let gaps = Gaps::read(&path).unwrap();
        assert_eq!(gaps.find(id, kind).unwrap().reason, "so it is");
        assert_eq!(gaps.0.len(), 1);

        // Written again, the reason stays; so does what was not played, and what may also be kept.
        gaps.write(&path, &[&report(Err(Unproven::broken("x", "y")))]).unwrap();
        assert_eq!(Gaps::read(&path).unwrap().find(id, kind).unwrap().reason, "so it is");
        gaps.write(&path, &[]).unwrap();
        assert_eq!(Gaps::read(&path).unwrap().0, gaps.0);
        gaps.write(&path, &[&report(Ok(()))]).unwrap();
        assert_eq!(Gaps::read(&path).unwrap().0, []);
        let sometimes = written.replace("reason: \"\"", "reason: by chance\n  sometimes: true");
        std::fs::write(&path, sometimes).unwrap();
        let gaps = Gaps::read(&path).unwrap();
        gaps.write(&path, &[&report(Ok(()))]).unwrap();
        assert_eq!(Gaps::read(&path).unwrap().0, gaps.0);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, said) in [
            ("- case: no.such.case\n  reason: none\n", "there is no case no.such.case"),
            ("- case: general.half-close\n  reason: ''\n", "has no reason"),
            ("- case: general.half-close\n  reason: r\n  kinds: [sink]\n", "\"sink\" is no kind of server"),
            ("- case: general.half-close\n  reason: r\n  why: r\n", "why"),
            ("- case: map.keys\n  reason: r\n  kinds: [source]\n", "map.keys is no case for source"),
            ("- case: map.keys\n  reason: r\n- case: map.keys\n  reason: r\n", "map.keys is there twice"),
        ] {
            let problem = Gaps::parse(text).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
        assert_eq!(Gaps::parse("").unwrap().0, []);
        assert_eq!(Gaps::parse("[]").unwrap().0, []);
    }

    #[test]
    fn a_gap_is_of_the_kinds_it_names_or_of_all() {
        let gaps = Gaps::parse("- case: general.half-close\n  reason: r\n  kinds: [source]\n").unwrap();
        assert!(gaps.find("general.half-close", Kind::Source).is_some());
        assert!(gaps.find("general.half-close", Kind::UnaryMap).is_none());
        let gaps = Gaps::parse("- case: general.half-close\n  reason: r\n").unwrap();
        assert!(gaps.find("general.half-close", Kind::UnaryMap).is_some());
    }
}
