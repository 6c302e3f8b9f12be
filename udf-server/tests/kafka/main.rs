//! The Kafka source against an embedded broker, asked as the platform asks: one module a behaviour.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod commits;
mod dead_letters;
#[path = "../support/endpoint.rs"]
mod endpoint;
mod group;
mod harness;
mod lookups;
mod outage;
mod panics;
mod polls;
mod producer;
mod proofs;
mod reads;
mod records;
mod status;
