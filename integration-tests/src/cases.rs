//! All the cases, by what they are about.

use crate::Case;

mod contract;
mod execution_error;
mod general;
mod map;
mod source;

/// All cases, in the order they are listed and run in.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [general::CASES].iter().chain(map::CASES).chain(source::CASES).copied().flatten()
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
