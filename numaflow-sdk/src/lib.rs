//! Write Numaflow maps and sources in Rust.
#![forbid(unsafe_code)]

mod error;
pub mod map;
mod message;
mod metadata;
mod request;
pub mod source;
mod time;

/// Generated from `proto/` by `codegen/`.
#[expect(
    missing_docs,
    unreachable_pub,
    clippy::doc_markdown,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod pb;
