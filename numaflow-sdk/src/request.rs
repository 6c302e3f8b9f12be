//! What a map is given.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::SystemTime;

use bytes::Bytes;

use crate::Message;
use crate::allocated::{block, table};
use crate::keys::{Key, Keys};
use crate::metadata::{Metadata, SystemMetadata, UserMetadata};
use crate::text::Text;
#[cfg(feature = "testing")]
use crate::{pb, time};

static NO_HEADERS: LazyLock<HashMap<String, String>> = LazyLock::new(HashMap::new);
static NO_SYSTEM_METADATA: SystemMetadata = SystemMetadata::new();
static NO_USER_METADATA: UserMetadata = UserMetadata::new();

/// One message, as a map receives it (`map.v1.MapRequest` in the protocol).
///
/// Made by the server from what the platform sends; [`MapRequest::new`] and the `with_` methods make one for a test.
#[derive(Clone, Default)]
pub struct MapRequest {
    /// One pointer to all of it: a request moves a dozen times, into the future of its handler and out of it again, which
    /// would cost more than the box.
    parts: Box<Parts>,
}

/// What a request consists of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub(crate) id: Text,
    pub(crate) keys: Keys,
    pub(crate) value: Bytes,
    pub(crate) event_time: Option<SystemTime>,
    pub(crate) watermark: Option<SystemTime>,
    /// Only where there is any of it: most messages have none, and then it costs nothing to make and to drop.
    pub(crate) attached: Option<Box<Attached>>,
}

impl From<Parts> for MapRequest {
    fn from(parts: Parts) -> Self {
        Self { parts: Box::new(parts) }
    }
}

impl fmt::Debug for MapRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { id, keys, value, event_time, watermark, attached } = &*self.parts;
        f.debug_struct("MapRequest")
            .field("id", id)
            .field("keys", &keys.as_slice())
            .field("value", value)
            .field("event_time", event_time)
            .field("watermark", watermark)
            .field("attached", attached)
            .finish()
    }
}

/// What earlier vertices attached to a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attached {
    pub(crate) headers: HashMap<String, String>,
    pub(crate) metadata: Metadata,
}

impl Attached {
    fn allocated(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| block(name.len()) + block(value.len())).sum();
        block(size_of::<Self>()) + table(&self.headers) + headers + self.metadata.allocated()
    }
}

