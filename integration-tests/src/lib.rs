//! Black-box cases that any Numaflow SDK, in any language, can be graded by.
//!
//! A server under test does what the handler contract of this package's README says. It is given as a [`Target`]: what
//! it serves, its socket and its server-info file. Each [`Case`] plays the platform against it, over the socket and
//! nothing else, and ends by its own deadline whatever the server does.
//!
//! ```no_run
//! use numaflow_conformance::{Kind, Target, cases};
//!
//! # async fn example() {
//! let target = Target::new(Kind::UnaryMap, "/tmp/map.sock", "/tmp/mapper-server-info");
//! for case in cases::all().filter(|case| case.applies_to(target.kind)) {
//!     if let Err(failure) = case.run(&target).await {
//!         eprintln!("{}: {failure}", case.id);
//!     }
//! }
//! # }
//! ```

#![forbid(unsafe_code)]

mod case;
pub mod cases;
#[cfg(feature = "kafka")]
pub mod kafka;
mod wire;

pub use case::{Case, Failure, Kind, Level, Target};
