//! That `docs/on-call.md` is true of the code: its lines, metrics, reasons and alerts exist, and none of them is left out.
#![expect(clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The code that a server runs: what is only in tests and comments does not count.
#[derive(Default)]
struct Code {
    /// Each call of `warn!` and `error!`, those of `tracing` and the guarded ones of the library.
    lines: Vec<Line>,
    /// All of the code.
    text: String,
}

/// A line of the log, as it is in the code.
struct Line {
    level: &'static str,
    file: PathBuf,
    call: String,
}

impl Code {
    fn read() -> Self {
        let mut code = Self::default();
        for folder in ["../numaflow-sdk/src", "src"] {
            code.add_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        }
        assert!(code.lines.len() > 40, "{} lines of the log are found", code.lines.len());
        code
    }

    fn add_folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                // Modules of tests in files of their own, and generated code.
                if !["tests", "pb"].contains(&&*name) {
                    self.add_folder(&path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                self.add_file(&path);
            }
        }
    }

    fn add_file(&mut self, path: &Path) {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let is_comment = |line: &&str| line.trim_start().starts_with("//");
        let text: Vec<&str> = text.lines().filter(|line| !is_comment(line)).collect();
        let text = joined(&text);
        let calls = [
            ("tracing::warn!(", "WARN"),
            ("tracing::error!(", "ERROR"),
            ("logging::warn!(", "WARN"),
            ("logging::error!(", "ERROR"),
        ];
        for (call, level) in calls {
            for (start, _) in text.match_indices(call) {
                let call = arguments(&text[start + call.len()..]).to_owned();
                self.lines.push(Line { level, file: path.to_owned(), call });
            }
        }
        self.text += &text;
    }
}

/// The lines as one text, in which a string that goes on in the next line is whole.
fn joined(lines: &[&str]) -> String {
    let mut text = String::new();
    let mut goes_on = false;
    for line in lines {
        let line = if goes_on { line.trim_start() } else { line };
        goes_on = line.ends_with('\\');
        text += line.strip_suffix('\\').unwrap_or(line);
        if !goes_on {
            text.push('\n');
        }
    }
    text
}

/// What is within the parentheses that were opened before `text`.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let mut in_string = false;
    let mut escaped = false;
    for (place, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '(' if !in_string => depth += 1,
            ')' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return &text[..place];
                }
            }
            _ => {}
        }
    }
    panic!("a call does not end: {text}")
}

/// A row of one of the tables, by the names of its columns.
struct Row {
    cells: Vec<(String, String)>,
}

impl Row {
    fn cell(&self, column: &str) -> Option<&str> {
        self.cells.iter().find(|(name, _)| name == column).map(|(_, cell)| &**cell)
    }

    fn name(&self) -> &str {
        &self.cells[0].1
    }

    /// The parts of a cell that are in backquotes; none only where the cell says why.
    fn quoted(&self, column: &str) -> Vec<&str> {
        let cell = self.cell(column).unwrap_or_default();
        let quoted = quoted(cell);
        let says_why = cell.strip_prefix("none: ").is_some_and(|reason| !reason.is_empty());
        assert_eq!(quoted.is_empty(), says_why, "{column} of {:?}: name it, or say `none: ` and why", self.name());
        quoted
    }

    /// The level and the part of each line of the log.
    fn log(&self) -> Vec<(&str, &str)> {
        let mut level = None;
        let mut lines = Vec::new();
        self.quoted("Log");
        for (index, part) in self.cell("Log").unwrap_or_default().split('`').enumerate() {
            if index % 2 == 0 {
                level = ["WARN", "ERROR"].into_iter().find(|level| part.contains(level)).or(level);
            } else {
                let level = level.unwrap_or_else(|| panic!("{part:?} has no level"));
                lines.push((level, part));
            }
        }
        lines
    }
}

fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

fn rows(page: &str) -> Vec<Row> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    let mut before = "";
    for line in page.lines() {
        if line.starts_with("| ---") {
            columns = cells(before);
        } else if line.starts_with("| ") && !columns.is_empty() {
            let cells = cells(line);
            assert_eq!(cells.len(), columns.len(), "{line}");
            rows.push(Row { cells: columns.iter().cloned().zip(cells).collect() });
        } else {
            columns.clear();
        }
        before = line;
    }
    rows
}

/// The definition of each alert, by its name.
fn alerts() -> BTreeMap<String, String> {
    let file = file("deploy/alerts.yaml");
    let alerts = file.split("- alert: ").skip(1).filter_map(|alert| alert.split_once('\n'));
    alerts.map(|(name, definition)| (name.trim().to_owned(), definition.to_owned())).collect()
}

#[test]
fn each_line_at_warn_or_error_is_in_the_tables_and_each_there_is_in_the_code() {
    let (code, rows) = (Code::read(), rows(&file("docs/on-call.md")));
    let documented: Vec<(&str, &str)> = rows.iter().flat_map(Row::log).collect();
    for (level, part) in &documented {
        let is_written = code.lines.iter().any(|line| line.level == *level && line.call.contains(part));
        assert!(is_written, "docs/on-call.md: no line of the log at {level} has {part:?}");
    }
    let missing = code
        .lines
        .iter()
        .filter(|line| !documented.iter().any(|(level, part)| line.level == *level && line.call.contains(part)));
    let missing: Vec<String> =
        missing.map(|line| format!("{}: {} {}", line.file.display(), line.level, line.call)).collect();
    assert!(missing.is_empty(), "docs/on-call.md has no row for\n{}", missing.join("\n"));
}

#[test]
fn each_metric_of_the_tables_is_one_of_the_catalogue() {
    let catalogue = file("docs/metrics.md");
    for row in rows(&file("docs/on-call.md")).iter().filter(|row| row.cell("Metric").is_some()) {
        for metric in row.quoted("Metric") {
            assert!(catalogue.contains(&format!("\n| `{metric}` |")), "{metric} is not in docs/metrics.md");
        }
    }
}

#[test]
fn each_reason_of_the_tables_is_in_the_code() {
    let code = Code::read();
    for row in rows(&file("docs/on-call.md")).iter().filter(|row| row.cell("Page").is_some()) {
        let (pages, reasons): (Vec<&str>, Vec<&str>) =
            row.quoted("Page").into_iter().partition(|part| part.starts_with('/'));
        let is_named = !row.cell("Page").unwrap_or_default().starts_with("none: ");
        assert!(!is_named || !pages.is_empty() && !reasons.is_empty(), "{}: a page and a reason", row.name());
        for part in pages.into_iter().chain(reasons) {
            assert!(code.text.contains(part), "{part:?} of {:?} is not in the code", row.name());
        }
    }
}

#[test]
fn the_tables_have_each_alert_and_no_other() {
    let rows = rows(&file("docs/on-call.md"));
    let rows: Vec<&Row> = rows.iter().filter(|row| row.cell("Alert").is_some()).collect();
    assert!(rows.len() > 20);
    let documented: BTreeSet<String> = rows.iter().flat_map(|row| row.quoted("Alert")).map(str::to_owned).collect();
    let alerts = alerts();
    assert_eq!(documented, alerts.keys().cloned().collect());
    for row in rows {
        let metrics = row.quoted("Metric");
        for alert in row.quoted("Alert") {
            let is_on_one = metrics.iter().any(|metric| alerts[alert].contains(metric));
            assert!(is_on_one || metrics.is_empty(), "{alert} of {:?} is on none of {metrics:?}", row.name());
        }
        assert!(row.cell("What to do").is_some_and(|cell| cell.len() > 10), "{}: what to do?", row.name());
    }
}
