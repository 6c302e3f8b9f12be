//! What was measured, in words: on the terminal after a run, and as a page of the documentation.

use std::path::Path;

use crate::Outcome;
use crate::beside;
use crate::chart;
use crate::goals;
use crate::results::{Comparison, Metric, Run, Spread};
use crate::table::{self, Table};

const PAGE: &str = "performance.md";
const CHART: &str = "performance.svg";
/// Up to so many cores may run something else on a machine that counts as idle.
const IDLE: f64 = 0.2;

/// What a run showed, for a terminal.
pub(crate) fn text(run: &Run) -> String {
    let mut text = String::new();
    for comparison in &run.comparisons {
        text.push_str(&format!("\n{}\n", comparison.title));
        if let Some(note) = &comparison.note {
            text.push_str(&format!("{note}\n"));
        }
        for table in tables(comparison) {
            text.push_str(&format!("\n{}", table.to_text()));
        }
    }
    let judged = goals::judge(run.comparisons.iter());
    if !judged.is_empty() {
        text.push_str(&format!("\nGoals\n{}\n\n{}", caveat(std::slice::from_ref(run)), judged.to_text()));
    }
    text
}

/// Writes the page and its chart from the files of some runs.
pub(crate) fn write(files: &[impl AsRef<Path>], out: &Path) -> Outcome<()> {
    let mut runs = Vec::new();
    for file in files {
        let file = file.as_ref();
        let read = || -> Outcome<Run> { Ok(serde_json::from_slice(&std::fs::read(file)?)?) };
        runs.push(read().map_err(|error| format!("{} is not a file of `--json`: {error}", file.display()))?);
    }
    std::fs::create_dir_all(out)?;
    let comparisons = runs.iter().flat_map(|run| &run.comparisons);
    let chart = chart::svg(comparisons);
    if let Some(chart) = &chart {
        std::fs::write(out.join(CHART), chart)?;
    }
    std::fs::write(out.join(PAGE), page(&runs, chart.is_some()))?;
    Ok(())
}

fn page(runs: &[Run], chart: bool) -> String {
    let mut page = String::from(
        "<!-- Written by `cargo run --release -p benchmarks -- report`, from what the runs below measured. -->\n\
         # Performance\n\n\
         What a message costs a server, beside other servers doing the same in the same run. All have the same load client, \
         which keeps 500 messages in flight on one stream over a Unix socket and checks that each is answered once, with its \
         own value. The peers take turns, each round in a fresh process. The machine's pace changes from minute to minute, so \
         a ratio, taken within a round, is a result, and a time is not.\n\n\
         * **Server CPU** is the process's user and system time over the messages it answered, warm-up excluded.\n\
         * **Latency** is the load client's: with 500 in flight it is mostly waiting in line.\n\
         * **void**: the load client was busy for more than 90 % of the time, so it was itself the limit.\n\
         * **equal settings**: two worker threads, HTTP/2 windows of 1 MiB a stream and 16 MiB a connection and frames of 32 KiB, the system's \
         allocator. **default settings**: what each peer does on its own.\n\
         * Figures are medians of the rounds; ratios are medians of each round's own ratio.\n",
    );
    let judged = goals::judge(runs.iter().flat_map(|run| &run.comparisons));
    if !judged.is_empty() {
        page.push_str(&format!("\n## Goals\n\n{}\n\n{}", caveat(runs), judged.to_markdown()));
    }
    if chart {
        page.push_str(&format!(
            "\n## Server CPU a message\n\n![Server CPU a message beside the tonic echo]({CHART})\n"
        ));
    }
    for run in runs {
        for comparison in &run.comparisons {
            page.push_str(&format!("\n## {}\n", comparison.title));
            if let Some(note) = &comparison.note {
                page.push_str(&format!("\n{note}\n"));
            }
            for table in tables(comparison) {
                page.push_str(&format!("\n{}", table.to_markdown()));
            }
        }
    }
    page.push_str("\n## How these figures were made\n");
    for run in runs {
        page.push_str(&format!("\n```sh\n{}\n```\n\n{}", run.command, machine(run).to_markdown()));
    }
    page
}

/// The figures and the ratios, where there are any.
fn tables(comparison: &Comparison) -> Vec<Table> {
    let tables = [table::figures(comparison), goals::ratios(comparison), beside::verdict(comparison)];
    tables.into_iter().filter(|table| !table.is_empty()).collect()
}

fn machine(run: &Run) -> Table {
    let machine = &run.machine;
    let mut table = Table::new(&["", "made with"]);
    let mut row = |what: &str, text: String| table.row(vec![what.to_owned(), text]);
    row("processor", format!("{}, {} cores", machine.processor, machine.cores));
    row("memory", format!("{} MiB", machine.memory_mib));
    row("system", machine.system.clone());
    let seconds = run.seconds.map_or(String::new(), |seconds| format!(" of {seconds} s a peer"));
    row("rounds", format!("{}{seconds}", run.rounds));
    if let Some(compiler) = &machine.compiler {
        row("compiler", compiler.clone());
    }
    if let Some(commit) = &machine.commit {
        row("commit", commit.clone());
    }
    for (name, version) in &machine.versions {
        row(name, version.clone());
    }
    table
}

/// How much the figures of these runs are worth.
fn caveat(runs: &[Run]) -> String {
    if !runs.iter().all(|run| run.serious) {
        return "From a quick run or a debug build: it shows that everything works, and nothing of how fast."
            .to_owned();
    }
    let rounds = runs.iter().flat_map(|run| &run.comparisons).flat_map(|comparison| &comparison.rounds);
    let others = rounds.flat_map(|round| round.values()).filter_map(|sample| sample.get(Metric::OthersCores));
    match Spread::of(others) {
        Some(Spread { median, .. }) if median > IDLE => format!(
            "By the medians. The machine was not idle: {median:.1} cores ran something else, which moves even ratios, \
             because servers that wait for a core find more to do at once."
        ),
        _ => "By the medians.".to_owned(),
    }
}
