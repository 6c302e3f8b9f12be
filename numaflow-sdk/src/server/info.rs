//! The server-info file: what the platform reads before it trusts a server.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
    match std::fs::read(path) {
        Ok(content) => Ok(content.is_empty() || content.ends_with(END_MARKER.as_bytes())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
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

/// Writes the file under a name of its own and renames it, so that no reader ever sees half of it.
pub(crate) fn publish(path: &Path, kind: Kind) -> io::Result<()> {
    let temporary = temporary_name(path);
    let write = || -> io::Result<()> {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(content(kind).as_bytes())?;
        // Whatever the umask: the platform may run under another uid.
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // Best effort: the error that matters is the one above.
        drop(std::fs::remove_file(&temporary));
    })
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
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
