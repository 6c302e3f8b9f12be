//! Builds the servers, and says how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers::{self, Peer, Server};
use super::{Outcome, say};

/// The command of each peer's server, or why there is none.
pub(super) fn build(peers: &[&Peer]) -> Outcome<Vec<Result<String, String>>> {
    let this = std::env::current_exe()?;
    let profile = this.parent().ok_or("this program is in no folder")?;
    let target = profile.parent().ok_or("this program is in no target folder")?;
    let examples: Vec<&str> = peers.iter().filter_map(|peer| peer.server.example()).collect();
    let scripts: Vec<&str> = peers.iter().filter_map(|peer| peer.server.script()).collect();
    if !examples.is_empty() {
        build_examples(&examples, profile, target)?;
    }
    if !scripts.is_empty() {
        build_scripts(&scripts, target)?;
    }
    let command = |peer: &&Peer| match peer.server {
        Server::Example(name) => Ok(quoted(&profile.join("examples").join(name))),
        Server::Script(name) => {
            let serve = target.join("peers").join(name).join("serve");
            if serve.is_file() { Ok(quoted(&serve)) } else { Err("not built: see above".to_owned()) }
        }
    };
    Ok(peers.iter().map(command).collect())
}

impl Server {
    fn example(self) -> Option<&'static str> {
        match self {
            Self::Example(name) => Some(name),
            Self::Script(_) => None,
        }
    }

    fn script(self) -> Option<&'static str> {
        match self {
            Self::Example(_) => None,
            Self::Script(name) => Some(name),
        }
    }
}

/// In the profile of this program, beside it.
fn build_examples(names: &[&str], profile: &Path, target: &Path) -> Outcome<()> {
    say(&format!("building {}", names.join(", ")));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME")]);
    command.args(names.iter().flat_map(|name| ["--example", name]));
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    command.arg("--target-dir").arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the Rust servers could not be built ({status})").into()) }
}

/// The script says itself what is missing and goes on without it.
fn build_scripts(names: &[&str], target: &Path) -> Outcome<()> {
    let script: PathBuf = peers::folder().join("build");
    say(&format!("building {}", names.join(", ")));
    let status = Command::new(&script)
        .args(names)
        .env("CARGO_TARGET_DIR", target)
        .status()
        .map_err(|error| format!("{} cannot be run: {error}", script.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", script.display()).into()) }
}

/// A path as a word for the shell.
fn quoted(path: &Path) -> String {
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
