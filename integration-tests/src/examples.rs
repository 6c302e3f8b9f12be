//! The servers under test that are examples of this package.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Cargo puts what it builds.
#[derive(Debug)]
pub(crate) struct Folders {
    /// The examples of the profile that this program was built in.
    pub(crate) examples: PathBuf,
    /// All profiles.
    pub(crate) target: PathBuf,
}

impl Folders {
    /// Those of this program, if Cargo has built it.
    pub(crate) fn find() -> io::Result<Self> {
        let this = std::env::current_exe()?;
        let profile = this.parent().ok_or_else(|| io::Error::other("this program is in no folder"))?;
        let target = profile.parent().ok_or_else(|| io::Error::other("this program is in no target folder"))?;
        Ok(Self { examples: profile.join("examples"), target: target.to_owned() })
    }
}

/// Builds these examples, in the profile of this program and with the features of the whole workspace: those that
/// `cargo test --workspace` has built already. Without Kafka, with those of this package alone.
pub(crate) fn build(names: &[&str], folders: &Folders) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    match cfg!(feature = "kafka") {
        true => command.args(["build", "--quiet", "--workspace"]),
        false => command.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--no-default-features"]),
    };
    command.args(names.iter().flat_map(|name| ["--example", name]));
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    command.arg("--target-dir").arg(&folders.target);
    if folders.examples.parent().is_some_and(|profile| profile.ends_with("release")) {
        command.arg("--release");
    }
    let status = command.status().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the Rust servers could not be built ({status})")) }
}

/// A path as a word for the shell.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        let words = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(Path::new("a 'b' $c")))).output();
        assert_eq!(words.unwrap().stdout, b"a 'b' $c");
    }
}
