//! Kafka's own measure of what a consumer can read: `ConsumerPerformance`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::sleep;

use super::cluster::Cluster;
use crate::Outcome;
use crate::measure::{MIB, Process};
use crate::results::{Metric, Sample};
use crate::serve::Topic;

const CLASS: &str = "org.apache.kafka.tools.ConsumerPerformance";
/// How often it is looked how much memory it has.
const LOOK: Duration = Duration::from_millis(10);
/// How long it may find nothing, in milliseconds. Its own 10 s are too few for the start of a group on a busy machine.
const PATIENCE_MS: u32 = 60_000;
/// What it tells, among others: records a second, the time in the group's first rebalance left out.
const RATE: &str = "fetch.nMsg.sec";
const RECORDS: &str = "data.consumed.in.nMsg";

/// Reads that many records, which is how many there are.
pub(super) async fn measure(cluster: &Cluster, topic: &Topic, records: u64) -> Outcome<Sample> {
    let arguments = [
        ("--bootstrap-server", topic.broker.clone()),
        ("--topic", topic.topic.clone()),
        ("--group", topic.group.clone()),
        ("--num-records", records.to_string()),
        ("--timeout", PATIENCE_MS.to_string()),
    ];
    let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    let broker = cluster.broker().pid().map(Process::of);
    let before = broker.map(Process::cpu).transpose()?;
    let mut tool = Command::from(cluster.broker().tool(CLASS, arguments))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let process = Process::of(tool.id().ok_or("Kafka's tool has ended before it began")?);
    // It says a few lines, which its pipes have room for. Until it is waited for, it can be asked what it has used.
    let mut peak_rss = 0;
    while !process.has_ended()? {
        peak_rss = process.peak_rss().unwrap_or(peak_rss);
        sleep(LOOK).await;
    }
    let cpu = process.cpu()?;
    let after = broker.map(Process::cpu).transpose()?;
    let (mut output, mut log) = (String::new(), String::new());
    if let (Some(stdout), Some(stderr)) = (&mut tool.stdout, &mut tool.stderr) {
        stdout.read_to_string(&mut output).await?;
        stderr.read_to_string(&mut log).await?;
    }
    let status = tool.wait().await?;
    let figures = figures(&output);
    let figure = |name| figures.iter().find(|(found, _)| *found == name).and_then(|(_, text)| text.parse::<f64>().ok());
    let (Some(rate), Some(read), true) = (figure(RATE), figure(RECORDS), status.success()) else {
        return Err(format!("Kafka's ConsumerPerformance ends with {status} and says {output:?} {log:?}").into());
    };
    if read != records as f64 {
        return Err(format!("Kafka's ConsumerPerformance reads {read} records of {records}").into());
    }
    let a_record = |used: Duration| used.as_secs_f64() * 1e6 / read;
    let mut sample = BTreeMap::from([
        (Metric::Rate, rate),
        (Metric::CpuMicroseconds, a_record(cpu)),
        (Metric::PeakMib, peak_rss as f64 / MIB),
    ]);
    if let (Some(before), Some(after)) = (before, after) {
        sample.insert(Metric::BrokerMicroseconds, a_record(after - before));
    }
    Ok(Sample(sample))
}

/// The names in its output, each with what is below it; there may be warnings in other lines.
fn figures(output: &str) -> Vec<(&str, &str)> {
    fn cells(line: &str) -> impl Iterator<Item = &str> {
        line.split(',').map(str::trim)
    }
    let mut lines = output.lines().skip_while(|line| !line.contains(RATE));
    let Some(names) = lines.next() else { return Vec::new() };
    let values = lines.find(|line| cells(line).count() == cells(names).count());
    values.map_or_else(Vec::new, |values| cells(names).zip(cells(values)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_stand_below_their_names() {
        let output = "a warning\n\
                      start.time, end.time, data.consumed.in.nMsg, nMsg.sec, fetch.nMsg.sec\n\
                      WARNING: there is another way, too\n\
                      2026-01-31 12:00:00:000, 2026-01-31 12:00:01:000, 5000, 2500.0000, 4000.5\n";
        let figures = figures(output);
        assert_eq!(figures.last(), Some(&(RATE, "4000.5")));
        assert!(figures.contains(&(RECORDS, "5000")));
        assert_eq!(super::figures("nothing of the kind"), []);
    }
}
