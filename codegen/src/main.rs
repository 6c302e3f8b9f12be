//! Writes `numaflow-sdk/src/pb/` from the files in `proto/`.
//!
//! Run it as `cargo run -p codegen` after a change in `proto/` and commit what it writes. The compiler is pure Rust, so
//! nobody needs `protoc`, and users of the SDK never run this at all.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const FILES: [&str; 5] = ["metadata.proto", "nack_options.proto", "map.proto", "source.proto", "rpc_status.proto"];

/// The folder of the generated files, in the workspace.
const OUTPUT: &str = "numaflow-sdk/src/pb";

fn generate(workspace: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(output)?;
    let descriptors = protox::compile(FILES, [workspace.join("proto")])?;
    let mut config = prost_build::Config::new();
    config
        .out_dir(output)
        // Values stay slices of the buffer they were received in.
        .bytes(["."])
        .include_file("mod.rs")
        // Comments of .proto files are not Rust documentation.
        .disable_comments(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn main() -> ExitCode {
    let workspace = workspace();
    match generate(&workspace, &workspace.join(OUTPUT)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can read it, it need not be said.
            _ = writeln!(std::io::stderr(), "codegen: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn files(folder: &Path) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }

    #[test]
    fn the_committed_files_are_those_of_the_proto_files() {
        let fresh = tempfile::tempdir().unwrap();
        generate(&workspace(), fresh.path()).unwrap();
        let (fresh, committed) = (files(fresh.path()), files(&workspace().join(OUTPUT)));
        let stale: Vec<&String> =
            fresh.keys().chain(committed.keys()).filter(|name| fresh.get(*name) != committed.get(*name)).collect();
        assert!(stale.is_empty(), "run `cargo run -p codegen` and commit {OUTPUT}; these files differ: {stale:?}");
    }
}
