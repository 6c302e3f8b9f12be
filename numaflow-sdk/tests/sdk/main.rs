//! The SDK's behaviour through its public API, one module a behaviour.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod adaptive;
mod admin;
mod admin_peers;
mod connections;
mod drain;
mod execution;
mod failures;
mod files;
mod flow;
mod frames;
mod guards;
mod hostile;
mod limits;
mod logged;
mod map;
mod modes;
mod panics;
mod poison;
mod policies;
mod quiet_peers;
mod raw;
mod raw_http2;
mod reads;
mod room;
mod source;
mod source_calls;
mod step;
mod support;
mod tiny_limits;
mod tower_services;
