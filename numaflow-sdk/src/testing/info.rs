//! The server-info file, as the platform reads it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::InfoError;
use crate::MapMode;
use crate::server::info::END_MARKER;

/// The platform looks for a missing file this often, without limit.
const MISSING_PAUSE: Duration = Duration::from_secs(1);
/// The platform reads an incomplete file again after this long, this many times in all.
const INCOMPLETE_PAUSE: Duration = Duration::from_millis(100);
const INCOMPLETE_READS: u32 = 10;

/// What a server says about itself in its server-info file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// `uds` or `tcp`.
    pub protocol: String,
    /// The language of the SDK: `go`, `java`, `python`, `rust`; empty where the file does not say.
    pub language: String,
    /// The lowest platform version that the SDK accepts; empty for any.
    pub minimum_numaflow_version: String,
    /// The version of the SDK.
    pub version: String,
    /// What else it says, such as `MAP_MODE`.
    pub metadata: HashMap<String, String>,
}

impl ServerInfo {
    /// Reads the file once.
    ///
    /// # Errors
    ///
    /// When the file is missing, unfinished or not valid.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, InfoError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        let content = match std::fs::read(path) {
            Ok(content) if content.is_empty() => return Err(InfoError::Missing { path: owned() }),
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(InfoError::Missing { path: owned() });
            }
            Err(source) => return Err(InfoError::Read { path: owned(), source }),
        };
        let json =
            content.strip_suffix(END_MARKER.as_bytes()).ok_or_else(|| InfoError::Incomplete { path: owned() })?;
        Self::parse(json).map_err(|problem| InfoError::Invalid { path: owned(), problem })
    }

    /// Reads the file as the platform does: waits for as long as it takes until it is there, then up to a second until
    /// it is complete.
    ///
    /// # Errors
    ///
    /// When the file stays unfinished, cannot be read or is not valid.
    pub async fn wait(path: impl AsRef<Path>) -> Result<Self, InfoError> {
        let path = path.as_ref();
        let mut incomplete = 0;
        loop {
            match Self::read(path) {
                Err(InfoError::Missing { .. }) => tokio::time::sleep(MISSING_PAUSE).await,
                Err(InfoError::Incomplete { .. }) if incomplete + 1 < INCOMPLETE_READS => {
                    incomplete += 1;
                    tokio::time::sleep(INCOMPLETE_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// The mode of a map, from `MAP_MODE`. Like the platform, takes anything it doesn't know for unary.
    #[must_use]
    pub fn map_mode(&self) -> MapMode {
        match self.metadata.get("MAP_MODE").map(String::as_str) {
            Some("batch-map") => MapMode::Batch,
            Some("stream-map") => MapMode::Stream,
            _ => MapMode::Unary,
        }
    }

    fn parse(json: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let Value::Object(object) = value else {
            return Err("it is not a JSON object".to_owned());
        };
        let metadata = match object.get("metadata") {
            None | Some(Value::Null) => HashMap::new(),
            Some(Value::Object(entries)) => entries
                .keys()
                .map(|key| Ok((key.clone(), text(entries, key)?.unwrap_or_default())))
                .collect::<Result<_, String>>()?,
            Some(_) => return Err("metadata is not an object".to_owned()),
        };
        Ok(Self {
            protocol: text(&object, "protocol")?.unwrap_or_else(|| "uds".to_owned()),
            language: text(&object, "language")?.unwrap_or_default(),
            minimum_numaflow_version: text(&object, "minimum_numaflow_version")?.unwrap_or_default(),
            version: text(&object, "version")?.unwrap_or_default(),
            metadata,
        })
    }
}

fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{key} is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn a_complete_file_is_read() {
        let file = file(
            r#"{"protocol":"uds","language":"go","version":"v0.12.0","extra":1,"metadata":{"MAP_MODE":"batch-map"}}U+005C__END__"#,
        );
        let info = ServerInfo::read(file.path()).unwrap();
        assert_eq!((&*info.protocol, &*info.language, &*info.version), ("uds", "go", "v0.12.0"));
        assert_eq!(info.map_mode(), MapMode::Batch);
    }

    #[test]
    fn what_the_file_leaves_out_has_a_default() {
        let info = ServerInfo::read(file("{\"metadata\":null}U+005C__END__").path()).unwrap();
        assert_eq!((&*info.protocol, &*info.language, info.map_mode()), ("uds", "", MapMode::Unary));
    }

    #[test]
    fn a_newline_after_the_marker_is_an_unfinished_file() {
        let error = ServerInfo::read(file("{}U+005C__END__\n").path()).unwrap_err();
        assert!(matches!(error, InfoError::Incomplete { .. }), "{error}");
    }

    #[test]
    fn a_language_that_is_no_string_is_not_valid() {
        let error = ServerInfo::read(file(r#"{"language":null}U+005C__END__"#).path()).unwrap_err();
        assert!(matches!(error, InfoError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains("language is not a string"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_platform_waits_for_a_missing_file_and_gives_an_unfinished_one_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("info");
        let writer = path.clone();
        let begun = tokio::time::Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(4500)).await;
            std::fs::write(writer, "{}").unwrap();
        });
        let error = ServerInfo::wait(&path).await.unwrap_err();
        assert!(matches!(error, InfoError::Incomplete { .. }), "{error}");
        assert_eq!(begun.elapsed(), Duration::from_millis(5900));
        tasks.join_next().await.unwrap().unwrap();
    }
}
