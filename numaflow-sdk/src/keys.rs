//! The keys of a message.

/// A list of keys, of which there is mostly one or none: neither needs a list of its own.
#[derive(Debug, Clone, Default)]
pub(crate) enum Keys {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Keys {
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }

    pub(crate) fn push(&mut self, key: String) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(key),
            Self::One(first) => Self::Many(vec![first, key]),
            Self::Many(mut keys) => {
                keys.push(key);
                Self::Many(keys)
            }
        };
    }
}

impl FromIterator<String> for Keys {
    fn from_iter<I: IntoIterator<Item = String>>(keys: I) -> Self {
        let mut collected = Self::None;
        keys.into_iter().for_each(|key| collected.push(key));
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
        match keys {
            Keys::None => Self::new(),
            Keys::One(key) => vec![key],
            Keys::Many(keys) => keys,
        }
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
    }
}
