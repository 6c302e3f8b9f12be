//! Apache Kafka itself, one broker or a cluster on this machine, for tests, chaos runs and benchmarks.
//!
//! ```no_run
//! # fn main() -> Result<(), kafka_broker::StartError> {
//! let broker = kafka_broker::Broker::start(kafka_broker::Options::new())?;
//! println!("bootstrap.servers={}", broker.address());
//! # Ok(()) }
//! ```
//!
//! It needs a Java runtime, and for the first start Maven, which fetches Kafka's jars once for the whole workspace. Where
//! either is missing, [`StartError::Unavailable`] says what to do about it, and [`ignored`] tells tests whether to run.
//!
//! [`Broker`] is one broker. [`Cluster`] is several, with a [`proxy::Link`] between any two of them and between each and its
//! clients, which can be cut, stalled, slowed down and left half-open.
//!
//! No broker outlives the process that started it, however that one ends.

mod broker;
mod cluster;
mod error;
mod jars;
mod java;
mod once;
mod options;
mod process;
mod properties;
pub mod proxy;
mod start;

pub use broker::Broker;
pub use cluster::{Channel, Cluster, Way};
pub use error::StartError;
pub use jars::VERSION;
pub use options::{Listener, Options, Security};

/// Whether a test that needs a broker fails where there is none: `REQUIRE_KAFKA` is set, to anything but `0`.
#[must_use]
pub fn required() -> bool {
    std::env::var_os("REQUIRE_KAFKA").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Finds out whether a broker could be started, without starting one. Fetches the jars unless they are there.
///
/// # Errors
///
/// [`StartError::Unavailable`] names what is missing.
pub fn available() -> Result<(), StartError> {
    java::check()?;
    jars::find().map(drop)
}

/// Why tests that need a broker are to be reported as ignored; `None` where they are to run, because there can be a
/// broker, or because one is [`required`] and they have to fail. Fetches the jars unless they are there.
#[must_use]
pub fn ignored() -> Option<String> {
    if required() { None } else { available().err().map(|error| error.to_string()) }
}