impl MapRequest {
    /// Creates a request with this value and nothing else.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Parts { value: value.into(), ..Parts::default() }.into()
    }

    /// Sets the keys.
    #[must_use]
    pub fn with_keys<K: Into<Key>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.parts.keys = keys.into_iter().collect();
        self
    }

    /// Sets the event time.
    #[must_use]
    pub fn with_event_time(mut self, event_time: SystemTime) -> Self {
        self.parts.event_time = Some(event_time);
        self
    }

    /// Sets the watermark.
    #[must_use]
    pub fn with_watermark(mut self, watermark: SystemTime) -> Self {
        self.parts.watermark = Some(watermark);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attached_mut().headers.insert(name.into(), value.into());
        self
    }

    /// Sets the user metadata.
    #[must_use]
    pub fn with_user_metadata(mut self, metadata: UserMetadata) -> Self {
        self.attached_mut().metadata.user = metadata;
        self
    }

    /// The platform's name for this message: opaque, never empty, the same again when the message is delivered again.
    /// Good for a log line; not to be parsed, and not to be used for removing duplicates over time.
    #[must_use]
    pub fn id(&self) -> &str {
        self.parts.id.as_str()
    }

    /// The keys, as the source or the vertex before set them; often empty.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        self.parts.keys.as_slice()
    }

    /// The value. A slice of the buffer it was received in: cloning it copies nothing.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.parts.value
    }

    /// Takes the value out of the request.
    #[must_use]
    pub fn into_value(self) -> Bytes {
        self.parts.value
    }

    /// When the message happened; `None` where the platform sent none, or one that no clock can hold.
    #[must_use]
    pub fn event_time(&self) -> Option<SystemTime> {
        self.parts.event_time
    }

    /// Up to when the vertex has seen everything; `None` in a MonoVertex and where watermarks are off.
    #[must_use]
    pub fn watermark(&self) -> Option<SystemTime> {
        self.parts.watermark
    }

    /// The headers, set by the source and the same all the way through the pipeline.
    #[must_use]
    pub fn headers(&self) -> &HashMap<String, String> {
        self.parts.attached.as_ref().map_or(&*NO_HEADERS, |attached| &attached.headers)
    }

    /// Metadata that earlier user code attached.
    #[must_use]
    pub fn user_metadata(&self) -> &UserMetadata {
        self.parts.attached.as_ref().map_or(&NO_USER_METADATA, |attached| &attached.metadata.user)
    }

    /// Metadata that the platform attached.
    #[must_use]
    pub fn system_metadata(&self) -> &SystemMetadata {
        self.parts.attached.as_ref().map_or(&NO_SYSTEM_METADATA, |attached| &attached.metadata.system)
    }

    /// The vertex that produced this message; empty inside one vertex.
    #[must_use]
    pub fn previous_vertex(&self) -> &str {
        self.parts.attached.as_ref().map_or("", |attached| attached.metadata.previous_vertex.as_str())
    }

    /// The message that passes this request on as it is: value, keys and user metadata. An output carries only what it is
    /// given, so a map that leaves keys alone says so with this. Metadata that no later vertex reads is better dropped, as
    /// it is the most expensive part of a message: see [`Message::without_metadata`].
    ///
    /// ```
    /// use numaflow_sdk::{MapRequest, Message};
    ///
    /// let request = MapRequest::new("v").with_keys(["k"]);
    /// assert_eq!(request.into_message(), Message::new("v").with_keys(["k"]));
    /// ```
    #[must_use]
    pub fn into_message(self) -> Message {
        let Parts { keys, value, attached, .. } = *self.parts;
        let user_metadata = attached.map(|attached| attached.metadata.user).unwrap_or_default();
        Message { keys, value, user_metadata, ..Message::default() }
    }

    /// What earlier vertices attached, to be added to.
    pub(crate) fn attached_mut(&mut self) -> &mut Attached {
        self.parts.attached.get_or_insert_default()
    }

    /// The memory that it takes besides the bytes that it was received in, roughly: lists, tables, and copies of names.
    pub(crate) fn allocated(&self) -> usize {
        let Parts { keys, attached, .. } = &*self.parts;
        keys.allocated() + attached.as_ref().map_or(0, |attached| attached.allocated())
    }

    #[cfg(test)]
    pub(crate) fn has_nothing_attached(&self) -> bool {
        self.parts.attached.is_none()
    }

    /// What the generated code has read, as this module holds it.
    #[cfg(test)]
    pub(crate) fn from_wire(id: String, wire: pb::map::v1::map_request::Request) -> Self {
        let mut request: Self = Parts {
            id: id.into(),
            keys: wire.keys.into(),
            value: wire.value,
            event_time: wire.event_time.and_then(time::from_wire),
            watermark: wire.watermark.and_then(time::from_wire),
            attached: None,
        }
        .into();
        if !wire.headers.is_empty() {
            request.attached_mut().headers = wire.headers;
        }
        if let Some(metadata) = wire.metadata {
            request.attached_mut().metadata = metadata.into();
        }
        request
    }

    #[cfg(feature = "testing")]
    pub(crate) fn into_wire(self) -> pb::map::v1::map_request::Request {
        let parts = *self.parts;
        let Attached { headers, metadata } = parts.attached.map(|attached| *attached).unwrap_or_default();
        pb::map::v1::map_request::Request {
            keys: parts.keys.into(),
            value: parts.value,
            event_time: parts.event_time.map(time::to_wire),
            watermark: parts.watermark.map(time::to_wire),
            headers,
            metadata: metadata.user.into_wire(),
        }
    }
}
