//! The server-info file: what the platform reads before it trusts a server.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::kind::Kind;

/// The last bytes of a complete file; the reader takes a file without them for one still being written.
pub(crate) const END_MARKER: &str = "U+005C__END__";

/// The version that the file claims. Not this crate's own: the platform compares it with the versions of the official
/// SDK (`"language":"rust"`), and refuses, or in a MonoVertex silently bypasses, a server below its minimum. 0.6.0 passes
/// every gate and is above 0.4.0, from which on `NackFn` is called.
pub(crate) const SDK_VERSION: &str = "0.6.0";

/// The content of the file for a server of this kind.
pub(crate) fn content(kind: Kind) -> String {
    let metadata = match kind.map_mode() {
        Some(mode) => serde_json::json!({ "MAP_MODE": mode }),
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

    #[test]
    fn the_file_is_what_the_platform_parses() {
        assert_eq!(
            content(Kind::UnaryMap),
            concat!(
                r#"{"language":"rust","metadata":{"MAP_MODE":"unary-map"},"minimum_numaflow_version":"1.4.0-z","#,
                r#""protocol":"uds","version":"0.6.0"}U+005C__END__"#
            )
        );
        assert!(content(Kind::Source).contains(r#""metadata":{},"#));
    }
}
