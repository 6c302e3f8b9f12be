//! Why a server does not serve.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::server::Drained;

/// Why a server could not be started or could not go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// An option has a value that makes no sense.
    Option {
        /// The option's name, as the method that sets it is called.
        name: &'static str,
        /// What is wrong with the value.
        problem: String,
    },
    /// The socket path is longer than the system allows.
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// The most bytes a path may have.
        limit: usize,
    },
    /// The folder of the socket or the info file cannot be made.
    Directory {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is something at the socket path that is not a socket; it is left alone.
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// There is something at the info file's path that is not an info file; it is left alone.
    NotServerInfo {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens on the socket.
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    Bind {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server-info file cannot be written.
    PublishInfo {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The admin endpoint cannot listen on its address.
    BindAdmin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The environment holds values that cannot be used.
    Environment {
        /// The variables, each with what is wrong with its value.
        problems: Vec<String>,
    },
    /// The program was given arguments, and takes none.
    Arguments {
        /// The arguments, each with what to do instead.
        problems: Vec<String>,
    },
    /// What the program did before serving failed.
    SetUp {
        /// The error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The runtime or the signal handlers cannot be started.
    Runtime {
        /// What the system says.
        source: io::Error,
    },
    /// What was to run when the drain starts ([`Server::on_shutdown`](crate::Server::on_shutdown)) panicked; the server has
    /// drained all the same.
    OnShutdown {
        /// What the panic said, and where it was if that is known.
        message: String,
        /// How the drain went.
        drained: Drained,
    },
    /// Something panicked while the server served, outside of handlers and connections, where a panic is not the
    /// failure of one call: the server has ended without a drain.
    Panicked {
        /// What the panic said, and where it was if that is known.
        message: String,
    },
}

impl ServeError {
    /// Whether the mistake is in what the server was told (a path, an option, the environment) and not in the system.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Option { .. }
            | Self::SocketPathTooLong { .. }
            | Self::Directory { .. }
            | Self::NotASocket { .. }
            | Self::NotServerInfo { .. }
            | Self::Environment { .. }
            | Self::Arguments { .. } => true,
            Self::SocketInUse { .. }
            | Self::Bind { .. }
            | Self::PublishInfo { .. }
            | Self::BindAdmin { .. }
            | Self::SetUp { .. }
            | Self::Runtime { .. }
            | Self::OnShutdown { .. }
            | Self::Panicked { .. } => false,
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option { name, problem } => write!(f, "{name}: {problem}"),
            Self::SocketPathTooLong { path, limit } => write!(
                f,
                "the socket path {} has {} bytes, and the system allows {limit}: choose a shorter one",
                path.display(),
                path.as_os_str().len()
            ),
            Self::Directory { path, .. } => write!(f, "the folder {} cannot be made", path.display()),
            Self::NotASocket { path } => {
                write!(f, "{} is not a socket: move it away or choose another socket path", path.display())
            }
            Self::NotServerInfo { path } => write!(
                f,
                "{} is not a server-info file: move it away or choose another path for the info file",
                path.display()
            ),
            Self::SocketInUse { path } => write!(f, "another process listens on {}", path.display()),
            Self::Bind { path, .. } => write!(f, "the socket {} cannot be made", path.display()),
            Self::PublishInfo { path, .. } => write!(f, "the server-info file {} cannot be written", path.display()),
            Self::BindAdmin { address, .. } => {
                write!(f, "the admin endpoint cannot listen on {address}; give `admin` another address")
            }
            Self::Environment { problems } => write!(f, "in the environment, {}", problems.join("; ")),
            Self::Arguments { problems } => write!(f, "this program takes no arguments: {}", problems.join("; ")),
            Self::SetUp { .. } => f.write_str("the set-up before serving failed"),
            Self::Runtime { .. } => f.write_str("the runtime cannot be started"),
            Self::OnShutdown { message, .. } => {
                write!(f, "the server has drained, but an action of its on_shutdown panicked: {message}")
            }
            Self::Panicked { message } => write!(f, "the server ended without a drain, because it panicked: {message}"),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Directory { source, .. }
            | Self::Bind { source, .. }
            | Self::PublishInfo { source, .. }
            | Self::BindAdmin { source, .. }
            | Self::Runtime { source } => Some(source),
            Self::SetUp { source } => Some(&**source),
            Self::Option { .. }
            | Self::SocketPathTooLong { .. }
            | Self::NotASocket { .. }
            | Self::NotServerInfo { .. }
            | Self::SocketInUse { .. }
            | Self::Environment { .. }
            | Self::Arguments { .. }
            | Self::OnShutdown { .. }
            | Self::Panicked { .. } => None,
        }
    }
}
