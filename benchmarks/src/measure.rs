//! What processes and threads have used.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::Outcome;

/// Bytes in a MiB.
pub(crate) const MIB: f64 = 1_048_576.0;

/// What a process has used since it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// User and system time of all its threads, those that have ended too.
    pub(crate) cpu: Duration,
    /// The most memory it ever had resident, in bytes.
    pub(crate) peak_rss: u64,
    /// The memory it has resident, in bytes.
    pub(crate) rss: u64,
    /// What it has done, where it has no client that would count.
    pub(crate) done: u64,
}

impl Used {
    /// What this process has used, having done so much.
    pub(crate) fn by_this_process(done: u64) -> Outcome<Self> {
        // First, so that reading the file is not part of it.
        let cpu = process_cpu();
        let status = std::fs::read_to_string("/proc/self/status")?;
        let bytes = |name: &str| -> Outcome<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("no {name} in /proc"))?;
            let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
            Ok(kilobytes * 1024)
        };
        Ok(Self { cpu, peak_rss: bytes("VmHWM:")?, rss: bytes("VmRSS:")?, done })
    }

    pub(crate) fn to_line(self) -> String {
        format!("{} {} {} {}", self.cpu.as_nanos(), self.peak_rss, self.rss, self.done)
    }

    pub(crate) fn from_line(line: &str) -> Outcome<Self> {
        let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        match numbers[..] {
            [cpu, peak_rss, rss, done] => Ok(Self { cpu: Duration::from_nanos(cpu), peak_rss, rss, done }),
            _ => Err(format!("{line:?} is not what a server says of itself").into()),
        }
    }
}

/// The processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// The processor time of this process.
pub(crate) fn process_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// The processor time of everything on this machine, all cores added up, to the tick of 10 ms a core.
pub(crate) fn machine_cpu() -> Outcome<Duration> {
    let statistics = std::fs::read_to_string("/proc/stat")?;
    let ticks = statistics.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or("no cpu in /proc/stat")?;
    let ticks: Vec<u64> = ticks.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq steal; what follows is part of user and nice.
    let busy: u64 = ticks.iter().take(8).enumerate().filter(|(field, _)| ![3, 4].contains(field)).map(|(_, t)| t).sum();
    Ok(Duration::from_millis(busy * 1000 / rustix::param::clock_ticks_per_second()))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
