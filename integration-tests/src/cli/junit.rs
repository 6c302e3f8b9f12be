//! The results as JUnit XML, which most CI systems show.

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use crate::standing::Standing;
use crate::{Report, Unproven};

use super::Outcome;

/// The document.
pub(super) fn document(reports: &[(Report, Standing)], strict: bool) -> Outcome<String> {
    let mut document = Document::new(env!("CARGO_PKG_NAME"));
    let kind = reports.first().map_or_else(String::new, |(report, _)| report.kind.to_string());
    let mut suite = TestSuite::new(kind);
    suite.add_test_cases(reports.iter().map(|(report, standing)| test_case(report, *standing, strict)));
    document.add_test_suite(suite);
    Ok(document.to_string()?)
}

fn test_case(report: &Report, standing: Standing, strict: bool) -> TestCase {
    // As the exit code has it.
    let mut status = match standing {
        _ if standing.fails(strict) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Standing::KnownGap | Standing::NotOffered | Standing::NotRun => TestCaseStatus::skipped(),
        Standing::Kept | Standing::Broken | Standing::Worse | Standing::NoGapAnyMore | Standing::CutOff => {
            TestCaseStatus::success()
        }
    };
    match &report.outcome {
        Ok(()) if standing == Standing::Kept => {}
        Ok(()) => drop(status.set_message("the case passes, and the list of known gaps says that it fails")),
        Err(unproven) => drop(status.set_message(unproven.to_string())),
    }
    if let Err(Unproven::Broken { .. }) = &report.outcome {
        let frames: Vec<String> = report.frames.iter().map(ToString::to_string).collect();
        status.set_description(format!(
            "{} {} (protocol, {})\n{}",
            report.case.level,
            report.case.sentence,
            report.case.section,
            frames.join("\n")
        ));
    }
    let mut test_case = TestCase::new(report.case.id, status);
    test_case.set_classname(report.kind.to_string()).set_time(report.took);
    if !report.log.is_empty() {
        test_case.set_system_err(&report.log);
    }
    test_case
}
