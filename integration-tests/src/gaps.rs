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
    #[serde(default, rename = "section")]
    _section: String,
    #[serde(default, rename = "frames")]
    _frames: String,
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
                kind.parse::<Kind>()?;
            }
        }
        Ok(Self(gaps))
    }

    /// The gap that a case of a kind falls into.
    pub(crate) fn find(&self, id: &str, kind: Kind) -> Option<&Gap> {
        let named = |gap: &Gap| gap.kinds.is_empty() || gap.kinds.contains(&kind.to_string());
        self.0.iter().find(|gap| gap.case == id && named(gap))
    }

    /// What is broken, as a list: the reasons that are known are kept, the others are for people to write.
    pub(crate) fn write(&self, path: &Path, reports: &[&Report]) -> Result<(), String> {
        let mut text = String::new();
        for report in reports.iter().filter(|report| report.is_broken()) {
            // A string takes whatever is written to it.
            _ = self.write_gap(&mut text, report);
        }
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn write_gap(&self, text: &mut String, report: &Report) -> std::fmt::Result {
        let known = self.find(report.case.id, report.kind);
        // JSON's strings are YAML's.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        writeln!(text, "- case: {}", report.case.id)?;
        writeln!(text, "  kinds: [{}]", report.kind)?;
        writeln!(text, "  reason: {}", quoted(known.map_or("", |gap| &gap.reason)))?;
        if known.is_some_and(|gap| gap.sometimes) {
            writeln!(text, "  sometimes: true")?;
        }
        writeln!(text, "  section: {}", quoted(report.case.section))?;
        // The indentation is given, so that a first line may begin with spaces.
        writeln!(text, "  frames: |2")?;
        if let Err(unproven) = &report.outcome {
            writeln!(text, "    {}", one_line(&unproven.to_string()))?;
        }
        // How it begins and how it ends tells most, and a list of gaps is there to be read.
        let frames = &report.frames;
        let (first, last) = frames.split_at(frames.len().min(SHOWN));
        for frame in first.iter().chain(&last[last.len().saturating_sub(SHOWN)..]) {
            let line = one_line(&frame.to_string());
            writeln!(text, "    {}", line.char_indices().nth(WIDTH).map_or(&*line, |(cut, _)| &line[..cut]))?;
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

        // Written again, the reason stays.
        gaps.write(&path, &[&report(Err(Unproven::broken("x", "y")))]).unwrap();
        assert_eq!(Gaps::read(&path).unwrap().find(id, kind).unwrap().reason, "so it is");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, said) in [
            ("- case: no.such.case\n  reason: none\n", "there is no case no.such.case"),
            ("- case: general.half-close\n  reason: ''\n", "has no reason"),
            ("- case: general.half-close\n  reason: r\n  kinds: [sink]\n", "\"sink\" is no kind of server"),
            ("- case: general.half-close\n  reason: r\n  why: r\n", "why"),
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
