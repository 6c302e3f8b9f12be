//! The results for people: a line a case as it ends, and below a failed one what there is to know of it.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::standing::Standing;
use crate::{Level, Report, Unproven};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const KNOWN: Style = AnsiColor::Yellow.on_default();
const FAINT: Style = Style::new().dimmed();

/// Prints a case's line, and what was wrong.
pub(super) fn report(report: &Report, standing: Standing) -> io::Result<()> {
    // Colours only on a terminal that has them.
    let mut out = anstream::stdout().lock();
    let style = match standing {
        Standing::Kept => GOOD,
        Standing::Broken | Standing::Worse | Standing::NoGapAnyMore | Standing::CutOff => BAD,
        Standing::KnownGap => KNOWN,
        Standing::NotOffered | Standing::NotRun => FAINT,
    };
    let Report { case, kind, took, .. } = report;
    writeln!(
        out,
        "{style}{:15}{style:#} {:6} {:10} {:42} {FAINT}{:6.2} s{FAINT:#}",
        standing.word(),
        case.level,
        kind,
        case.id,
        took.as_secs_f64()
    )?;
    match (&report.outcome, standing) {
        (Err(unproven @ (Unproven::NotRun(_) | Unproven::CutOff(_))), _) => writeln!(out, "    {unproven}"),
        (Err(Unproven::Broken { expected, came }), Standing::Broken | Standing::Worse) => {
            writeln!(out, "    rule      {} (protocol, {})", case.sentence, case.section)?;
            writeln!(out, "    expected  {expected}")?;
            writeln!(out, "    came      {came}")?;
            for frame in &report.frames {
                writeln!(out, "    {FAINT}{frame}{FAINT:#}")?;
            }
            for line in report.log.lines() {
                writeln!(out, "    {FAINT}server: {line}{FAINT:#}")?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Prints the sums.
pub(super) fn summary(reports: &[(Report, Standing)]) -> io::Result<()> {
    let count = |wanted: &dyn Fn(&Report, Standing) -> bool| {
        reports.iter().filter(|(report, standing)| wanted(report, *standing)).count()
    };
    let level = |level: Level| {
        let of_level = |report: &Report| report.case.level == level;
        let kept = |_: &Report, standing| matches!(standing, Standing::Kept | Standing::NoGapAnyMore);
        (
            count(&|report, standing| of_level(report) && kept(report, standing)),
            count(&|report, _| {
                of_level(report)
                    && !matches!(
                        report.outcome,
                        Err(Unproven::NotOffered(_) | Unproven::NotRun(_) | Unproven::CutOff(_))
                    )
            }),
        )
    };
    let (must, musts) = level(Level::Must);
    let (should, shoulds) = level(Level::Should);
    let of = |wanted| count(&|_, standing| standing == wanted);
    writeln!(
        anstream::stdout().lock(),
        "{must} of {musts} MUST and {should} of {shoulds} SHOULD kept; {} known gaps, {} no gaps any more, {} not offered, {} not run",
        of(Standing::KnownGap),
        of(Standing::NoGapAnyMore),
        of(Standing::NotOffered),
        of(Standing::NotRun),
    )
}
