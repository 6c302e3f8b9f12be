//! What a map is given.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;

use crate::metadata::{Metadata, SystemMetadata, UserMetadata};
use crate::{Message, pb, time};

/// One message, as a map receives it (`map.v1.MapRequest` in the protocol).
///
/// Made by the server from what the platform sends; [`MapRequest::new`] and the `with_` methods make one for a test.
#[derive(Debug, Clone, Default)]
pub struct MapRequest {
    id: String,
    keys: Vec<String>,
    value: Bytes,
    event_time: Option<SystemTime>,
    watermark: Option<SystemTime>,
    headers: HashMap<String, String>,
    metadata: Metadata,
}

impl MapRequest {
    /// Creates a request with this value and nothing else.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// Sets the keys.
    #[must_use]
    pub fn with_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the event time.
    #[must_use]
    pub fn with_event_time(mut self, event_time: SystemTime) -> Self {
        self.event_time = Some(event_time);
        self
    }

    /// Sets the watermark.
    #[must_use]
    pub fn with_watermark(mut self, watermark: SystemTime) -> Self {
        self.watermark = Some(watermark);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the user metadata.
    #[must_use]
    pub fn with_user_metadata(mut self, metadata: UserMetadata) -> Self {
        self.metadata.user = metadata;
        self
    }

    /// The platform's name for this message: opaque, never empty, the same again when the message is delivered again.
    /// Good for a log line; not to be parsed, and not to be used for removing duplicates over time.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The keys, as the source or the vertex before set them; often empty.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The value. A slice of the buffer it was received in: cloning it copies nothing.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Takes the value out of the request.
    #[must_use]
    pub fn into_value(self) -> Bytes {
        self.value
    }

    /// When the message happened; `None` where the platform sent none, or one that no clock can hold.
    #[must_use]
    pub fn event_time(&self) -> Option<SystemTime> {
        self.event_time
    }

    /// Up to when the vertex has seen everything; `None` in a MonoVertex and where watermarks are off.
    #[must_use]
    pub fn watermark(&self) -> Option<SystemTime> {
        self.watermark
    }

    /// The headers, set by the source and the same all the way through the pipeline.
    #[must_use]
    pub fn headers(&self) -> &HashMap<String, String> {
        &self.headers
    }

    /// Metadata that earlier user code attached.
    #[must_use]
    pub fn user_metadata(&self) -> &UserMetadata {
        &self.metadata.user
    }

    /// Metadata that the platform attached.
    #[must_use]
    pub fn system_metadata(&self) -> &SystemMetadata {
        &self.metadata.system
    }

    /// The vertex that produced this message; empty inside one vertex.
    #[must_use]
    pub fn previous_vertex(&self) -> &str {
        &self.metadata.previous_vertex
    }

    /// The message that passes this request on as it is: value, keys and user metadata. An output carries only what it is
    /// given, so a map that leaves keys alone says so with this.
    ///
    /// ```
    /// use numaflow_sdk::{MapRequest, Message};
    ///
    /// let request = MapRequest::new("v").with_keys(["k"]);
    /// assert_eq!(request.into_message(), Message::new("v").with_keys(["k"]));
    /// ```
    #[must_use]
    pub fn into_message(self) -> Message {
        Message::new(self.value).with_keys(self.keys).with_user_metadata(self.metadata.user)
    }

    pub(crate) fn from_wire(id: String, wire: pb::map::v1::map_request::Request) -> Self {
        Self {
            id,
            keys: wire.keys,
            value: wire.value,
            event_time: wire.event_time.and_then(time::from_wire),
            watermark: wire.watermark.and_then(time::from_wire),
            headers: wire.headers,
            metadata: wire.metadata.map(Metadata::from).unwrap_or_default(),
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn into_wire(self) -> pb::map::v1::map_request::Request {
        pb::map::v1::map_request::Request {
            keys: self.keys,
            value: self.value,
            event_time: self.event_time.map(time::to_wire),
            watermark: self.watermark.map(time::to_wire),
            headers: self.headers,
            metadata: self.metadata.user.into_wire(),
        }
    }
}
