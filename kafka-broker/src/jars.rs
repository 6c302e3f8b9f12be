//! Kafka's jars: fetched once by Maven, for all processes and all packages of the workspace.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::StartError;

/// The version of Apache Kafka.
pub const VERSION: &str = "4.3.0";

const POM: &str = include_str!("../pom.xml");

/// The folder of the jars, which are fetched unless they are there.
///
/// It is `KAFKA_JARS`, or one in Cargo's target folder.
pub(crate) fn find() -> Result<PathBuf, StartError> {
    let folder = folder();
    if complete(&folder) {
        return Ok(folder);
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(StartError::system("a folder for Kafka's jars"))?;
    // The lock goes with the process that holds it, so a fetch that was killed blocks nobody.
    let lock =
        File::create(folder.with_added_extension("lock")).map_err(StartError::system("a lock on Kafka's jars"))?;
    lock.lock().map_err(StartError::system("a lock on Kafka's jars"))?;
    if !complete(&folder) {
        let fetched = tempfile::tempdir_in(parent).map_err(StartError::system("a folder for Kafka's jars"))?;
        fetch(fetched.path())?;
        // The jars are there as a whole or not at all. What is left of the temporary folder is nothing.
        fs::rename(fetched.path(), &folder).map_err(StartError::system("Kafka's jars in their place"))?;
    }
    Ok(folder)
}

fn folder() -> PathBuf {
    if let Some(jars) = std::env::var_os("KAFKA_JARS").filter(|jars| !jars.is_empty()) {
        return PathBuf::from(jars);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|target| !target.is_empty()).map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"));
    target.join(format!("kafka-{VERSION}"))
}

fn complete(folder: &Path) -> bool {
    folder.join(format!("kafka_2.13-{VERSION}.jar")).exists()
}

fn fetch(into: &Path) -> Result<(), StartError> {
    say(&format!("fetching Apache Kafka {VERSION} by Maven, once; this takes up to a minute"));
    let pom = into.join("pom.xml");
    fs::write(&pom, POM).map_err(StartError::system("a file for Maven"))?;
    let remedy = format!("set KAFKA_JARS to a folder that has the jars of Kafka {VERSION}");
    let output = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-Dkafka.version={VERSION}"))
        .arg(format!("-DoutputDirectory={}", into.display()))
        .arg("-f")
        .arg(&pom)
        .output()
        .map_err(|error| {
            let problem = match error.kind() == io::ErrorKind::NotFound {
                true => "there is no mvn on the PATH".to_owned(),
                false => format!("mvn cannot be run ({error})"),
            };
            StartError::unavailable(format!("Kafka's jars are not here yet and {problem}; install Maven, or {remedy}"))
        })?;
    if !output.status.success() || !complete(into) {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let problem = text.lines().find(|line| line.starts_with("[ERROR]")).unwrap_or("and says nothing");
        return Err(StartError::unavailable(format!(
            "Maven cannot fetch Kafka's jars ({problem}); see to its network, or {remedy}"
        )));
    }
    Ok(())
}

/// Says something where a test's output is not kept back until the test fails.
fn say(line: &str) {
    // Where nobody can read it, it need not be said.
    _ = writeln!(io::stderr(), "kafka-broker: {line}");
}
