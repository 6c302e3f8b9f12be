//! Why there is no broker.

use std::fmt;
use std::io;

/// Why there is no broker.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// This machine cannot run one: no Java, no Maven, or no jars to be had.
    Unavailable {
        /// What is missing and how to get it, in one sentence.
        reason: String,
    },
    /// The broker ended, or was not ready in time.
    Failed {
        /// What became of it.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
    /// The system refused something the broker needs: a file, a process, a port.
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into() }
    }

    /// For `map_err`: an error of the system while `what`.
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { reason } => write!(f, "Apache Kafka cannot run here: {reason}"),
            Self::Failed { problem, log } => write!(f, "the Kafka broker {problem}; its log ends with\n{log}"),
            Self::System { what, .. } => write!(f, "the Kafka broker needs {what}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            Self::Unavailable { .. } | Self::Failed { .. } => None,
        }
    }
}
