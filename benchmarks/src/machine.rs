//! Where and of what figures were made.

use std::process::Command;

use rustix::system::uname;
use serde::{Deserialize, Serialize};

/// The crates whose versions matter for the figures.
const CRATES: [&str; 7] = ["numaflow", "tonic", "hyper", "h2", "prost", "tokio", "rdkafka"];

/// A machine, and the program that ran on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) system: String,
    /// What the compiler says of itself, where there is one.
    pub(crate) compiler: Option<String>,
    /// The commit that the working tree is at, and whether it was changed since, where there is one.
    pub(crate) commit: Option<String>,
    /// The version of `numaflow-sdk`, then of others.
    pub(crate) versions: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let name = uname();
        let (system, release) = (name.sysname().to_string_lossy(), name.release().to_string_lossy());
        let (machine, cores) = (name.machine().to_string_lossy(), std::thread::available_parallelism());
        Self {
            processor: proc_field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: cores.map_or(1, usize::from),
            memory_mib: proc_field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes / 1024),
            system: format!("{system} {release} {machine}"),
            compiler: output_of("rustc", &["--version"]),
            commit: output_of("git", &["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]),
            versions: versions(),
        }
    }
}

fn proc_field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// As the lock file has them that this program was built with.
fn versions() -> Vec<(String, String)> {
    let mut lines = include_str!("../../Cargo.lock").lines();
    let mut locked = Vec::new();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("name = ") else { continue };
        let Some(version) = lines.next().and_then(|line| line.strip_prefix("version = ")) else { continue };
        locked.push((name.trim_matches('"').to_owned(), version.trim_matches('"').to_owned()));
    }
    // Of several it is the last, which is the newest: the others are those of crates that are compared elsewhere.
    let version = |name: &str| locked.iter().rfind(|(locked, _)| locked == name).cloned();
    std::iter::once("numaflow-sdk").chain(CRATES).filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let versions = versions();
        assert_eq!(versions.len(), 1 + CRATES.len());
        assert_eq!(versions[0].1, env!("CARGO_PKG_VERSION"));
        assert_eq!(versions[1], ("numaflow".to_owned(), "0.6.0".to_owned()));
    }
}
