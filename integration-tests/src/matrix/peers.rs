//! The implementations that are compared.

use std::path::{Path, PathBuf};

use crate::Kind;

/// A server of the handler contract, written with one SDK.
#[derive(Debug)]
pub(super) struct Peer {
    /// What it is called on the command line and in the table.
    pub(super) name: &'static str,
    /// The package and its version.
    pub(super) package: &'static str,
    /// What it can serve.
    pub(super) kinds: &'static [Kind],
    pub(super) server: Server,
    /// Its list of gaps, below `peers/`.
    gaps: &'static str,
}

/// How its server is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// An example of this package.
    Example(&'static str),
    /// What `peers/build` makes under this name.
    Script(&'static str),
}

/// All of them, in the order of the table.
pub(super) const ALL: &[Peer] = &[
    Peer {
        name: "ours",
        package: concat!("numaflow-sdk ", env!("CARGO_PKG_VERSION")),
        kinds: Kind::ALL,
        server: Server::Example("ours"),
        gaps: "ours/gaps.yaml",
    },
    Peer {
        name: "rust-0.6",
        package: "numaflow 0.6.0 (Rust)",
        kinds: Kind::ALL,
        server: Server::Example("rust-0-6"),
        gaps: "rust-published/gaps-0.6.yaml",
    },
    Peer {
        name: "rust-0.5",
        package: "numaflow 0.5.0 (Rust)",
        kinds: Kind::ALL,
        server: Server::Example("rust-0-5"),
        gaps: "rust-published/gaps-0.5.yaml",
    },
    Peer {
        name: "go",
        package: "numaflow-go v0.12.0",
        kinds: Kind::ALL,
        server: Server::Script("go"),
        gaps: "go/gaps.yaml",
    },
    Peer {
        name: "java",
        package: "numaflow-java 0.9.2",
        kinds: Kind::ALL,
        server: Server::Script("java"),
        gaps: "java/gaps.yaml",
    },
    Peer {
        name: "python",
        package: "pynumaflow 0.14.0, asynchronous",
        kinds: Kind::ALL,
        server: Server::Script("python"),
        gaps: "python/gaps.yaml",
    },
    Peer {
        name: "python-sync",
        package: "pynumaflow 0.14.0, synchronous",
        kinds: &[Kind::UnaryMap],
        server: Server::Script("python-sync"),
        gaps: "python-sync/gaps.yaml",
    },
];

impl Peer {
    /// Whether it is the SDK of this repository.
    pub(super) fn is_ours(&self) -> bool {
        self.name == "ours"
    }

    pub(super) fn gaps_file(&self) -> PathBuf {
        folder().join(self.gaps)
    }
}

/// Where the servers' sources are.
pub(super) fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))
}
