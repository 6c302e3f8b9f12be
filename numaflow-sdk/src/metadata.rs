//! Metadata that travels with a message (`metadata.Metadata` in the protocol).

use std::collections::HashMap;

use bytes::Bytes;

use crate::pb;

type Groups = HashMap<String, HashMap<String, Bytes>>;

/// Metadata that user code owns: values by key, keys by group.
///
/// A map's output carries what [`Message::with_user_metadata`](crate::Message::with_user_metadata) sets and nothing
/// else: the platform does not copy the input's user metadata to the output.
///
/// ```
/// use numaflow_sdk::UserMetadata;
///
/// let mut metadata = UserMetadata::new();
/// metadata.insert("errors", "reason", "no such airport");
/// assert_eq!(metadata.get("errors", "reason").map(|v| &v[..]), Some(&b"no such airport"[..]));
/// assert_eq!(metadata.get("errors", "code"), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserMetadata {
    groups: Groups,
}

impl UserMetadata {
    /// Creates metadata without any group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no group at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The value of `key` in `group`; `None` where either does not exist, which an empty value is not.
    #[must_use]
    pub fn get(&self, group: &str, key: &str) -> Option<&Bytes> {
        self.groups.get(group)?.get(key)
    }

    /// Sets the value of `key` in `group`, making the group where there is none, and returns the value it replaced.
    pub fn insert(
        &mut self,
        group: impl Into<String>,
        key: impl Into<String>,
        value: impl Into<Bytes>,
    ) -> Option<Bytes> {
        self.groups.entry(group.into()).or_default().insert(key.into(), value.into())
    }

    /// Removes `key` from `group` and returns its value. A group that becomes empty goes with it.
    pub fn remove(&mut self, group: &str, key: &str) -> Option<Bytes> {
        let values = self.groups.get_mut(group)?;
        let value = values.remove(key);
        if values.is_empty() {
            self.groups.remove(group);
        }
        value
    }

    /// The names of the groups, in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// The keys and values of `group`, in no particular order; none where there is no such group.
    pub fn entries(&self, group: &str) -> impl Iterator<Item = (&str, &Bytes)> {
        self.groups.get(group).into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }
}

/// Metadata that the platform writes; user code only reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemMetadata {
    groups: Groups,
}

impl SystemMetadata {
    /// The value of `key` in `group`; `None` where either does not exist, which an empty value is not.
    #[must_use]
    pub fn get(&self, group: &str, key: &str) -> Option<&Bytes> {
        self.groups.get(group)?.get(key)
    }

    /// The names of the groups, in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }
}

fn from_wire(groups: HashMap<String, pb::metadata::KeyValueGroup>) -> Groups {
    groups.into_iter().map(|(name, group)| (name, group.key_value)).collect()
}

pub(crate) fn to_wire(groups: UserMetadata) -> HashMap<String, pb::metadata::KeyValueGroup> {
    groups.groups.into_iter().map(|(name, key_value)| (name, pb::metadata::KeyValueGroup { key_value })).collect()
}

/// Everything `metadata.Metadata` holds, taken apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    pub(crate) previous_vertex: String,
    pub(crate) system: SystemMetadata,
    pub(crate) user: UserMetadata,
}

impl From<pb::metadata::Metadata> for Metadata {
    fn from(wire: pb::metadata::Metadata) -> Self {
        Self {
            previous_vertex: wire.previous_vertex,
            system: SystemMetadata { groups: from_wire(wire.sys_metadata) },
            user: UserMetadata { groups: from_wire(wire.user_metadata) },
        }
    }
}

impl UserMetadata {
    /// The wire form of a result's metadata: the platform ignores all but the user's part (protocol: map results).
    pub(crate) fn into_wire(self) -> Option<pb::metadata::Metadata> {
        if self.is_empty() {
            return None;
        }
        Some(pb::metadata::Metadata { user_metadata: to_wire(self), ..Default::default() })
    }
}
