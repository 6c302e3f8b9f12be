//! What is in the server-info file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::sleep;

use super::version::{self, Minimum};
use super::{ALL, MAPS};
use crate::case::{Case, Kind, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::source::{Nacked, Offset, nack};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "general.server-info.marker",
        level: Level::Must,
        section: "14.2 Content",
        sentence: "The server-info file is one JSON object, and its last bytes are the end marker.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(marker(target))),
    },
    Case {
        id: "general.server-info.types",
        level: Level::Must,
        section: "14.2 Content",
        sentence: "What the server-info file says is of the JSON types that the platform parses: strings, and metadata of \
                   strings.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(types(target))),
    },
    Case {
        id: "general.server-info.protocol",
        level: Level::Must,
        section: "14.2 Content",
        sentence: "The server-info file of a server on a Unix socket does not send the platform to TCP.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(protocol(target))),
    },
    Case {
        id: "general.server-info.version-gate",
        level: Level::Must,
        section: "14.5 SDK version gate",
        sentence: "Language and version of the server-info file pass the platform's version gate.",
        kinds: ALL,
        recipe: Recipe::Server(|target| Box::pin(version_gate(target))),
    },
    Case {
        id: "map.server-info.map-mode",
        level: Level::Must,
        section: "4.2 Mode selection",
        sentence: "MAP_MODE in the metadata of the server-info file is the mode that is served.",
        kinds: MAPS,
        recipe: Recipe::Server(|target| Box::pin(map_mode(target))),
    },
    Case {
        id: "source.server-info.nack-version",
        level: Level::Should,
        section: "14.5 SDK version gate",
        sentence: "A source that has NackFn says so, by a language and version from which on the platform calls it.",
        kinds: &[Kind::Source],
        recipe: Recipe::Server(|target| Box::pin(nack_version(target))),
    },
];

/// What a complete server-info file ends with.
pub(super) const END_MARKER: &str = "U+005C__END__";

/// The object in the server-info file. It may still be being written: the platform looks as often.
pub(super) async fn server_info(target: &Target) -> Result<Map<String, Value>, Unproven> {
    const READS: usize = 10;
    const PAUSE: Duration = Duration::from_millis(100);
    let path = target.server_info.display();
    let mut content = String::new();
    for _ in 0..READS {
        content = read_file(&target.server_info)
            .map_err(|error| Unproven::broken(format!("a file of UTF-8 at {path}"), error.to_string()))?;
        if content.ends_with(END_MARKER) {
            break;
        }
        sleep(PAUSE).await;
    }
    let json = content
        .strip_suffix(END_MARKER)
        .ok_or_else(|| Unproven::broken(format!("{END_MARKER} as the last bytes of {path}"), format!("{content:?}")))?;
    serde_json::from_str(json).map_err(|error| {
        Unproven::broken(format!("a JSON object before the marker in {path}"), format!("{json:?}: {error}"))
    })
}

/// Reads what is a file, and not something that never ends.
fn read_file(path: &Path) -> io::Result<String> {
    const MOST: u64 = 1 << 20;
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = String::new();
    File::open(path)?.take(MOST).read_to_string(&mut content)?;
    Ok(content)
}

/// What the file says under this key; nothing counts as an empty text, as on the platform.
fn text<'a>(info: &'a Map<String, Value>, key: &str) -> &'a str {
    info.get(key).and_then(Value::as_str).unwrap_or_default()
}

async fn marker(target: &Target) -> Result<(), Unproven> {
    server_info(target).await.map(drop)
}

async fn types(target: &Target) -> Result<(), Unproven> {
    let info = server_info(target).await?;
    for key in ["protocol", "language", "minimum_numaflow_version", "version"] {
        let value = info.get(key);
        check(value.is_none_or(Value::is_string), &format!("text as {key}"), || format!("{value:?}"))?;
    }
    let metadata = info.get("metadata");
    let parsed = match metadata {
        None | Some(Value::Null) => true,
        Some(Value::Object(metadata)) => metadata.values().all(Value::is_string),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => false,
    };
    check(parsed, "metadata with a text for each key", || format!("{metadata:?}"))
}

async fn protocol(target: &Target) -> Result<(), Unproven> {
    let info = server_info(target).await?;
    check(text(&info, "protocol") != "tcp", "the protocol uds", || "tcp".to_owned())
}

async fn version_gate(target: &Target) -> Result<(), Unproven> {
    let info = server_info(target).await?;
    let (language, version) = (text(&info, "language"), text(&info, "version"));
    match version::lowest(language) {
        Some(minimum) if !version.is_empty() => let_through(language, version, minimum),
        // What the platform does not know it does not check.
        _ => Ok(()),
    }
}

fn let_through(language: &str, version: &str, minimum: Minimum) -> Result<(), Unproven> {
    let lowest = minimum.map(|number| number.to_string()).join(".");
    let expected = format!("a version of at least {lowest}, by the rules for the language {language:?}");
    check(version::passes(language, version, minimum), &expected, || format!("{version:?}"))
}

async fn map_mode(target: &Target) -> Result<(), Unproven> {
    let info = server_info(target).await?;
    let written = info.get("metadata").and_then(|metadata| metadata.get("MAP_MODE")).and_then(Value::as_str);
    // What is no mode to the platform is unary to it.
    let understood = match written {
        Some("batch-map") => Kind::BatchMap,
        Some("stream-map") => Kind::StreamMap,
        _ => Kind::UnaryMap,
    };
    check(understood == target.kind, &format!("the MAP_MODE of a {} server", target.kind), || format!("{written:?}"))
}

async fn nack_version(target: &Target) -> Result<(), Unproven> {
    let unknown = Offset { offset: "never delivered".into(), partition_id: 0 };
    nack(&Connection::to(target).await?, vec![Nacked { offsets: vec![unknown], nack_options: None }]).await?;
    let info = server_info(target).await?;
    let (language, version) = (text(&info, "language"), text(&info, "version"));
    let minimum = version::lowest_with_nack(language).ok_or_else(|| {
        Unproven::broken("a language whose sources the platform sends nacks to", format!("{language:?}"))
    })?;
    let_through(language, version, minimum)
}
