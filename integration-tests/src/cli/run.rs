//! `run`: plays the cases and says how it went.

use std::path::Path;

use crate::Report;
use crate::blocking::block_on;
use crate::gaps::Gaps;
use crate::standing::Standing;

use super::{Outcome, RunArgs, json, junit, table};

/// Plays the cases; `false` when the run fails.
pub(super) fn run(args: &RunArgs) -> Outcome<bool> {
    let suite = args.suite()?;
    let gaps = args.known_gaps.as_deref().map(Gaps::read).transpose()?.unwrap_or_default();
    let to_stdout = |path: &Option<std::path::PathBuf>| path.as_deref() == Some(Path::new("-"));
    let with_table = !to_stdout(&args.json) && !to_stdout(&args.junit);

    let mut reports: Vec<(Report, Standing)> = Vec::new();
    let mut printed = Ok(());
    let mut on_report = |report: Report| {
        let standing = Standing::of(&report, gaps.find(report.case.id, report.kind));
        if with_table && printed.is_ok() {
            printed = table::report(&report, standing);
        }
        reports.push((report, standing));
    };
    block_on(suite.run(&mut on_report))?;
    printed?;
    if with_table {
        table::summary(&reports)?;
    }
    if let Some(path) = &args.json {
        json::write(path, &format!("{:#}\n", json::results(&reports)))?;
    }
    if let Some(path) = &args.junit {
        json::write(path, &junit::document(&reports)?)?;
    }
    let fails = reports.iter().any(|(_, standing)| standing.fails(args.strict));
    if let Some(path) = &args.write_gaps {
        let reports: Vec<&Report> = reports.iter().map(|(report, _)| report).collect();
        gaps.write(path, &reports)?;
    }
    Ok(!fails)
}
