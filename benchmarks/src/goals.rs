//! Which figures are held against each other, and what they should be.

use crate::results::{Comparison, Metric, Spread};
use crate::table::{self, Table};

/// A figure of a comparison.
#[derive(Debug, Clone, Copy)]
enum Figure {
    /// A metric of the first subject over that of the second, within each round.
    Ratio(Metric, &'static str, &'static str),
    /// A metric of the first subject less that of the second, within each round.
    Difference(Metric, &'static str, &'static str),
    /// A metric of a subject.
    Value(Metric, &'static str),
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What a figure should be.
#[derive(Debug)]
struct Goal {
    comparison: &'static str,
    what: &'static str,
    figure: Figure,
    bound: Bound,
    /// The same of work without a server: where not even that gets there, the machine was busy with something else.
    control: Option<Figure>,
}

use Bound::{AtLeast, AtMost};
use Figure::{Difference, Ratio, Value};
use Metric::{CpuMicroseconds, IdleMib, P99Microseconds, PeakMib, Rate, StartMilliseconds};

const GOALS: [Goal; 15] = [
    Goal {
        comparison: "map/equal/256",
        what: "identity map, 256 B: CPU a message, ours / tonic echo",
        figure: Ratio(CpuMicroseconds, "ours", "tonic"),
        bound: AtMost(0.75),
        control: None,
    },
    Goal {
        comparison: "map/equal/256",
        what: "identity map, 256 B: CPU a message, published SDK / ours",
        figure: Ratio(CpuMicroseconds, "published", "ours"),
        bound: AtLeast(5.0),
        control: None,
    },
    Goal {
        comparison: "map/equal/256",
        what: "identity map, 256 B: peak memory, MiB",
        figure: Value(PeakMib, "ours"),
        bound: AtMost(16.0),
        control: None,
    },
    Goal {
        comparison: "map/equal/65536",
        what: "identity map, 64 KiB: CPU a message, ours / h2 echo",
        figure: Ratio(CpuMicroseconds, "ours", "h2"),
        bound: AtMost(1.15),
        control: None,
    },
    Goal {
        comparison: "map/equal/65536",
        what: "identity map, 64 KiB: peak memory, MiB, within the limit by bytes",
        figure: Value(PeakMib, "ours"),
        bound: AtMost(256.0),
        control: None,
    },
    Goal {
        comparison: "map/compute",
        what: "computing handler: messages a second, two cores / one",
        figure: Ratio(Rate, "ours, on two cores", "ours, on one core"),
        bound: AtLeast(1.8),
        control: Some(Ratio(Rate, "bare, on two cores", "bare, on one core")),
    },
    Goal {
        comparison: "map/wait",
        what: "waiting handler: messages a second, ours / bare tokio loop",
        figure: Ratio(Rate, "ours", "bare"),
        bound: AtLeast(0.97),
        control: None,
    },
    Goal {
        comparison: "map/latency/1000",
        what: "1,000 messages a second: p99, us",
        figure: Value(P99Microseconds, "ours, unary"),
        bound: AtMost(1000.0),
        control: None,
    },
    Goal {
        comparison: "map/start",
        what: "start to listening, ms",
        figure: Value(StartMilliseconds, "ours"),
        bound: AtMost(30.0),
        control: None,
    },
    Goal {
        comparison: "map/start",
        what: "memory of an idle map, MiB",
        figure: Value(IdleMib, "ours"),
        bound: AtMost(12.0),
        control: None,
    },
    Goal {
        comparison: "source/equal/256",
        what: "generated source, 256 B: CPU a record, ours / tonic source",
        figure: Ratio(CpuMicroseconds, "ours", "tonic"),
        bound: AtMost(0.85),
        control: None,
    },
    Goal {
        comparison: "source/equal/256",
        what: "generated source, 256 B: CPU a record, published SDK / ours",
        figure: Ratio(CpuMicroseconds, "published", "ours"),
        bound: AtLeast(2.2),
        control: None,
    },
    Goal {
        comparison: "source/equal/256",
        what: "generated source, 256 B: peak memory, MiB",
        figure: Value(PeakMib, "ours"),
        bound: AtMost(16.0),
        control: None,
    },
    Goal {
        comparison: "kafka/100",
        what: "Kafka source, 100 B: CPU a record above the generated source's, us",
        figure: Difference(CpuMicroseconds, "ours", "generated"),
        bound: AtMost(0.5),
        control: None,
    },
    Goal {
        comparison: "kafka/latency/100",
        what: "Kafka source, 100 records a second: p99, us",
        figure: Value(P99Microseconds, "ours"),
        bound: AtMost(10_000.0),
        control: None,
    },
];

impl Figure {
    fn of(self, comparison: &Comparison) -> Option<Spread> {
        match self {
            Ratio(metric, over, under) => comparison.ratio(metric, over, under),
            Difference(metric, of, from) => comparison.difference(metric, of, from),
            Value(metric, subject) => comparison.spread(subject, metric),
        }
    }

    /// Whether there are samples of it, void or not.
    fn is_measured(self, comparison: &Comparison) -> bool {
        let (metric, subjects) = match self {
            Ratio(metric, one, other) | Difference(metric, one, other) => (metric, vec![one, other]),
            Value(metric, subject) => (metric, vec![subject]),
        };
        let measured =
            |subject: &str| comparison.spread(subject, metric).is_some() || comparison.is_void(subject, metric);
        subjects.into_iter().all(measured)
    }
}

impl Bound {
    fn allows(self, value: f64) -> bool {
        match self {
            AtMost(limit) => value <= limit,
            AtLeast(limit) => value >= limit,
        }
    }
}

/// The goals that these comparisons have something to say on. By the medians.
pub(crate) fn judge<'a>(comparisons: impl Iterator<Item = &'a Comparison> + Clone) -> Table {
    let mut table = Table::new(&["goal", "wanted", "measured (range of the rounds)", ""]);
    for goal in &GOALS {
        let Some(comparison) = comparisons.clone().find(|comparison| comparison.id == goal.comparison) else {
            continue;
        };
        if !goal.figure.is_measured(comparison) {
            continue;
        }
        let wanted = match goal.bound {
            AtMost(limit) => format!("at most {limit}"),
            AtLeast(limit) => format!("at least {limit}"),
        };
        let spread = goal.figure.of(comparison);
        let control = goal.control.and_then(|control| control.of(comparison));
        let verdict = match (spread, control) {
            (None, _) => "void".to_owned(),
            (Some(spread), _) if goal.bound.allows(spread.median) => "reached".to_owned(),
            (_, Some(control)) if !goal.bound.allows(control.median) => {
                format!("void: the machine allows {:.2}", control.median)
            }
            _ => "missed".to_owned(),
        };
        let measured = spread.map_or_else(|| "void".to_owned(), table::spread);
        table.row(vec![goal.what.to_owned(), wanted, measured, verdict]);
    }
    table
}

/// The ratios that a comparison is made for.
pub(crate) fn ratios(comparison: &Comparison) -> Table {
    // The first against each: ours, where it was not left out.
    let against_each = |metric| {
        let mut subjects = comparison.subjects.iter().cloned();
        let first = subjects.next().unwrap_or_default();
        subjects.map(move |other| (metric, first.clone(), other))
    };
    let wanted: Vec<(Metric, String, String)> = match comparison.id.as_str() {
        "map/compute" => {
            let pair = |who: &str| (Rate, format!("{who}, on two cores"), format!("{who}, on one core"));
            ["ours", "bare"].map(pair).to_vec()
        }
        "map/wait" => vec![(Rate, "ours".to_owned(), "bare".to_owned())],
        "map/start" => Vec::new(),
        id if id.contains("/latency/") => Vec::new(),
        // The broker's part of the work shows in the rate alone.
        id if id.starts_with("kafka/") => against_each(CpuMicroseconds).chain(against_each(Rate)).collect(),
        _ => against_each(CpuMicroseconds).collect(),
    };
    let mut table = Table::new(&["ratio", "median", "range of the rounds"]);
    for (metric, over, under) in wanted {
        let what = if metric == Rate { "rate" } else { "server CPU" };
        if let Some(Spread { median, least, most }) = comparison.ratio(metric, &over, &under) {
            let cells = [format!("{what}, {over} / {under}"), format!("{median:.2}"), format!("{least:.2}-{most:.2}")];
            table.row(cells.to_vec());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::results::Sample;

    use super::*;

    fn comparison(id: &str, metric: Metric, values: &[(&str, f64)]) -> Comparison {
        let round = values.iter().map(|(name, value)| ((*name).to_owned(), Sample(BTreeMap::from([(metric, *value)]))));
        Comparison {
            id: id.to_owned(),
            title: String::new(),
            note: None,
            unit: "message".to_owned(),
            subjects: values.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rounds: vec![round.collect()],
        }
    }

    fn verdicts(comparison: &Comparison) -> String {
        judge(std::iter::once(comparison)).to_text()
    }

    #[test]
    fn a_goal_is_reached_at_its_bound_and_missed_beyond() {
        let with = |ours| comparison("map/equal/256", CpuMicroseconds, &[("ours", ours), ("tonic", 1.0)]);
        assert!(verdicts(&with(0.75)).contains("  reached"));
        assert!(verdicts(&with(0.76)).contains("  missed"));
        // What was not measured has no row: neither memory, nor anything beside the published SDK.
        assert_eq!(verdicts(&with(0.75)).lines().filter(|line| line.contains("published")).count(), 0);
    }

    #[test]
    fn a_speed_up_that_the_machine_does_not_allow_is_not_missed() {
        let with = |ours, bare| {
            let values = [
                ("ours, on one core", 1.0),
                ("bare, on one core", 1.0),
                ("ours, on two cores", ours),
                ("bare, on two cores", bare),
            ];
            verdicts(&comparison("map/compute", Rate, &values))
        };
        assert!(with(1.9, 1.95).contains("reached"));
        assert!(with(1.2, 1.95).contains("missed"));
        assert!(with(1.0, 1.1).contains("void: the machine allows 1.10"));
    }

    #[test]
    fn a_goal_can_be_on_what_comes_on_top() {
        let with = |ours| comparison("kafka/100", CpuMicroseconds, &[("ours", ours), ("generated", 0.75)]);
        assert!(verdicts(&with(1.25)).contains("0.500 (0.500-0.500)  reached"));
        assert!(verdicts(&with(1.3)).contains("  missed"));
    }

    #[test]
    fn ratios_are_ours_over_each() {
        let comparison = comparison("map/mixed", CpuMicroseconds, &[("ours", 1.0), ("published", 4.0), ("tonic", 2.0)]);
        let text = ratios(&comparison).to_text();
        assert!(text.contains("ours / published") && text.contains("0.25") && text.contains("0.50"), "{text}");
    }
}
