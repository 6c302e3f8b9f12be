//! Tables of what was measured, for a terminal and for Markdown.

use crate::results::{Comparison, Metric, Spread};

/// Rows of cells; the first row is the head.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|&cell| cell.to_owned()).collect()])
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    /// The table in columns: the first to the left, the others to the right.
    pub(crate) fn to_text(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.0 {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = width - cell.chars().count();
                let (before, after) = if column == 0 { (0, gap) } else { (gap + 2, 0) };
                text.extend(
                    std::iter::repeat_n(' ', before).chain(cell.chars()).chain(std::iter::repeat_n(' ', after)),
                );
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        for (index, row) in self.0.iter().enumerate() {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if index == 0 {
                let rule = row.iter().enumerate().map(|(column, _)| if column == 0 { "---" } else { "---:" });
                text.push_str(&format!("| {} |\n", rule.collect::<Vec<_>>().join(" | ")));
            }
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.0.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
        (0..columns).map(|column| width(column).unwrap_or(0)).collect()
    }
}

/// What a subject's figures are, one row each.
pub(crate) fn figures(comparison: &Comparison) -> Table {
    let measured: Vec<Metric> = Metric::ALL
        .into_iter()
        .filter(|metric| {
            comparison.rounds.iter().flat_map(|round| round.values()).any(|sample| sample.0.contains_key(metric))
        })
        .collect();
    let mut head = vec![String::new()];
    head.extend(measured.iter().map(|metric| heading(*metric, &comparison.unit)));
    let mut table = Table(vec![head]);
    for subject in &comparison.subjects {
        let mut row = vec![subject.clone()];
        row.extend(measured.iter().map(|&metric| match comparison.spread(subject, metric) {
            Some(spread) => number(metric, spread.median),
            None if comparison.is_void(subject, metric) => "void".to_owned(),
            None => "-".to_owned(),
        }));
        table.row(row);
    }
    table
}

fn heading(metric: Metric, unit: &str) -> String {
    match metric {
        Metric::CpuMicroseconds => format!("server CPU, us/{unit}"),
        Metric::BrokerMicroseconds => format!("broker CPU, us/{unit}"),
        Metric::Rate => format!("{unit}s/s"),
        Metric::P50Microseconds => "p50, us".to_owned(),
        Metric::P99Microseconds => "p99, us".to_owned(),
        Metric::PeakMib => "peak RSS, MiB".to_owned(),
        Metric::IdleMib => "idle RSS, MiB".to_owned(),
        Metric::StartMilliseconds => "start, ms".to_owned(),
        Metric::ClientBusy => "client busy".to_owned(),
        Metric::OthersCores => "others, cores".to_owned(),
    }
}

/// A value of a metric, with as many digits as it is good for.
pub(crate) fn number(metric: Metric, value: f64) -> String {
    match metric {
        Metric::CpuMicroseconds | Metric::BrokerMicroseconds => format!("{value:.3}"),
        Metric::OthersCores => format!("{value:.1}"),
        Metric::Rate => thousands(value),
        Metric::P50Microseconds | Metric::P99Microseconds => thousands(value),
        Metric::PeakMib | Metric::IdleMib | Metric::StartMilliseconds => format!("{value:.1}"),
        Metric::ClientBusy => format!("{:.0} %", value * 100.0),
    }
}

/// A figure that is held against a goal, and the range of its rounds.
pub(crate) fn spread(spread: Spread) -> String {
    let digits = |value: f64| match value {
        ..10.0 => format!("{value:.3}"),
        ..100.0 => format!("{value:.1}"),
        _ => thousands(value),
    };
    format!("{} ({}-{})", digits(spread.median), digits(spread.least), digits(spread.most))
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
