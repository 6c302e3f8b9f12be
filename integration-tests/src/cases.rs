//! All the cases, by what they are about.

use crate::Case;

mod contract;
mod execution_error;
mod general;
mod map;
mod source;

/// How often a server may be late before it is found to be. A busy machine makes it late, but not every time.
const ATTEMPTS: usize = 3;

/// All cases, in the order they are listed and run in.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [general::CASES, map::CASES, source::CASES].into_iter().flatten().copied().flatten()
}

/// The cases for parts of the handler contract that an SDK may have no means for, by the beginnings of their ids. What a
/// source does not offer is a call that the SDK does not have.
const OPTIONAL: &[&str] =
    &["map.error.", "map.fail", "map.nack", "map.user-metadata", "map.batch.skipped-id", "source."];

impl Case {
    /// Whether the handler contract lets an SDK leave out what the case is about.
    pub(crate) fn is_optional(&self) -> bool {
        OPTIONAL.iter().any(|beginning| self.id.starts_with(beginning))
    }
}

/// The case with this id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Case> {
    all().find(|case| case.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique() {
        let mut seen = HashSet::new();
        for case in super::all() {
            assert!(seen.insert(case.id), "{} twice", case.id);
        }
    }
}
