//! Faults of the process and its files.

use std::env;
use std::fs;

use serde_json::{Value, json};

use super::{ALL, MAPS, SOURCE, UNARY};
use crate::fault::{Fault, How, Paths, Sigterm, Which};
use crate::serve::END_MARKER;

const REPLICA: &str = "NUMAFLOW_REPLICA";

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "socket-elsewhere",
        sentence: "It listens on another path than the platform's.",
        kinds: ALL,
        cases: &["general.default-path.socket"],
        how: How::Elsewhere(Which::Socket),
    },
    Fault {
        name: "server-info-elsewhere",
        sentence: "It writes the server-info file to another path than the platform's.",
        kinds: ALL,
        cases: &["general.default-path.server-info"],
        how: How::Elsewhere(Which::ServerInfo),
    },
    Fault {
        name: "server-info-no-json",
        sentence: "The server-info file has a comma too many.",
        kinds: ALL,
        cases: &["general.server-info.marker"],
        how: How::ServerInfo(|info| complete(&info).replace("\"}U", "\",}U").replace("}}U", "},}U")),
    },
    Fault {
        name: "server-info-without-marker",
        sentence: "The server-info file does not say that it is complete.",
        kinds: ALL,
        cases: &["general.server-info.marker"],
        how: How::ServerInfo(|info| info.to_string()),
    },
    Fault {
        name: "server-info-after-marker",
        sentence: "A line break follows the end marker of the server-info file, and another end marker.",
        kinds: ALL,
        cases: &["general.server-info.marker"],
        how: How::ServerInfo(|info| format!("{}\n{END_MARKER}", complete(&info))),
    },
    Fault {
        name: "server-info-numbers",
        sentence: "A value of the server-info file's metadata is a number.",
        kinds: ALL,
        cases: &["general.server-info.types"],
        how: How::ServerInfo(|mut info| {
            info["metadata"]["MULTIPROC"] = json!(1);
            complete(&info)
        }),
    },
    Fault {
        name: "server-info-tcp",
        sentence: "The server-info file says that the server listens on TCP.",
        kinds: ALL,
        cases: &["general.server-info.protocol"],
        how: How::ServerInfo(|info| with(info, "protocol", "tcp")),
    },
    Fault {
        name: "server-info-old-version",
        sentence: "The version in the server-info file is one that the platform refuses.",
        kinds: ALL,
        cases: &["general.server-info.version-gate", "source.server-info.nack-version"],
        how: How::ServerInfo(|info| with(info, "version", "0.1.9")),
    },
    Fault {
        name: "map-mode-of-another",
        sentence: "MAP_MODE in the server-info file is another mode than the one that is served.",
        kinds: MAPS,
        cases: &["map.server-info.map-mode"],
        how: How::ServerInfo(|mut info| {
            let mode = &mut info["metadata"]["MAP_MODE"];
            *mode = if *mode == "batch-map" { json!("stream-map") } else { json!("batch-map") };
            complete(&info)
        }),
    },
    Fault {
        name: "map-mode-missing",
        sentence: "MAP_MODE is not in the server-info file, which to the platform means unary.",
        kinds: &[MAPS[1], MAPS[2]],
        cases: &["map.server-info.map-mode"],
        how: How::ServerInfo(|mut info| {
            info["metadata"] = json!({});
            complete(&info)
        }),
    },
    Fault {
        name: "info-before-socket",
        sentence: "The server-info file is there before the socket.",
        kinds: ALL,
        cases: &["general.server-info.after-socket"],
        how: How::BeforeStart(|paths| {
            let info = json!({ "protocol": "uds", "language": "rust", "version": "0.6.0", "metadata": {} });
            fs::write(&paths.server_info, complete(&info)).map_err(|error| error.to_string())
        }),
    },
    Fault {
        name: "stale-socket-fatal",
        sentence: "It does not start where a socket is already, though nobody listens on it.",
        kinds: ALL,
        cases: &["general.restart.stale-files"],
        how: How::BeforeStart(|paths| absent(paths.socket.exists(), paths)),
    },
    Fault {
        name: "stale-info-fatal",
        sentence: "It does not start where a server-info file is already.",
        kinds: ALL,
        cases: &["general.restart.stale-files"],
        how: How::BeforeStart(|paths| absent(paths.server_info.exists(), paths)),
    },
    Fault {
        name: "foreign-file-deleted",
        sentence: "It deletes whatever is at the socket's path.",
        kinds: ALL,
        cases: &["general.socket.not-a-socket"],
        how: How::BeforeStart(|paths| {
            // It may well not be there.
            drop(fs::remove_file(&paths.socket));
            Ok(())
        }),
    },
    Fault {
        name: "sigterm-ends-at-once",
        sentence: "SIGTERM ends it with what it has in flight.",
        kinds: ALL,
        cases: &["general.sigterm.serves-on", "general.sigterm.files-removed"],
        how: How::Sigterm(Sigterm::EndAtOnce),
    },
    Fault {
        name: "sigterm-ignored",
        sentence: "SIGTERM does nothing.",
        kinds: UNARY,
        cases: &["general.sigterm.ends"],
        how: How::Sigterm(Sigterm::Ignore),
    },
    Fault {
        name: "files-left",
        sentence: "Its files are there after it has ended.",
        kinds: ALL,
        cases: &["general.sigterm.files-removed"],
        how: How::Sigterm(Sigterm::LeaveFiles),
    },
    Fault {
        name: "replica-required",
        sentence: "A source does not start where NUMAFLOW_REPLICA is not set.",
        kinds: SOURCE,
        cases: &["source.partitions.replica-unset"],
        how: How::BeforeStart(|_| match env::var_os(REPLICA) {
            Some(_) => Ok(()),
            None => Err(format!("{REPLICA} is not set")),
        }),
    },
    Fault {
        name: "replica-must-be-a-number",
        sentence: "A source does not start where NUMAFLOW_REPLICA is no number.",
        kinds: SOURCE,
        cases: &["source.partitions.replica-invalid"],
        how: How::BeforeStart(|_| match env::var(REPLICA).unwrap_or_default().parse::<u16>() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{REPLICA}: {error}")),
        }),
    },
    Fault {
        name: "replica-ignored",
        sentence: "The partition of a source that names none is 0, whatever NUMAFLOW_REPLICA says.",
        kinds: SOURCE,
        cases: &["source.partitions.replica"],
        how: How::Settings(|settings| settings.replica = Some(0)),
    },
    Fault {
        name: "replica-one-by-default",
        sentence: "Where NUMAFLOW_REPLICA says nothing the partition is 1.",
        kinds: SOURCE,
        cases: &["source.partitions.replica-unset", "source.partitions.replica-invalid"],
        how: How::Settings(|settings| settings.replica = settings.replica.filter(|replica| *replica != 0).or(Some(1))),
    },
    Fault {
        name: "five-hundred-in-flight",
        sentence: "It reads no further with 500 messages in flight.",
        kinds: MAPS,
        cases: &["map.in-flight-500"],
        how: How::Settings(|settings| settings.max_in_flight = Some(500.into())),
    },
    Fault {
        name: "one-at-a-time",
        sentence: "A message, or batch, is taken up when the one before it is done.",
        kinds: MAPS,
        cases: &["map.concurrent"],
        how: How::OneAtATime,
    },
];

/// A server-info file as it has to be.
fn complete(info: &Value) -> String {
    format!("{info}{END_MARKER}")
}

fn with(mut info: Value, key: &str, value: &str) -> String {
    info[key] = value.into();
    complete(&info)
}

fn absent(exists: bool, paths: &Paths) -> Result<(), String> {
    if exists { Err(format!("{}: address in use", paths.socket.display())) } else { Ok(()) }
}
