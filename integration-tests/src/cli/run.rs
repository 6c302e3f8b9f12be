//! `run`: plays the cases and says how it went.

use std::path::{Path, PathBuf};

use crate::Report;
use crate::blocking::block_on;
use crate::gaps::Gaps;
use crate::program::unless_closed;
use crate::standing::Standing;

use super::{Outcome, RunArgs, json, junit, table};

/// Plays the cases; `false` when the run fails.
pub(super) fn run(args: &RunArgs) -> Outcome<bool> {
    let suite = args.suite()?;
    block_on(suite.subject.probe())??;
    let gaps = args.known_gaps.as_deref().map(Gaps::read).transpose()?.unwrap_or_default();
    let to_stdout = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    let with_table = !to_stdout(&args.json) && !to_stdout(&args.junit);

    let mut reports: Vec<(Report, Standing)> = Vec::new();
    let mut printed = Ok(());
    let mut on_report = |report: Report| {
        let standing = Standing::of(&report, gaps.find(report.case.id, report.kind));
        if with_table && printed.is_ok() {
            printed = unless_closed(table::report(&report, standing));
        }
        reports.push((report, standing));
    };
    block_on(suite.run(&mut on_report))?;
    printed?;
    if with_table {
        unless_closed(table::summary(&reports))?;
    }
    let fails = reports.iter().any(|(_, standing)| standing.fails(args.strict));
    // One that can't be written keeps nobody from the others.
    let written = [
        args.json.as_ref().map(|path| json::write(path, &format!("{:#}\n", json::results(&reports)))),
        args.junit.as_ref().map(|path| json::write(path, &junit::document(&reports, args.strict)?)),
        args.write_gaps.as_ref().map(|path| {
            let reports: Vec<&Report> = reports.iter().map(|(report, _)| report).collect();
            Ok(gaps.write(path, &reports)?)
        }),
    ];
    written.into_iter().flatten().collect::<Outcome<()>>()?;
    Ok(!fails)
}
