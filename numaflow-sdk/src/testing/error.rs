//! What can go wrong for a client.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use prost::Message as _;
use tonic::{Code, Status};

use crate::pb;

/// Why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens on the socket.
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The HTTP/2 connection cannot be set up, or is gone.
    Http2 {
        /// What the HTTP/2 library says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The call ended with a status other than OK. A connection that breaks during a call ends up here too.
    Status(ServerStatus),
    /// The server did what the protocol forbids.
    Protocol {
        /// What it did.
        problem: String,
    },
    /// The stream takes no more requests: it was closed, by this side or by the server.
    Closed,
}

impl ClientError {
    pub(super) fn http2(source: hyper::Error) -> Self {
        Self::Http2 { source: source.into() }
    }

    pub(super) fn protocol(problem: impl Into<String>) -> Self {
        Self::Protocol { problem: problem.into() }
    }

    /// The status that ended the call, where one did.
    #[must_use]
    pub fn status(&self) -> Option<&ServerStatus> {
        match self {
            Self::Status(status) => Some(status),
            Self::Connect { .. } | Self::Http2 { .. } | Self::Protocol { .. } | Self::Closed => None,
        }
    }

    /// Whether the server broke the protocol, which trying again does not mend.
    #[must_use]
    pub fn is_protocol_violation(&self) -> bool {
        matches!(self, Self::Protocol { .. })
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { path, .. } => write!(f, "cannot connect to the socket {}", path.display()),
            Self::Http2 { .. } => f.write_str("the HTTP/2 connection failed"),
            Self::Status(status) => write!(f, "the server ended the call with {status}"),
            Self::Protocol { problem } => write!(f, "the server broke the protocol: {problem}"),
            Self::Closed => f.write_str("the stream is closed"),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect { source, .. } => Some(source),
            Self::Http2 { source } => Some(&**source),
            Self::Status(_) | Self::Protocol { .. } | Self::Closed => None,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Status(ServerStatus::from(status))
    }
}

/// The gRPC status that ended a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The code's number; 13 is `INTERNAL`.
    pub code: i32,
    /// The code's name.
    pub name: &'static str,
    /// The message.
    pub message: String,
    /// The stack trace or other text for people (`google.rpc.DebugInfo.detail`), where the server sent one.
    pub details: Option<String>,
}

impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl From<Status> for ServerStatus {
    fn from(status: Status) -> Self {
        let mut message = status.message().to_owned();
        // A status that the client library made of a broken connection says why only in its sources, the first of which
        // is often its message.
        let mut source = status.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.ends_with(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Self { code: status.code().into(), name: name(status.code()), message, details: detail(status.details()) }
    }
}

const DEBUG_INFO: &str = "type.googleapis.com/google.rpc.DebugInfo";

fn detail(details: &[u8]) -> Option<String> {
    let status = pb::google::rpc::Status::decode(details).ok()?;
    let any = status.details.iter().find(|any| any.type_url == DEBUG_INFO)?;
    Some(pb::google::rpc::DebugInfo::decode(&any.value[..]).ok()?.detail)
}

const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Why a server-info file cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum InfoError {
    /// It is not there, or empty: the server has not written it yet.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The end marker is not at its end.
    Incomplete {
        /// The file.
        path: PathBuf,
    },
    /// What is before the marker is not what it should be.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for InfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "the server-info file {} is not there yet", path.display()),
            Self::Read { path, .. } => write!(f, "the server-info file {} cannot be read", path.display()),
            Self::Incomplete { path } => {
                write!(f, "the server-info file {} does not end with its end marker", path.display())
            }
            Self::Invalid { path, problem } => {
                write!(f, "the server-info file {} is not valid: {problem}", path.display())
            }
        }
    }
}

impl Error for InfoError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Missing { .. } | Self::Incomplete { .. } | Self::Invalid { .. } => None,
        }
    }
}
