//! The source under test: `udf-server`, as it is now, or with a fault that the run has to find.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use super::Outcome;

/// A fault that can be built into the source, to see that the run finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Seeded {
    /// Commit the largest offset that was acked, whatever came before it
    CommitMaximum,
}

impl Seeded {
    /// The program that has it, which is also the name of the feature.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::CommitMaximum => ("udf-server-commit-maximum", "fault-commit-maximum"),
        }
    }
}

/// Builds the program beside this one, in the same profile, and says where it is.
pub(super) fn build(seeded: Option<Seeded>) -> Outcome<PathBuf> {
    let (name, feature) = seeded.map_or(("udf-server", None), |seeded| {
        let (name, feature) = seeded.program();
        (name, Some(feature))
    });
    let this = std::env::current_exe()?;
    let folder = this.parent().ok_or("this program is in no folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // With the features of the whole workspace, as this program has them: most dependencies are built already.
    command.args(["build", "--quiet", "--workspace", "--bin", name]);
    if folder.ends_with("release") {
        command.arg("--release");
    } else {
        // `cargo test --workspace` has built them with the features that the tests need too. Cargo takes those where an
        // example is built.
        command.args(["--example", "ours"]);
    }
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command.args(feature.map(|feature| format!("--features=udf-server/{feature}")));
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status =
        command.status().map_err(|error| format!("cargo cannot be run to build {name}: {error}; give --server"))?;
    if !status.success() {
        return Err(format!("{name} could not be built ({status}); see above, or give --server").into());
    }
    Ok(folder.join(name))
}
