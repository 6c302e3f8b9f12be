//! The Java runtime: whether there is one, and how it is told to start.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::error::StartError;

/// The oldest Java that Kafka's broker runs on.
const OLDEST: u32 = 17;

/// Whether there is a Java that is new enough.
pub(crate) fn check() -> Result<(), StartError> {
    let remedy = format!("install a Java runtime of version {OLDEST} or newer, such as openjdk-17-jre-headless");
    let output = match Command::new("java").arg("-version").output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StartError::unavailable(format!("there is no java on the PATH; {remedy}")));
        }
        Err(error) => return Err(StartError::unavailable(format!("java cannot be run ({error}); {remedy}"))),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    match major(&text) {
        Some(version) if version >= OLDEST => Ok(()),
        Some(version) => Err(StartError::unavailable(format!("java is of version {version}; {remedy}"))),
        None => Err(StartError::unavailable(format!("java does not tell its version ({}); {remedy}", output.status))),
    }
}

/// The version in `openjdk version "17.0.15" 2025-04-15`. Those before 9 call themselves `1.x`, which is too old as well.
fn major(text: &str) -> Option<u32> {
    text.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

/// What `java` is told before the name of a class of the jars in `jars`.
///
/// `full_jit` is for what runs long and is measured. Without it Java compiles everything once and quickly, which brings
/// a broker up in two thirds of the processor time.
pub(crate) fn arguments(jars: &Path, heap: &str, full_jit: bool) -> Vec<String> {
    let mut arguments = vec![format!("-Xmx{heap}"), "-XX:+UseSerialGC".to_owned()];
    if !full_jit {
        arguments.push("-XX:TieredStopAtLevel=1".to_owned());
    }
    arguments.push("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".to_owned());
    arguments.extend(["-cp".to_owned(), format!("{}/*", jars.display())]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn versions_are_read_as_java_writes_them() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(major("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(major("java version \"1.8.0_402\""), Some(1));
        assert_eq!(major("not java"), None);
    }
}
