//! Writes `numaflow-sdk/src/pb/` from the files in `proto/`.
//!
//! Run it as `cargo run -p codegen` after a change in `proto/` and commit what it writes. The compiler is pure Rust, so
//! nobody needs `protoc`, and users of the SDK never run this at all.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

const FILES: [&str; 5] = ["metadata.proto", "nack_options.proto", "map.proto", "source.proto", "rpc_status.proto"];

fn generate(workspace: &Path) -> Result<(), Box<dyn Error>> {
    let protos = workspace.join("proto");
    let output = workspace.join("numaflow-sdk/src/pb");
    std::fs::create_dir_all(&output)?;
    let descriptors = protox::compile(FILES, [&protos])?;
    let mut config = prost_build::Config::new();
    config
        .out_dir(&output)
        // Values stay slices of the buffer they were received in.
        .bytes(["."])
        .include_file("mod.rs")
        // Comments of .proto files are not Rust documentation.
        .disable_comments(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}

fn main() -> ExitCode {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match generate(&workspace) {
        Ok(()) => ExitCode::SUCCESS,
        #[expect(clippy::print_stderr, reason = "a command-line program")]
        Err(error) => {
            eprintln!("codegen: {error}");
            ExitCode::FAILURE
        }
    }
}
