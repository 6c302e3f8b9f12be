//! Black-box cases that any Numaflow SDK, in any language, can be graded by.
//!
//! A server under test does what the handler contract (`CONTRACT.md`) says. It is given as a [`Subject`]: a [`Target`] that
//! somebody has started, or the command of one. Each [`Case`] plays the platform against it, over the socket and the files
//! and nothing else, and ends by its own deadline whatever the server does.
//!
//! ```no_run
//! use numaflow_conformance::{Kind, Subject, Target, cases};
//!
//! # async fn example() {
//! let subject = Subject::Running(Target::new(Kind::UnaryMap, "/tmp/map.sock", "/tmp/mapper-server-info"));
//! for case in cases::all().filter(|case| case.applies_to(subject.kind())) {
//!     if let Err(unproven) = case.play(&subject).await.outcome {
//!         eprintln!("{}: {unproven}", case.id);
//!     }
//! }
//! # }
//! ```

#![forbid(unsafe_code)]

mod blocking;
mod case;
pub mod cases;
mod cli;
mod examples;
mod gaps;
#[cfg(feature = "kafka")]
pub mod kafka;
mod matrix;
mod mutants;
mod outcome;
mod program;
mod server;
mod standing;
mod suite;
mod target;
mod wire;

pub use case::{Case, Kind, Level};
pub use cli::main as cli;
pub use matrix::main as matrix;
pub use mutants::main as mutants;
pub use outcome::{Report, Unproven};
pub use suite::Suite;
pub use target::{Subject, Target};
pub use wire::{Frame, Side};
