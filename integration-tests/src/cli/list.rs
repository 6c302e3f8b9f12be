//! What there is to play.

use std::io::{self, Write};

use serde_json::json;

use crate::{Case, Kind, cases};

use super::Outcome;

const CONTRACT: &str = include_str!("../../CONTRACT.md");

/// Prints all cases, or those for a kind of server.
pub(super) fn list(kind: Option<Kind>, json: bool) -> Outcome<()> {
    let cases = cases::all().filter(|case| kind.is_none_or(|kind| case.applies_to(kind)));
    let mut out = io::stdout().lock();
    if json {
        let cases: Vec<_> = cases.map(described).collect();
        let text = serde_json::to_string_pretty(&cases)?;
        return Ok(writeln!(out, "{text}")?);
    }
    for case in cases {
        let process = if case.needs_a_command() { " (with --exec)" } else { "" };
        writeln!(out, "{:6} {:40} {}{process}", case.level, case.id, kinds(case))?;
    }
    Ok(())
}

/// Prints what one case proves.
pub(super) fn explain(id: &str) -> Outcome<()> {
    let case =
        cases::find(id).ok_or_else(|| format!("there is no case {id}: `numaflow-conformance list` shows them all"))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n\n{} {}\n", case.id, case.level, case.sentence)?;
    writeln!(out, "protocol  {}", case.section)?;
    writeln!(out, "kinds     {}", kinds(case))?;
    if case.needs_a_command() {
        writeln!(out, "needs     --exec: the case starts and ends servers itself")?;
    }
    Ok(())
}

/// Prints the handler contract.
pub(super) fn contract() -> Outcome<()> {
    Ok(io::stdout().lock().write_all(CONTRACT.as_bytes())?)
}

/// A case as JSON.
pub(super) fn described(case: &Case) -> serde_json::Value {
    json!({
        "id": case.id,
        "level": case.level.to_string(),
        "section": case.section,
        "sentence": case.sentence,
        "kinds": case.kinds.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "needs_exec": case.needs_a_command(),
    })
}

fn kinds(case: &Case) -> String {
    case.kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
