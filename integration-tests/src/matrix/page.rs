//! The page for people, and the results behind it.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use crate::standing::Standing;
use crate::{Case, Kind, Level, Unproven, cases};

use super::{Column, Outcome};

const HEAD: &str = "# Conformance

How Numaflow's SDKs keep the protocol between the platform and a user's container. Each implementation serves the same
[handler contract](../integration-tests/CONTRACT.md), written as a user would write it
(`integration-tests/peers/`), and gets the same cases, over the socket and the files and nothing else. Written by
`cargo run --release -p numaflow-conformance --bin matrix`; what a case proves is said by
`cargo run -p numaflow-conformance --bin numaflow-conformance -- explain CASE`.
";

const LEGEND: &str = "
| Sign | Meaning |
| --- | --- |
| ✓ | kept |
| ✗ | not kept; a MUST that is not kept does not work with the platform |
| ± | kept on some runs only |
| ○ | not offered: the SDK has no means for it |
| – | not run |
";

/// Writes `conformance.md` and `conformance.json`.
pub(super) fn write(folder: &Path, columns: &[Column]) -> Outcome<()> {
    let date = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let mut page = String::new();
    // A string takes whatever is written to it.
    _ = text(&mut page, columns, &date);
    let save = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    save("conformance.md", &page)?;
    save("conformance.json", &format!("{:#}\n", results(columns, &date)))?;
    Ok(())
}

fn text(page: &mut String, columns: &[Column], date: &str) -> std::fmt::Result {
    writeln!(page, "{HEAD}\nAs of {date}.\n")?;
    writeln!(page, "| Implementation | MUST kept | SHOULD kept | not offered |\n| --- | --- | --- | --- |")?;
    for column in columns {
        let (must, should) = (kept(column, Level::Must), kept(column, Level::Should));
        let not_offered = column.results.iter().filter(|(_, standing)| *standing == Standing::NotOffered).count();
        match &column.missing {
            None => writeln!(
                page,
                "| {} ({}) | {must} | {should} | {not_offered} |",
                column.peer.name, column.peer.package
            )?,
            Some(reason) => writeln!(page, "| {} ({}) | {reason} | | |", column.peer.name, column.peer.package)?,
        }
    }
    page.push_str(LEGEND);
    for kind in Kind::ALL {
        let columns: Vec<&Column> = columns.iter().filter(|column| column.peer.kinds.contains(kind)).collect();
        writeln!(page, "\n## {kind}\n")?;
        writeln!(page, "| Case | Level |{}", row(columns.iter().map(|column| column.peer.name)))?;
        writeln!(page, "| --- | --- |{}", row(columns.iter().map(|_| "---")))?;
        for case in cases::all().filter(|case| case.applies_to(*kind)) {
            let signs = columns.iter().map(|column| sign(column, case, *kind));
            writeln!(page, "| `{}` | {} |{}", case.id, case.level, row(signs))?;
        }
    }
    writeln!(page, "\n## What is not kept, and why")?;
    for column in columns {
        let mut reasons: Vec<(&str, String, &str)> = Vec::new();
        for (report, _) in column.results.iter() {
            if let Some(gap) = column.gaps.find(report.case.id, report.kind) {
                match reasons.iter_mut().find(|(id, _, reason)| *id == report.case.id && *reason == gap.reason) {
                    Some((_, kinds, _)) => write!(kinds, ", {}", report.kind)?,
                    None => reasons.push((report.case.id, report.kind.to_string(), &gap.reason)),
                }
            }
        }
        if !reasons.is_empty() {
            writeln!(page, "\n### {}\n", column.peer.package)?;
        }
        for (id, kinds, reason) in reasons {
            writeln!(page, "- `{id}` ({kinds}): {}", reason.trim())?;
        }
    }
    Ok(())
}

fn row(cells: impl Iterator<Item = impl std::fmt::Display>) -> String {
    cells.map(|cell| format!(" {cell} |")).collect()
}

/// How many rules of a level are kept, of those that are offered.
fn kept(column: &Column, level: Level) -> String {
    let played = column.results.iter().filter(|(report, standing)| {
        report.case.level == level && !matches!(standing, Standing::NotOffered | Standing::NotRun | Standing::CutOff)
    });
    let outcomes: Vec<bool> = played.map(|(report, _)| report.outcome.is_ok()).collect();
    format!("{} of {}", outcomes.iter().filter(|kept| **kept).count(), outcomes.len())
}

fn sign(column: &Column, case: &Case, kind: Kind) -> &'static str {
    let found = column.results.iter().find(|(report, _)| report.case.id == case.id && report.kind == kind);
    match found.map(|(report, _)| &report.outcome) {
        // Which of the two it was this time is chance.
        Some(_) if column.gaps.find(case.id, kind).is_some_and(|gap| gap.sometimes) => "±",
        Some(Ok(())) => "✓",
        Some(Err(Unproven::Broken { .. })) => "✗",
        Some(Err(Unproven::NotOffered(_))) => "○",
        Some(Err(Unproven::NotRun(_) | Unproven::CutOff(_))) | None => "–",
    }
}

fn results(columns: &[Column], date: &str) -> serde_json::Value {
    let columns: Vec<_> = columns
        .iter()
        .map(|column| {
            let results: Vec<_> = column
                .results
                .iter()
                .map(|(report, standing)| {
                    json!({
                        "case": report.case.id,
                        "kind": report.kind.to_string(),
                        "level": report.case.level.to_string(),
                        "standing": standing.word().to_lowercase(),
                        "why": report.outcome.as_ref().err().map(ToString::to_string),
                    })
                })
                .collect();
            json!({
                "name": column.peer.name,
                "package": column.peer.package,
                "missing": column.missing,
                "results": results,
            })
        })
        .collect();
    json!({ "date": date, "suite": env!("CARGO_PKG_VERSION"), "implementations": columns })
}
