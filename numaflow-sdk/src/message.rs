//! What a map answers.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use crate::keys::{Key, Keys};
use crate::metadata::UserMetadata;
#[cfg(any(test, feature = "testing"))]
use crate::pb;

/// The tag that discards an output; the input counts as handled (protocol: reserved tags).
const DROP: &str = "U+005C__DROP__";
/// The tag that negatively acknowledges the input (protocol: reserved tags; platform 1.8.2 and later).
const NACK: &str = "U+005C__NACK__";
/// The tag that throws the whole answer away and has the platform send the input again (protocol: reserved tags; platforms
/// later than 1.8.3).
const FAIL: &str = "U+005C__FAIL__";

/// One output of a map (`map.v1.MapResponse.Result` in the protocol).
///
/// The output inherits event time and headers from the input, and nothing else: keys and user metadata are those set here.
///
/// ```
/// use numaflow_sdk::Message;
///
/// let message = Message::new("42").with_keys(["answer"]).with_tags(["even"]);
/// assert_eq!(&message.value()[..], b"42");
/// assert_eq!(message.tags(), ["even"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub(crate) keys: Keys,
    pub(crate) value: Bytes,
    pub(crate) tags: Vec<String>,
    pub(crate) user_metadata: UserMetadata,
    /// Boxed, so that the messages that have none are not larger for it.
    pub(crate) nack_options: Option<Box<NackOptions>>,
}

impl Message {
    /// Creates an output with this value, without keys, tags or metadata.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// Discards the message: nothing goes on to the next vertex, and the input counts as handled.
    #[must_use]
    pub fn to_drop() -> Self {
        Self { tags: vec![DROP.to_owned()], ..Self::default() }
    }

    /// Asks for the input to be delivered again. Outputs of the same input that already left are not taken back.
    ///
    /// Needs platform 1.8.2 or later; an older one passes an empty message tagged `U+005C__NACK__` on.
    #[must_use]
    pub fn to_nack(options: NackOptions) -> Self {
        Self { tags: vec![NACK.to_owned()], nack_options: Some(Box::new(options)), ..Self::default() }
    }

    /// Has the platform throw the whole answer away and send the input again, by the `retryStrategy` of the vertex, or at
    /// once and for ever where there is none. In stream mode, outputs that already left are not taken back.
    ///
    /// Needs a platform later than 1.8.3; an older one passes an empty message tagged `U+005C__FAIL__` on.
    #[must_use]
    pub fn to_fail() -> Self {
        Self { tags: vec![FAIL.to_owned()], ..Self::default() }
    }

    /// Sets the keys. They replace the input's: none set means the output has none.
    #[must_use]
    pub fn with_keys<K: Into<Key>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys = keys.into_iter().collect();
        self
    }

    /// Sets the tags, by which edges of the pipeline choose what they carry.
    #[must_use]
    pub fn with_tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the user metadata. It replaces the input's: none set means the output has none.
    #[must_use]
    pub fn with_user_metadata(mut self, metadata: UserMetadata) -> Self {
        self.user_metadata = metadata;
        self
    }

    /// Removes the user metadata.
    ///
    /// [`MapRequest::into_message`](crate::MapRequest::into_message) keeps the metadata of the input, because an earlier
    /// map's reasons travel in it. The platform pays for metadata with every message, about half of a message's cost for
    /// the first entry, so a map whose followers do not read it removes it.
    ///
    /// ```
    /// use numaflow_sdk::{MapRequest, Message, UserMetadata};
    ///
    /// let mut metadata = UserMetadata::new();
    /// metadata.insert("kafka", "topic", "flights");
    /// let request = MapRequest::new("v").with_user_metadata(metadata);
    /// assert_eq!(request.into_message().without_metadata(), Message::new("v"));
    /// ```
    #[must_use]
    pub fn without_metadata(mut self) -> Self {
        self.user_metadata = UserMetadata::default();
        self
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        self.keys.as_slice()
    }

    /// The tags, the platform's reserved ones included.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The user metadata.
    #[must_use]
    pub fn user_metadata(&self) -> &UserMetadata {
        &self.user_metadata
    }

    /// How the input is to be redelivered, where this message is a nack.
    #[must_use]
    pub fn nack_options(&self) -> Option<&NackOptions> {
        self.nack_options.as_deref()
    }

    /// Whether this is what [`Message::to_drop`] makes.
    #[must_use]
    pub fn is_drop(&self) -> bool {
        self.tags.iter().any(|tag| tag == DROP)
    }

    /// Whether this is what [`Message::to_nack`] makes.
    #[must_use]
    pub fn is_nack(&self) -> bool {
        self.tags.iter().any(|tag| tag == NACK)
    }

    /// Whether this is what [`Message::to_fail`] makes.
    #[must_use]
    pub fn is_fail(&self) -> bool {
        self.tags.iter().any(|tag| tag == FAIL)
    }

    /// Replaces the value and keeps the rest.
    pub fn set_value(&mut self, value: impl Into<Bytes>) {
        self.value = value.into();
    }

    #[cfg(test)]
    pub(crate) fn into_wire(self) -> pb::map::v1::map_response::Result {
        pb::map::v1::map_response::Result {
            keys: self.keys.into(),
            value: self.value,
            tags: self.tags,
            metadata: self.user_metadata.into_wire(),
            nack_options: self.nack_options.map(|options| options.into_wire()),
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn from_wire(wire: pb::map::v1::map_response::Result) -> Self {
        Self {
            keys: wire.keys.into(),
            value: wire.value,
            tags: wire.tags,
            user_metadata: wire.metadata.map(|m| crate::metadata::Metadata::from(m).user).unwrap_or_default(),
            nack_options: wire.nack_options.map(NackOptions::from_wire).map(Box::new),
        }
    }
}

/// How a nacked message is to be redelivered. The source decides what it honours; every field is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NackOptions {
    /// Text for people.
    pub reason: Option<String>,
    /// The most times the message is to be delivered.
    pub max_deliveries: Option<u32>,
    /// How long to wait before the redelivery; whole milliseconds on the wire.
    pub delay: Option<Duration>,
    /// Free-form hints for the source (`nack_map` on the wire).
    pub hints: HashMap<String, String>,
}

