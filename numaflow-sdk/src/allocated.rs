//! What values take on the heap, roughly as allocators hand it out.

use std::collections::HashMap;

/// A block of so many bytes: with its head, in steps of 16, and 32 at the least, as glibc has them.
pub(crate) const fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 32,
        bytes => bytes.saturating_add(8).next_multiple_of(16),
    }
}

/// The table of a map, without what its keys and values point to: a power of two of places, seven in eight of which are
/// filled before it grows, and a byte beside each.
pub(crate) fn table<K, V>(map: &HashMap<K, V>) -> usize {
    let places = match map.capacity() {
        0 => return 0,
        1..=3 => 4,
        4..=7 => 8,
        filled => (filled * 8 / 7).next_power_of_two(),
    };
    block(places * (size_of::<(K, V)>() + 1) + 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_places_for_what_is_in_it() {
        for entries in 0..1000_usize {
            let map: HashMap<usize, [u8; 24]> = (0..entries).map(|entry| (entry, [0; 24])).collect();
            let taken = table(&map);
            assert!(
                taken >= entries * 33 && (entries == 0 || taken <= 33 * 4.max(3 * entries) + 64),
                "{entries}: {taken}"
            );
        }
        assert_eq!([0, 1, 24, 25, 40, 41].map(block), [0, 32, 32, 48, 48, 64]);
    }
}
