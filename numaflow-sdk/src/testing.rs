//! The platform's side of the protocol, for tests and tools (feature `testing`).
//!
//! [`map()`] and [`source()`] serve a handler in the process, so that a test drives it through the whole protocol:
//!
//! ```
//! use numaflow_sdk::{MapRequest, Message, map, testing};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), testing::ClientError> {
//! let upper = map::from_fn(async |r: MapRequest| Ok(Message::new(r.value().to_ascii_uppercase())));
//! let mut stream = testing::map(upper).await?.open().await?;
//! assert_eq!(stream.map(MapRequest::new("hello")).await?, [Message::new("HELLO")]);
//! # Ok(())
//! # }
//! ```
//!
//! [`MapClient`] and [`SourceClient`] do what Numaflow does to a map and to a source: over the Unix socket of a running
//! server, or over any byte stream, such as an in-memory duplex. They speak to a server in any language.
//!
//! They do one call at a time and as told. How the platform puts calls together (one mailbox, redrive, retries) is not
//! here: `udf-server drive` is the tool for that.

mod codec;
mod connection;
mod error;
mod info;
mod map;
mod source;

use tokio::io::DuplexStream;

use crate::map::Mapper;
use crate::source::Sourcer;
use crate::{Server, Service};

pub use crate::MapMode;
pub use codec::MOST_OUTPUTS;
pub use connection::Connection;
pub use error::{ClientError, InfoError, ServerStatus};
pub use info::ServerInfo;
pub use map::{MapAnswer, MapClient, MapPermit, MapReceiver, MapSender, MapStream};
pub use source::{AckStream, ReadEvent, ReadStream, SourceClient};

/// What the in-memory connection holds before the writing side waits.
const DUPLEX_CAPACITY: usize = 64 << 10;

/// Serves a map in this process and connects to it.
///
/// # Errors
///
/// When the connection cannot be set up.
///
/// # Panics
///
/// Outside a tokio runtime.
pub async fn map(mapper: impl Mapper) -> Result<MapClient, ClientError> {
    MapClient::over(serve(Server::new(crate::map::service(mapper)))).await
}

/// Serves a source in this process and connects to it.
///
/// # Errors
///
/// When the connection cannot be set up.
///
/// # Panics
///
/// Outside a tokio runtime.
pub async fn source(sourcer: impl Sourcer) -> Result<SourceClient, ClientError> {
    SourceClient::over(serve(Server::new(crate::source::service(sourcer)))).await
}

/// Serves one connection of this server in the process, without socket and info file, and returns the platform's end of
/// it. For a server with options of its own; [`map()`] and [`source()`] do the common case.
///
/// # Panics
///
/// Outside a tokio runtime.
#[must_use]
pub fn serve<S: Service>(server: Server<S>) -> DuplexStream {
    let (platform, user) = tokio::io::duplex(DUPLEX_CAPACITY);
    // The task ends with the connection. A server whose options are wrong closes it at once.
    #[expect(clippy::disallowed_methods, reason = "the test ends it by dropping its end")]
    drop(tokio::spawn(server.serve_connection(user)));
    platform
}
