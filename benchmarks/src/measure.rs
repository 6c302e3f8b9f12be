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
        let bytes = |name| status_bytes("self", name);
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

/// Another process, as the system knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    /// The process of this number. What has ended stays known until its parent has waited for it.
    pub(crate) fn of(id: u32) -> Self {
        Self(id)
    }

    /// Its user and system time, to the tick of 10 ms.
    pub(crate) fn cpu(self) -> Outcome<Duration> {
        let statistics = self.statistics()?;
        // State, parent, group, session, terminal, its group, flags, four counts of faults; then utime and stime.
        let ticks: Vec<u64> = statistics.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks_to_time(ticks.iter().sum()))
    }

    /// Whether it has ended, and nobody has waited for it yet.
    pub(crate) fn has_ended(self) -> Outcome<bool> {
        Ok(self.statistics()?.starts_with('Z'))
    }

    /// The most memory it ever had resident, in bytes, as long as it runs.
    pub(crate) fn peak_rss(self) -> Outcome<u64> {
        status_bytes(&self.0.to_string(), "VmHWM:")
    }

    /// What the system says of it from its state on: the name before that may have anything in it.
    fn statistics(self) -> Outcome<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let (_, statistics) = text.rsplit_once(") ").ok_or("no name in /proc")?;
        Ok(statistics.to_owned())
    }
}

/// A size that the system tells of a process, in bytes.
fn status_bytes(process: &str, name: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("no {name} in /proc"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
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
    Ok(ticks_to_time(busy))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_process_has_used_is_known_until_it_is_waited_for() {
        // Some ticks of the clock.
        let work = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done";
        let mut child = Command::new("sh").args(["-c", work]).spawn().unwrap();
        let process = Process::of(child.id());
        while !process.has_ended().unwrap() {
            std::thread::yield_now();
        }
        assert!(process.cpu().unwrap() > Duration::ZERO);
        process.peak_rss().unwrap_err();
        assert!(child.wait().unwrap().success());
        process.cpu().unwrap_err();
        let this = Process::of(std::process::id());
        assert!(!this.has_ended().unwrap() && this.peak_rss().unwrap() > 0);
    }
}
