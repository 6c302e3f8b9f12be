//! Write Numaflow maps and sources in Rust.
//!
//! [Numaflow](https://numaflow.numaproj.io) runs pipelines on Kubernetes. User code runs in a container beside the
//! platform's own, which dials a Unix socket and speaks gRPC. This crate is the other end of that socket: it takes a
//! closure or a type and does the rest, from the handshake to the drain.
//!
//! ```no_run
//! use numaflow_sdk::{MapRequest, Message, map};
//!
//! fn main() -> std::process::ExitCode {
//!     numaflow_sdk::run(map::service(map::from_fn(async |request: MapRequest| {
//!         Ok(Message::new(request.value().to_ascii_uppercase()))
//!     })))
//! }
//! ```
//!
//! | To | see |
//! | --- | --- |
//! | turn messages into messages | [`map`], [`map::Mapper`], [`map::from_fn`] |
//! | work with JSON values instead of bytes | [`map::typed`] (feature `serde`, on by default) |
//! | produce messages | [`source`], [`source::Sourcer`] |
//! | run as a program | [`run`], [`run_with`] |
//! | serve with your own runtime and signals | [`Server`] |
//! | see what a server does, and what it hangs on | [`Server::admin`] (feature `admin`), [`Server::slow_after`] |
//! | add to what it shows | [`Server::metrics_from`], [`Server::admin_page`], [`Server::ready_when`] |
//! | see what goes wrong, and log without waiting | [`logging`] |
//! | test a handler through the whole protocol | the module `testing` (feature `testing`) |
//!
//! No type of the gRPC stack is part of this crate's API; of other crates there are `bytes::Bytes`, and serde's traits for
//! typed maps.

#![forbid(unsafe_code)]

mod additions;
#[cfg(feature = "admin")]
mod admin;
mod allocated;
mod error;
mod field;
mod frame;
mod in_flight;
mod keys;
mod kind;
mod limit;
pub mod logging;
pub mod map;
mod message;
mod metadata;
mod metrics;
mod panic;
mod request;
mod requests;
mod run;
mod server;
mod service;
mod settings;
mod signals;
pub mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod throttle;
mod time;
mod unary;

pub use additions::AdminPage;
pub use error::{HandlerError, ServeError};
pub use in_flight::Stage;
pub use keys::Key;
pub use kind::{Kind, MapMode};
pub use limit::{MaxInFlight, default_max_in_flight_bytes};
pub use message::{IntoMessages, Message, Messages, NackOptions};
pub use metadata::{SystemMetadata, UserMetadata};
pub use metrics::text::{Family, MetricsText};
pub use request::MapRequest;
pub use run::{run, run_server_with, run_with};
pub use server::{AbandonedMessage, Bound, Description, Drained, Draining, Server, check_socket_path};
pub use service::Service;
pub use settings::{Environment, ProcessEnvironment, Settings, parse_duration, parse_size};
pub use signals::stop_signals;

/// Generated from `proto/` by `codegen/`.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated code")]
mod pb;

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
