//! What processes and threads have used.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::Outcome;

/// What a process has used since it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// User and system time of all its threads, those that have ended too.
    pub(crate) cpu: Duration,
    /// The most memory it ever had resident, in bytes.
    pub(crate) peak_rss: u64,
    /// The memory it has resident, in bytes.
    pub(crate) rss: u64,
}

impl Used {
    /// What this process has used.
    pub(crate) fn by_this_process() -> Outcome<Self> {
        // First, so that reading the file is not part of it.
        let cpu = duration(clock_gettime(ClockId::ProcessCPUTime));
        let status = std::fs::read_to_string("/proc/self/status")?;
        let bytes = |name: &str| -> Outcome<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("no {name} in /proc"))?;
            let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
            Ok(kilobytes * 1024)
        };
        Ok(Self { cpu, peak_rss: bytes("VmHWM:")?, rss: bytes("VmRSS:")? })
    }

    pub(crate) fn to_line(self) -> String {
        format!("{} {} {}", self.cpu.as_nanos(), self.peak_rss, self.rss)
    }

    pub(crate) fn from_line(line: &str) -> Outcome<Self> {
        let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        match numbers[..] {
            [cpu, peak_rss, rss] => Ok(Self { cpu: Duration::from_nanos(cpu), peak_rss, rss }),
            _ => Err(format!("{line:?} is not what a server says of itself").into()),
        }
    }
}

/// The processor time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
