//! The messages that several services share.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Handshake {
    #[prost(bool, tag = "1")]
    pub(crate) sot: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NackOptions {
    #[prost(string, optional, tag = "1")]
    pub(crate) reason: Option<String>,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) max_deliveries: Option<u32>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) delay: Option<u64>,
    #[prost(map = "string, string", tag = "4")]
    pub(crate) nack_map: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    pub(crate) previous_vertex: String,
    #[prost(map = "string, message", tag = "2")]
    pub(crate) sys_metadata: HashMap<String, KeyValueGroup>,
    #[prost(map = "string, message", tag = "3")]
    pub(crate) user_metadata: HashMap<String, KeyValueGroup>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValueGroup {
    #[prost(map = "string, bytes", tag = "1")]
    pub(crate) key_value: HashMap<String, Bytes>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ReadyResponse {
    #[prost(bool, tag = "1")]
    pub(crate) ready: bool,
}
