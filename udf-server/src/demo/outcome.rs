//! What the demo's run came to: the table at its end, and whether it is right.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Serialize;

use super::Totals;
use crate::drive::Report;
use crate::kafka::PartitionOffsets;

/// Everything there is to say at the end.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Records that the brokers confirmed.
    pub(super) produced: u64,
    /// Empty lines of the input.
    pub(super) empty: u64,
    /// Lines that are too long for the brokers, and went to the dead letters.
    pub(super) too_long: u64,
    #[serde(flatten)]
    pub(super) report: Report,
    pub(super) partitions: Vec<Partition>,
    /// Lines in the output, and in the dead letters.
    pub(super) lines: Lines,
    /// What is wrong; nothing when all is well.
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Partition {
    partition: i32,
    committed: i64,
    end: i64,
}

/// What is in the files, counted there and not remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Lines {
    pub(super) out: u64,
    pub(super) dead: u64,
}

impl Lines {
    pub(super) fn count(out: &Path, dead: &Path) -> io::Result<Self> {
        Ok(Self { out: lines_of(out)?, dead: if dead.exists() { lines_of(dead)? } else { 0 } })
    }
}

fn lines_of(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(lines);
        }
        let length = buffer.len();
        lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        reader.consume(length);
    }
}

impl Outcome {
    pub(super) fn new(produced: Totals, report: Report, offsets: &[PartitionOffsets], lines: Lines) -> Self {
        let partitions = offsets
            .iter()
            .map(|offsets| Partition {
                partition: offsets.partition,
                committed: offsets.committed.unwrap_or(offsets.start),
                end: offsets.end,
            })
            .collect();
        let mut outcome = Self {
            produced: produced.records,
            empty: produced.empty,
            too_long: produced.too_long,
            report,
            partitions,
            lines,
            problems: Vec::new(),
        };
        outcome.problems = outcome.check();
        outcome
    }

    /// Holds the numbers against each other: each comes from another place than the one it is compared with.
    fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let counts = &self.report.counts;
        let mut same = |what: &str, is: u64, should: u64| {
            if is < should {
                problems.push(format!("{} {what} missing: {is} of {should}", should - is));
            } else if is > should {
                problems.push(format!("{} {what} too many: {is} instead of {should}", is - should));
            }
        };
        same("records resolved", counts.resolved(), self.produced);
        same("lines of output", self.lines.out, counts.mapped);
        same("dead letters", self.lines.dead, counts.dead_letters + self.too_long);
        same("records uncommitted", self.uncommitted(), 0);
        problems
    }

    fn uncommitted(&self) -> u64 {
        self.partitions.iter().map(|partition| u64::try_from(partition.end - partition.committed).unwrap_or(0)).sum()
    }
}

/// The table for people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22}{:>12}", "produced", self.produced)?;
        let aside = [("too long for Kafka", self.too_long), ("empty lines", self.empty)];
        for (name, number) in aside.into_iter().filter(|(_, number)| *number > 0) {
            writeln!(f, "{name:<22}{number:>12}")?;
        }
        writeln!(f, "{}\n", self.report)?;
        writeln!(f, "{:<22}{:>12}{:>12}", "partition", "committed", "end")?;
        for Partition { partition, committed, end } in &self.partitions {
            writeln!(f, "{partition:<22}{committed:>12}{end:>12}")?;
        }
        for problem in &self.problems {
            write!(f, "\nproblem: {problem}")?;
        }
        if self.problems.is_empty() {
            write!(f, "\nevery record came out once and is committed")?;
        }
        Ok(())
    }
}
