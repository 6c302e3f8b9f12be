//! What somebody who operates a Kafka source runs beside it: checks, resets, and other runtimes in its place.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod aborts;
mod check_config;
mod harness;
mod on_call;
mod print;
mod reset;
mod runtime;
