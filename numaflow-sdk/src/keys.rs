//! The keys of a message.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use crate::text::Text;

/// A key of a message: a `str` that is held where it was received, so that a map which passes keys on, or looks at none of
/// them, does not pay for a `String` each. Cloning it never allocates.
///
/// A long key (above 32 bytes) keeps what it was received in, which may be much larger, from being freed: to keep one for
/// longer than the message, as the key of a map of counts, make a `String` of it.
///
/// ```
/// use numaflow_sdk::MapRequest;
///
/// let request = MapRequest::new("v").with_keys(["a", "b"]);
/// assert_eq!(request.keys(), ["a", "b"]);
/// assert_eq!(request.keys().join("/"), "a/b");
/// assert!(request.keys()[0].starts_with('a'));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Key(Text);

impl Key {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// As a `str`, which a key can be looked up by.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq<str> for Key {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Key {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<String> for Key {
    fn eq(&self, other: &String) -> bool {
        self == other.as_str()
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self(key.into())
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl From<&String> for Key {
    fn from(key: &String) -> Self {
        key.as_str().into()
    }
}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl From<Text> for Key {
    fn from(key: Text) -> Self {
        Self(key)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.as_str().to_owned()
    }
}

impl From<&Key> for String {
    fn from(key: &Key) -> Self {
        key.as_str().to_owned()
    }
}

/// A list of keys, of which there is mostly one or none: neither needs a list of its own.
#[derive(Debug, Clone, Default)]
pub(crate) enum Keys {
    #[default]
    None,
    One(Key),
    Many(Vec<Key>),
}

impl Keys {
    pub(crate) fn as_slice(&self) -> &[Key] {
        match self {
            Self::None => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }

    /// The memory that the list takes besides the texts. With what it left behind when it grew, it is more than its places.
    pub(crate) fn allocated(&self) -> usize {
        /// What a place takes.
        const PLACE: usize = 64;
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(keys) => keys.capacity() * PLACE,
        }
    }

    pub(crate) fn push(&mut self, key: Key) {
        match self {
            Self::None => *self = Self::One(key),
            Self::One(first) => *self = Self::Many(vec![std::mem::take(first), key]),
            Self::Many(keys) => keys.push(key),
        }
    }
}

impl<K: Into<Key>> FromIterator<K> for Keys {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut collected = Self::None;
        keys.into_iter().for_each(|key| collected.push(key.into()));
        collected
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Keys {}

impl From<Vec<String>> for Keys {
    fn from(keys: Vec<String>) -> Self {
        keys.into_iter().collect()
    }
}

impl From<Keys> for Vec<String> {
    fn from(keys: Keys) -> Self {
        keys.as_slice().iter().map(String::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_a_list(keys in prop::collection::vec(".{0,3}", 0..4)) {
            let collected: Keys = keys.clone().into();
            prop_assert_eq!(collected.as_slice(), &keys[..]);
            prop_assert_eq!(Vec::from(collected), keys);
        }

        /// A key is looked up, sorted and hashed as the text that it is.
        #[test]
        fn a_key_is_a_str(texts in prop::collection::vec("[aü]{0,40}", 0..20)) {
            let keys: std::collections::HashSet<Key> = texts.iter().map(Key::from).collect();
            prop_assert!(texts.iter().all(|text| keys.contains(text.as_str())));
            let (mut sorted, mut expected): (Vec<Key>, _) = (texts.iter().map(Key::from).collect(), texts);
            sorted.sort();
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }
}
