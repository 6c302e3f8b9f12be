//! All the cases, by what they are about.

use crate::Case;

mod contract;
mod execution_error;
mod general;
mod map;
mod source;

/// All cases, in the order they are listed and run in.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [general::CASES, map::CASES, source::CASES].into_iter().flatten().copied().flatten()
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
