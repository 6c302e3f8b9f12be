//! `map.v1.MapRequest` read and `map.v1.MapResponse` written by hand: the two that every message of a map costs.
//!
//! What is read are slices of the received message, and nothing is allocated for what a message does not have. What is
//! written goes straight into the output. Property tests hold both to the generated code.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(super) use decode::{Request, decode};
pub(super) use encode::{encode_answer, encode_end, encode_handshake, encoded_len};
