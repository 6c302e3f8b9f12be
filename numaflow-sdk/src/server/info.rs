//! The server-info file: what the platform reads before it trusts a server.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::kind::Kind;

/// The last bytes of a complete file; the reader takes a file without them for one still being written.
pub(crate) const END_MARKER: &str = "U+005C__END__";

/// The version that the file claims. Not this crate's own: the platform compares it with the versions of the official
/// SDK (`"language":"rust"`), and refuses, or in a MonoVertex silently bypasses, a server below its minimum. 0.6.0 passes
/// every gate and is above 0.4.0, from which on `NackFn` is called.
pub(crate) const SDK_VERSION: &str = "0.6.0";

/// The permissions of the file: anyone may read it.
const MODE: u32 = 0o644;

/// Whether a file may be replaced by a server's: it has the name that these files have, or it is one, or it is empty.
pub(crate) fn is_replaceable(path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("server-info")) {
        return Ok(true);
    }
    match std::fs::metadata(path) {
        // Nothing else is opened: the open of a FIFO waits for a writer, and a device may have no end.
        Ok(metadata) if metadata.is_file() => is_ours_or_empty(path),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads no more than the end of a file: it may be of any size.
fn is_ours_or_empty(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let marker = END_MARKER.len() as u64;
    file.seek(SeekFrom::Start(length.saturating_sub(marker)))?;
    let mut end = Vec::new();
    file.take(marker).read_to_end(&mut end)?;
    Ok(length == 0 || end == END_MARKER.as_bytes())
}

/// The content of the file for a server of this kind.
pub(crate) fn content(kind: Kind) -> String {
    let metadata = match kind.map_mode() {
        Some(mode) => serde_json::json!({ "MAP_MODE": mode.to_string() }),
        None => serde_json::json!({}),
    };
    let info = serde_json::json!({
        "protocol": "uds",
        "language": "rust",
        "minimum_numaflow_version": kind.minimum_numaflow_version(),
        "version": SDK_VERSION,
        "metadata": metadata,
    });
    format!("{info}{END_MARKER}")
}

/// Writes the file under a name of its own and renames it, so that no reader ever sees half of it. Returns the file.
///
/// The name cannot be guessed and the file is created exclusively. Others may write to the folder, which the containers of
/// a pod share: with a name that is known before, a symbolic link put there would have the file that it points to
/// overwritten. The rename replaces a link at `path` and leaves the file that it points to alone.
pub(crate) fn publish(path: &Path, kind: Kind) -> io::Result<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    // Removed when it is dropped, unless it has got its name.
    let mut file = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(directory)?;
    file.write_all(content(kind).as_bytes())?;
    // Whatever the umask: the platform may run under another uid.
    file.as_file().set_permissions(Permissions::from_mode(MODE))?;
    Ok(file.persist(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MapMode;

    #[test]
    fn the_file_is_what_the_platform_parses() {
        assert_eq!(
            content(Kind::Map(MapMode::Unary)),
            concat!(
                r#"{"language":"rust","metadata":{"MAP_MODE":"unary-map"},"minimum_numaflow_version":"1.4.0-z","#,
                r#""protocol":"uds","version":"0.6.0"}U+005C__END__"#
            )
        );
        assert!(content(Kind::Source).contains(r#""metadata":{},"#));
    }
}
