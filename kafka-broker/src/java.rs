//! The Java runtime: whether there is one, and how it is told to start.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::error::StartError;

/// The oldest Java that Kafka's broker runs on.
const OLDEST: u32 = 17;

/// A Java runtime with Kafka's jars.
#[derive(Debug, Clone)]
pub(crate) struct Java {
    jars: PathBuf,
    archive: Option<Archive>,
}

/// The file of the classes that a start loads, laid out for the next start.
#[derive(Debug, Clone)]
pub(crate) enum Archive {
    /// Java starts with it. One that does not fit is ignored.
    Read(PathBuf),
    /// Java writes it when it ends.
    Write(PathBuf),
}

/// Whether there is a Java that is new enough, and its version, such as `17.0.15`.
pub(crate) fn check() -> Result<String, StartError> {
    let remedy = format!("install a Java runtime of version {OLDEST} or newer, such as openjdk-17-jre-headless");
    let output = match Command::new("java").arg("-version").output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StartError::unavailable(format!("there is no java on the PATH; {remedy}")));
        }
        Err(error) => return Err(StartError::unavailable(format!("java cannot be run ({error}); {remedy}"))),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    match version(&text) {
        Some((version, major)) if major >= OLDEST => Ok(version.to_owned()),
        Some((_, major)) => Err(StartError::unavailable(format!("java is of version {major}; {remedy}"))),
        None => Err(StartError::unavailable(format!("java does not tell its version ({}); {remedy}", output.status))),
    }
}

/// The version in `openjdk version "17.0.15" 2025-04-15`, and its first number. Versions before 9 call themselves `1.x`,
/// which is too old as well.
fn version(text: &str) -> Option<(&str, u32)> {
    let version = text.split('"').nth(1)?;
    Some((version, version.split(['.', '-', '+']).next()?.parse().ok()?))
}

impl Java {
    pub(crate) fn new(jars: PathBuf) -> Self {
        Self { jars, archive: None }
    }

    pub(crate) fn with_archive(mut self, archive: Archive) -> Self {
        self.archive = Some(archive);
        self
    }

    /// The arguments of `java` before the name of a class.
    ///
    /// `full_jit` is for what runs long and is measured. Without it Java compiles everything once and quickly, which
    /// brings a broker up in two thirds of the processor time.
    pub(crate) fn arguments(&self, heap: &str, full_jit: bool) -> Vec<String> {
        let mut arguments = vec![format!("-Xmx{heap}"), "-XX:+UseSerialGC".to_owned()];
        if !full_jit {
            arguments.push("-XX:TieredStopAtLevel=1".to_owned());
        }
        arguments.extend(self.archive.as_ref().map(|archive| match archive {
            Archive::Read(path) => format!("-XX:SharedArchiveFile={}", path.display()),
            Archive::Write(path) => format!("-XX:ArchiveClassesAtExit={}", path.display()),
        }));
        // An archive that does not fit costs time and is no reason to warn.
        arguments.extend(["-Xlog:disable", "-Xlog:all=error:stderr"].map(str::to_owned));
        arguments.push("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".to_owned());
        arguments.extend(["-cp".to_owned(), format!("{}/*", self.jars.display())]);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read_as_java_writes_them() {
        assert_eq!(version("openjdk version \"17.0.15\" 2025-04-15\n"), Some(("17.0.15", 17)));
        assert_eq!(version("openjdk version \"25-ea\" 2025-09-16"), Some(("25-ea", 25)));
        assert_eq!(version("java version \"1.8.0_402\""), Some(("1.8.0_402", 1)));
        assert_eq!(version("not java"), None);
    }
}
