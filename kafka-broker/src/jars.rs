//! Kafka's jars: fetched once by Maven, for all processes and all packages of the workspace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::StartError;
use crate::once;

/// The version of Apache Kafka.
pub const VERSION: &str = "4.3.0";

const POM: &str = include_str!("../pom.xml");

/// The folder of the jars, which are fetched unless they are there.
///
/// It is `KAFKA_JARS`, or one in Cargo's target folder.
pub(crate) fn find() -> Result<PathBuf, StartError> {
    let folder = folder();
    once::make(&folder, complete, fetch)?;
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
    once::say(&format!("fetching Apache Kafka {VERSION} by Maven, once; this takes up to a minute"));
    fs::create_dir(into).map_err(StartError::system("a folder for Kafka's jars"))?;
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
