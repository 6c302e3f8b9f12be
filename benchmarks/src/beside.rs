//! This build beside another one: alternating pairs of the same server, and whether the new one became slower.
//!
//! One round on a shared machine scatters by 5 %, so the verdict comes from the median of many pairs and from an upper
//! confidence bound of that median.

use std::path::{Path, PathBuf};

use crate::results::{Comparison, Metric, Spread};
use crate::table::Table;

/// The name of the other build in tables.
pub(crate) const BESIDE: &str = "beside";
/// The number of pairs unless `--rounds` says otherwise.
pub(crate) const PAIRS: usize = 50;
/// The largest median ratio that passes.
const MEDIAN: f64 = 1.02;
/// The largest upper bound of the median ratio that passes.
const BOUND: f64 = 1.04;
/// The probability that the true median is at or below the upper bound.
const CONFIDENCE: f64 = 0.95;

/// Another build of this program.
#[derive(Debug, Clone)]
pub(crate) struct Beside(PathBuf);

impl Beside {
    pub(crate) fn program(&self) -> &Path {
        &self.0
    }
}

/// Finds the program of `--beside`.
pub(crate) fn find(path: &str) -> Result<Beside, String> {
    let program = std::fs::canonicalize(path).map_err(|error| format!("cannot be read: {error}"))?;
    match program.is_file() {
        true => Ok(Beside(program)),
        false => Err("is not a program".to_owned()),
    }
}

/// The server CPU of this build over the other build's, pair by pair. Empty unless the comparison has both.
pub(crate) fn verdict(comparison: &Comparison) -> Table {
    let mut table = Table::new(&["this build beside the other", "pairs", "median", "upper 95 % bound", "verdict"]);
    let Some(first) = comparison.subjects.first() else { return table };
    let ratios: Vec<f64> =
        comparison.rounds_of(Metric::CpuMicroseconds, first, BESIDE).map(|(this, other)| this / other).collect();
    let Some(Spread { median, .. }) = Spread::of(ratios.iter().copied()) else { return table };
    let bound = upper_bound(&ratios);
    let verdict = match bound {
        None => "too few pairs",
        Some(bound) if median <= MEDIAN && bound <= BOUND => "as fast",
        Some(_) => "slower",
    };
    let bound = bound.map_or_else(|| "-".to_owned(), |bound| format!("{bound:.3} (at most {BOUND})"));
    table.row(vec![
        format!("server CPU a {}", comparison.unit),
        ratios.len().to_string(),
        format!("{median:.3} (at most {MEDIAN})"),
        bound,
        verdict.to_owned(),
    ]);
    table
}

/// An upper bound of the values' median with [`CONFIDENCE`]: the smallest order statistic that exceeds the true median
/// with this probability, whatever the distribution. `None` of fewer than five values, which have none.
fn upper_bound(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Each value lies below the median with probability one half; `below` is P(at most `place` of them do). In
    // logarithms, because the binomial coefficients of some thousand values exceed the range of a number.
    let count = u32::try_from(sorted.len()).ok()?;
    let mut logarithm = f64::from(count) * 0.5_f64.ln();
    let mut below = 0.0;
    for (place, &value) in (0..count).zip(&sorted) {
        below += logarithm.exp();
        if below >= CONFIDENCE {
            return Some(value);
        }
        logarithm += (f64::from(count - place) / f64::from(place + 1)).ln();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::results::Sample;

    #[test]
    fn the_upper_bound_is_the_order_statistic_of_the_sign_test() {
        let values = |count: i32| (1..=count).map(f64::from).collect::<Vec<_>>();
        // From tables of the sign test: the 32nd of 50, the 15th of 20, the largest of 5; four values have no bound.
        assert_eq!(upper_bound(&values(50)), Some(32.0));
        assert_eq!(upper_bound(&values(20)), Some(15.0));
        assert_eq!(upper_bound(&values(5)), Some(5.0));
        assert_eq!(upper_bound(&values(4)), None);
        assert_eq!(upper_bound(&values(1000)), Some(527.0));
        // The bound of very many pairs is close to their middle.
        assert!((30_000.0..30_300.0).contains(&upper_bound(&values(60_000)).unwrap()));
    }

    fn comparison(ratios: &[f64]) -> Comparison {
        let sample = |value| Sample(BTreeMap::from([(Metric::CpuMicroseconds, value)]));
        let round =
            |ratio: &f64| BTreeMap::from([("ours".to_owned(), sample(2.0 * ratio)), (BESIDE.to_owned(), sample(2.0))]);
        Comparison {
            id: "map/equal/256".to_owned(),
            title: String::new(),
            note: None,
            unit: "message".to_owned(),
            subjects: vec!["ours".to_owned(), BESIDE.to_owned()],
            rounds: ratios.iter().map(round).collect(),
        }
    }

    #[test]
    fn a_build_is_slower_by_its_median_or_by_the_bound() {
        let text = |ratios: &[f64]| verdict(&comparison(ratios)).to_text();
        assert!(text(&[1.01; 50]).contains("as fast"));
        assert!(text(&[1.03; 50]).contains("slower"));
        // The median is fine and too uncertain.
        let scattered = [[1.0; 26].as_slice(), &[1.1; 24]].concat();
        assert!(text(&scattered).contains("slower"), "{}", text(&scattered));
        assert!(text(&[1.0; 3]).contains("too few pairs"));
        let alone = Comparison { subjects: vec!["ours".to_owned()], rounds: Vec::new(), ..comparison(&[]) };
        assert!(verdict(&alone).is_empty());
    }
}