impl NackOptions {
    /// Creates options that leave everything to the source.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says why, for people.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Asks for at most this many deliveries.
    #[must_use]
    pub fn with_max_deliveries(mut self, deliveries: u32) -> Self {
        self.max_deliveries = Some(deliveries);
        self
    }

    /// Asks for this much time before the redelivery.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The delay as the wire has it.
    pub(crate) fn delay_millis(&self) -> Option<u64> {
        self.delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn into_wire(self) -> pb::nack_options::NackOptions {
        pb::nack_options::NackOptions {
            delay: self.delay_millis(),
            reason: self.reason,
            max_deliveries: self.max_deliveries,
            nack_map: self.hints,
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn from_wire(wire: pb::nack_options::NackOptions) -> Self {
        Self {
            reason: wire.reason,
            max_deliveries: wire.max_deliveries,
            delay: wire.delay.map(Duration::from_millis),
            hints: wire.nack_map,
        }
    }
}

/// The outputs of one input: none, one or many. One costs no allocation.
///
/// Made from a [`Message`], an `Option` of one, a `Vec` or any iterator of them.
#[derive(Debug, Clone, Default)]
pub struct Messages {
    repr: Repr,
}

#[derive(Debug, Clone, Default)]
enum Repr {
    #[default]
    None,
    One(Message),
    Many(Vec<Message>),
}

impl Messages {
    /// No output: the input counts as handled and nothing goes on.
    #[must_use]
    pub const fn none() -> Self {
        Self { repr: Repr::None }
    }

    /// The outputs, in their order.
    pub(crate) fn as_slice(&self) -> &[Message] {
        match &self.repr {
            Repr::None => &[],
            Repr::One(message) => std::slice::from_ref(message),
            Repr::Many(messages) => messages,
        }
    }

    #[cfg(test)]
    pub(crate) fn into_wire(self) -> Vec<pb::map::v1::map_response::Result> {
        match self.repr {
            Repr::None => Vec::new(),
            Repr::One(message) => vec![message.into_wire()],
            Repr::Many(messages) => messages.into_iter().map(Message::into_wire).collect(),
        }
    }
}

impl FromIterator<Message> for Messages {
    fn from_iter<I: IntoIterator<Item = Message>>(messages: I) -> Self {
        Self { repr: Repr::Many(messages.into_iter().collect()) }
    }
}

/// What a map may answer with: a [`Message`], an `Option<Message>`, a `Vec<Message>`, an array of them or [`Messages`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a map can answer with",
    note = "answer with `Ok` of a `Message`, an `Option<Message>`, a `Vec<Message>` or `Messages`"
)]
pub trait IntoMessages {
    /// Turns the answer into messages.
    fn into_messages(self) -> Messages;
}

impl IntoMessages for Messages {
    fn into_messages(self) -> Messages {
        self
    }
}

impl IntoMessages for Message {
    fn into_messages(self) -> Messages {
        Messages { repr: Repr::One(self) }
    }
}

impl IntoMessages for Option<Message> {
    fn into_messages(self) -> Messages {
        self.map_or(Messages::none(), Message::into_messages)
    }
}

impl IntoMessages for Vec<Message> {
    fn into_messages(self) -> Messages {
        Messages { repr: Repr::Many(self) }
    }
}

impl<const N: usize> IntoMessages for [Message; N] {
    fn into_messages(self) -> Messages {
        self.into_iter().collect()
    }
}

impl From<Message> for Messages {
    fn from(message: Message) -> Self {
        message.into_messages()
    }
}

impl From<Option<Message>> for Messages {
    fn from(message: Option<Message>) -> Self {
        message.into_messages()
    }
}

impl From<Vec<Message>> for Messages {
    fn from(messages: Vec<Message>) -> Self {
        messages.into_messages()
    }
}
