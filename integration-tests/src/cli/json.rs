//! The results for machines.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::unless_closed;
use crate::standing::Standing;
use crate::{Report, Unproven};

use super::{Outcome, list};

/// Everything that is known of a run.
pub(super) fn results(reports: &[(Report, Standing)]) -> Value {
    json!({
        "suite": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
        "results": reports.iter().map(|(report, standing)| result(report, *standing)).collect::<Vec<_>>(),
    })
}

fn result(report: &Report, standing: Standing) -> Value {
    let mut result = json!({
        "case": list::described(report.case),
        "kind": report.kind.to_string(),
        "standing": standing.word().to_lowercase(),
        "seconds": report.took.as_secs_f64(),
    });
    match &report.outcome {
        Ok(()) => {}
        Err(Unproven::Broken { expected, came }) => {
            result["expected"] = json!(expected);
            result["came"] = json!(came);
            result["frames"] = json!(report.frames.iter().map(ToString::to_string).collect::<Vec<_>>());
            result["log"] = json!(report.log);
        }
        Err(unproven) => result["reason"] = json!(unproven.to_string()),
    }
    result
}

/// Writes text to a file, or for `-` to standard output.
pub(super) fn write(path: &Path, text: &str) -> Outcome<()> {
    use std::io::Write as _;
    if path == Path::new("-") {
        return Ok(unless_closed(std::io::stdout().lock().write_all(text.as_bytes()))?);
    }
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
