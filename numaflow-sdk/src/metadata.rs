//! Metadata that travels with a message (`metadata.Metadata` in the protocol).

use std::collections::HashMap;

use bytes::Bytes;

use crate::allocated::{block, table};
use crate::pb;
use crate::text::Text;

/// Groups by name, each with its values by key. `None` where there is no group at all, which is most often the case and
/// then costs nothing to make, to move and to drop.
type Groups = Option<Box<HashMap<String, HashMap<String, Bytes>>>>;

fn get<'a>(groups: &'a Groups, group: &str, key: &str) -> Option<&'a Bytes> {
    groups.as_ref()?.get(group)?.get(key)
}

fn names(groups: &Groups) -> impl Iterator<Item = &str> {
    groups.iter().flat_map(|groups| groups.keys()).map(String::as_str)
}

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
    pub const fn new() -> Self {
        Self { groups: None }
    }

    /// Whether there is no group at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_none()
    }

    /// The value of `key` in `group`; `None` where either does not exist, which an empty value is not.
    #[must_use]
    pub fn get(&self, group: &str, key: &str) -> Option<&Bytes> {
        get(&self.groups, group, key)
    }

    /// Sets the value of `key` in `group`, making the group where there is none, and returns the value it replaced.
    pub fn insert(
        &mut self,
        group: impl Into<String>,
        key: impl Into<String>,
        value: impl Into<Bytes>,
    ) -> Option<Bytes> {
        self.groups.get_or_insert_default().entry(group.into()).or_default().insert(key.into(), value.into())
    }

    /// Removes `key` from `group` and returns its value. A group that becomes empty goes with it.
    pub fn remove(&mut self, group: &str, key: &str) -> Option<Bytes> {
        let groups = self.groups.as_mut()?;
        let values = groups.get_mut(group)?;
        let value = values.remove(key);
        if values.is_empty() {
            groups.remove(group);
        }
        if groups.is_empty() {
            self.groups = None;
        }
        value
    }

    /// The names of the groups, in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        names(&self.groups)
    }

    /// The keys and values of `group`, in no particular order; none where there is no such group.
    pub fn entries(&self, group: &str) -> impl Iterator<Item = (&str, &Bytes)> {
        self.groups
            .iter()
            .filter_map(move |groups| groups.get(group))
            .flatten()
            .map(|(key, value)| (key.as_str(), value))
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
        get(&self.groups, group, key)
    }

    /// The names of the groups, in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        names(&self.groups)
    }
}

impl UserMetadata {
    /// Puts a whole group in, in place of the one of that name if there is one.
    pub(crate) fn put_group(&mut self, name: String, values: HashMap<String, Bytes>) {
        self.groups.get_or_insert_default().insert(name, values);
    }

    /// All groups with their values, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &HashMap<String, Bytes>)> {
        self.groups.iter().flat_map(|groups| groups.iter()).map(|(name, values)| (name.as_str(), values))
    }

    /// The wire form of a result's metadata: the platform ignores all but the user's part (protocol: map results).
    #[cfg(feature = "testing")]
    pub(crate) fn into_wire(self) -> Option<pb::metadata::Metadata> {
        let user_metadata = to_wire(self);
        if user_metadata.is_empty() {
            return None;
        }
        Some(pb::metadata::Metadata { user_metadata, ..Default::default() })
    }
}

impl SystemMetadata {
    pub(crate) const fn new() -> Self {
        Self { groups: None }
    }

    /// Puts a whole group in, in place of the one of that name if there is one.
    pub(crate) fn put_group(&mut self, name: String, values: HashMap<String, Bytes>) {
        self.groups.get_or_insert_default().insert(name, values);
    }
}

fn from_wire(groups: HashMap<String, pb::metadata::KeyValueGroup>) -> Groups {
    if groups.is_empty() {
        return None;
    }
    Some(Box::new(groups.into_iter().map(|(name, group)| (name, group.key_value)).collect()))
}

#[cfg(feature = "testing")]
fn to_wire(metadata: UserMetadata) -> HashMap<String, pb::metadata::KeyValueGroup> {
    let groups = metadata.groups.into_iter().flat_map(|groups| *groups);
    groups.map(|(name, key_value)| (name, pb::metadata::KeyValueGroup { key_value })).collect()
}

/// Everything `metadata.Metadata` holds, taken apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    pub(crate) previous_vertex: Text,
    pub(crate) system: SystemMetadata,
    pub(crate) user: UserMetadata,
}

impl Metadata {
    /// The memory that it takes besides the bytes that it was received in, roughly.
    pub(crate) fn allocated(&self) -> usize {
        let entry = |(key, _): (&String, &Bytes)| block(key.len());
        let group = |(name, values): (&String, &HashMap<String, Bytes>)| {
            block(name.len()) + table(values) + values.iter().map(entry).sum::<usize>()
        };
        let groups = [&self.system.groups, &self.user.groups].into_iter().flatten();
        groups
            .map(|groups| block(size_of_val(&**groups)) + table(groups) + groups.iter().map(group).sum::<usize>())
            .sum()
    }
}

impl From<pb::metadata::Metadata> for Metadata {
    fn from(wire: pb::metadata::Metadata) -> Self {
        Self {
            previous_vertex: wire.previous_vertex.into(),
            system: SystemMetadata { groups: from_wire(wire.sys_metadata) },
            user: UserMetadata { groups: from_wire(wire.user_metadata) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_emptied_is_as_if_it_had_never_held_anything() {
        let mut metadata = UserMetadata::new();
        metadata.insert("group", "a", "1");
        metadata.insert("group", "b", "2");
        assert_eq!(metadata.remove("group", "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(metadata.remove("group", "a"), None);
        assert!(!metadata.is_empty());
        assert_eq!(metadata.remove("group", "b").as_deref(), Some(&b"2"[..]));
        assert_eq!(metadata.remove("group", "b"), None);
        assert!(metadata.is_empty());
        assert_eq!(metadata, UserMetadata::new());
        assert_eq!((metadata.groups().count(), metadata.entries("group").count()), (0, 0));
    }
}
