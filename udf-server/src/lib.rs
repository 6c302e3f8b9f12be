//! The Numaflow sidecar: a Kafka source, maps without code, and a driver that plays the platform.
//!
//! `main.rs` parses and dispatches; everything else is here, within reach of tests. Only `main.rs` hands out the process
//! environment; signals are handled by `numaflow_sdk::run_server_with`.

#[cfg(feature = "kafka")]
mod check_config;
pub mod cli;
pub mod config;
#[cfg(feature = "kafka")]
pub mod demo;
pub mod drive;
pub mod error;
#[cfg(feature = "kafka")]
mod flights_map;
pub mod health;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "kafka")]
mod kafka_reset;
#[cfg(feature = "kafka")]
mod kafka_source;
mod logging;
mod map;
#[cfg(feature = "kafka")]
mod parent;
mod print;
pub mod runtime;
mod serve;
pub mod signals;
#[cfg(feature = "kafka")]
mod used;
mod variables;
