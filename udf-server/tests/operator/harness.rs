//! The program as a process, files for it, and records for it to find.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tempfile::NamedTempFile;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "readers";

/// What a command has said when it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the program to its end, with nothing in its environment that this process has of settings.
pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_udf-server"))
        .args(arguments)
        .env_remove("NUMAFLOW_REPLICA")
        .env_remove("NUMAFLOW_RUNTIME")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A file with this text, which goes with the handle.
pub(crate) fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Produces records to partition 0.
pub(crate) fn fill(brokers: &str, count: usize) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    for number in 0..count {
        let value = number.to_string();
        producer.send(BaseRecord::<(), str>::to(TOPIC).partition(0).payload(&value)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}
