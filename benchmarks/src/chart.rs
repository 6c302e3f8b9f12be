//! The chart of the documentation: what a message costs each peer, by the size of its value.

use crate::results::{Comparison, Metric};

/// What is 1: costs of different sizes lie too far apart for one scale.
const BASE: &str = "tonic";
const PEERS: [(&str, &str, &str); 4] = [
    ("ours", "numaflow-sdk", "#1b7837"),
    ("published", "published SDK 0.6.0", "#b35806"),
    ("tonic", "plain tonic echo", "#777777"),
    ("h2", "h2 echo (floor)", "#5aae61"),
];
const WIDTH: f64 = 760.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 70.0;
const BAR: f64 = 18.0;
const GAP: f64 = 18.0;

/// Bars grouped by size; `None` when there is nothing to show.
pub(crate) fn svg<'a>(comparisons: impl Iterator<Item = &'a Comparison>) -> Option<String> {
    let groups: Vec<(usize, Vec<(usize, f64)>)> = comparisons
        .filter_map(|comparison| {
            let size = comparison.id.strip_prefix("map/equal/")?.parse().ok()?;
            let bar = |(index, (peer, ..)): (usize, &(&str, &str, &str))| {
                Some((index, comparison.ratio(Metric::CpuMicroseconds, peer, BASE)?.median))
            };
            let bars: Vec<_> = PEERS.iter().enumerate().filter_map(bar).collect();
            (!bars.is_empty()).then_some((size, bars))
        })
        .collect();
    let longest = groups.iter().flat_map(|(_, bars)| bars).map(|(_, ratio)| *ratio).fold(1.0, f64::max);
    if groups.is_empty() {
        return None;
    }
    let bars: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let height = TOP + bars as f64 * BAR + groups.len() as f64 * GAP + 10.0;
    let scale = (WIDTH - LEFT - RIGHT) / longest;

    let mut chart = Chart(String::new());
    chart.line(&format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" role="img">"##
    ));
    chart.line("<title>Server CPU a message, as a multiple of the plain tonic echo's in the same run</title>");
    chart.line(&format!(r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##));
    chart.text(10.0, 22.0, "start", "Server CPU a message, as a multiple of the plain tonic echo's (less is better)");
    for (index, (_, label, colour)) in PEERS.iter().enumerate() {
        let x = 10.0 + index as f64 * 185.0;
        chart.line(&format!(r##"<rect x="{x}" y="36" width="12" height="12" fill="{colour}"/>"##));
        chart.text(x + 18.0, 47.0, "start", label);
    }
    let mut y = TOP;
    for (size, bars) in &groups {
        let middle = y + bars.len() as f64 * BAR / 2.0 + 5.0;
        chart.text(LEFT - 10.0, middle, "end", &readable(*size));
        for (peer, ratio) in bars {
            let (width, colour) = (ratio * scale, PEERS[*peer].2);
            let thickness = BAR - 3.0;
            chart.line(&format!(
                r##"<rect x="{LEFT}" y="{y:.1}" width="{width:.1}" height="{thickness}" fill="{colour}"/>"##
            ));
            chart.text(LEFT + width + 6.0, y + 12.0, "start", &format!("{ratio:.2}"));
            y += BAR;
        }
        y += GAP;
    }
    let base = LEFT + scale;
    let bottom = height - 10.0;
    chart.line(&format!(
        r##"<line x1="{base:.1}" y1="{TOP}" x2="{base:.1}" y2="{bottom:.1}" stroke="#333333" stroke-dasharray="3 3"/>"##
    ));
    chart.line("</svg>");
    Some(chart.0)
}

struct Chart(String);

impl Chart {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.line(&format!(r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#222222">{text}</text>"##));
    }
}

fn readable(size: usize) -> String {
    if size >= 1024 && size.is_multiple_of(1024) { format!("{} KiB", size / 1024) } else { format!("{size} B") }
}
