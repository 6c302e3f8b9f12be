//! Builds the servers, and says how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers::{self, Peer, Server};
use super::{Outcome, say};
use crate::examples::{self, Folders, quoted};

/// The command of each peer's server, or why there is none.
pub(super) fn build(peers: &[&Peer]) -> Outcome<Vec<Result<String, String>>> {
    let folders = Folders::find()?;
    let examples: Vec<&str> = peers.iter().filter_map(|peer| peer.server.example()).collect();
    let scripts: Vec<&str> = peers.iter().filter_map(|peer| peer.server.script()).collect();
    if !examples.is_empty() {
        say(&format!("building {}", examples.join(", ")));
        examples::build(&examples, &folders)?;
    }
    if !scripts.is_empty() {
        build_scripts(&scripts, &folders.target)?;
    }
    let command = |peer: &&Peer| match peer.server {
        Server::Example(name) => Ok(quoted(&folders.examples.join(name))),
        Server::Script(name) => {
            let serve = folders.target.join("peers").join(name).join("serve");
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
