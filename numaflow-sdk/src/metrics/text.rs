//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

/// Metrics in Prometheus' text format, as they are written for [`Server::metrics_from`](crate::Server::metrics_from).
///
/// ```
/// use numaflow_sdk::MetricsText;
///
/// let mut text = MetricsText::default();
/// text.counter("flights_parsed_total", "Flights that could be read.").sample(&[("airline", "AB")], 3);
/// assert_eq!(text.as_str().lines().last(), Some(r#"flights_parsed_total{airline="AB"} 3"#));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsText(String);

/// One metric of a [`MetricsText`], to which samples are added.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl MetricsText {
    /// Begins a number that only grows. By convention its name ends in `_total`, with the unit before that. Names and
    /// those of labels are written as they are: letters, digits and `_`. No two families may have the same name.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// Begins a number that goes up and down. By convention its name ends in its unit.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// Adds a histogram: how many values lay in each bucket that the one before did not hold, with the buckets' upper bounds
    /// in ascending order; how many lay beyond the last bound; and the sum of all values. By convention the name ends in the
    /// unit of bounds and sum.
    ///
    /// ```
    /// use numaflow_sdk::MetricsText;
    ///
    /// let mut text = MetricsText::default();
    /// text.histogram("parse_seconds", "Time that a flight takes.", [(0.001, 7), (0.01, 2)], 1, 0.05);
    /// assert!(text.as_str().contains("parse_seconds_bucket{le=\"0.01\"} 9\n"));
    /// assert!(text.as_str().ends_with("parse_seconds_sum 0.05\nparse_seconds_count 10\n"));
    /// ```
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        beyond: u64,
        sum: f64,
    ) {
        let mut family = self.family(name, "histogram", help);
        let mut count = 0;
        for (bound, values) in buckets {
            count += values;
            family.part("_bucket", &[("le", &bound.to_string())], count);
        }
        count += beyond;
        family.part("_bucket", &[("le", "+Inf")], count).part("_sum", &[], sum).part("_count", &[], count);
    }

    /// What was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.0, name }
    }
}

impl Family<'_> {
    /// Adds a sample. Each has other values of the labels, which may be any text.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.part("", labels, value)
    }

    /// Adds a sample of a family that has several kinds of them, told apart by what comes after its name.
    pub(crate) fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        *self.text += self.name;
        *self.text += suffix;
        for (index, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if index == 0 { '{' } else { ',' };
            // Writing to a string can't fail.
            _ = write!(self.text, "{before}{name}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        _ = writeln!(self.text, "{end} {value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_or_a_line_is_escaped() {
        let mut text = MetricsText::default();
        text.gauge("a", "one\ntwo\\").sample(&[("b", "\"\\\n"), ("c", "é")], 0.5).sample(&[], -1);
        assert_eq!(text.as_str(), "# HELP a one\\ntwo\\\\\n# TYPE a gauge\na{b=\"\\\"\\\\\\n\",c=\"é\"} 0.5\na -1\n");
    }
}
