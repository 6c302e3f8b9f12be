//! The position of a message in its source.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::pb;

/// The most bytes of an offset that are held in place: as many as fit beside the partition where a longer one has its
/// [`Bytes`]. Copying them costs less than counting a reference to the received buffer, and keeps no buffer in memory.
const INLINE: usize = 34;

/// The position of a message in its source (`source.v1.Offset`): the pair of both is the message's identity, and the
/// same message must always have the same.
///
/// Short offsets are worth having: they are part of the ids that all later stages use. An offset takes 40 bytes of memory;
/// one of more than 34 bytes also keeps the buffer in memory that it was made from or received in.
#[derive(Clone)]
pub struct Offset {
    repr: Repr,
}

#[derive(Clone)]
enum Repr {
    /// The first `length` bytes.
    Inline { partition_id: i32, length: u8, bytes: [u8; INLINE] },
    /// More than [`INLINE`] bytes.
    Shared { partition_id: i32, bytes: Bytes },
}

impl Offset {
    /// Creates an offset from any bytes that are not empty, and a partition.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>, partition_id: u16) -> Self {
        let (bytes, partition_id) = (bytes.into(), partition_id.into());
        Self::inline(&bytes, partition_id).unwrap_or(Self { repr: Repr::Shared { partition_id, bytes } })
    }

    /// The offset whose bytes lie within `buffer`.
    pub(super) fn slice_of(buffer: &Bytes, bytes: &[u8], partition_id: i32) -> Self {
        Self::inline(bytes, partition_id)
            .unwrap_or_else(|| Self { repr: Repr::Shared { partition_id, bytes: buffer.slice_ref(bytes) } })
    }

    /// The bytes, as they were given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.repr {
            Repr::Inline { length, bytes, .. } => &bytes[..usize::from(*length)],
            Repr::Shared { bytes, .. } => bytes,
        }
    }

    /// The partition, as the peer sent it: 0 to 65,535 unless the peer is broken.
    #[must_use]
    pub fn partition_id(&self) -> i32 {
        match self.repr {
            Repr::Inline { partition_id, .. } | Repr::Shared { partition_id, .. } => partition_id,
        }
    }

    fn inline(bytes: &[u8], partition_id: i32) -> Option<Self> {
        let mut inline = [0; INLINE];
        inline.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let length = u8::try_from(bytes.len()).ok()?;
        Some(Self { repr: Repr::Inline { partition_id, length, bytes: inline } })
    }

    pub(super) fn from_wire(wire: &pb::source::v1::Offset) -> Self {
        Self::slice_of(&wire.offset, &wire.offset, wire.partition_id)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn into_wire(self) -> pb::source::v1::Offset {
        let partition_id = self.partition_id();
        let offset = match self.repr {
            Repr::Inline { .. } => Bytes::copy_from_slice(self.as_bytes()),
            Repr::Shared { bytes, .. } => bytes,
        };
        pb::source::v1::Offset { offset, partition_id }
    }

    fn parts(&self) -> (&[u8], i32) {
        (self.as_bytes(), self.partition_id())
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offset")
            .field("bytes", &format_args!("b\"{}\"", self.as_bytes().escape_ascii()))
            .field("partition_id", &self.partition_id())
            .finish()
    }
}

impl PartialEq for Offset {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Offset {}

impl Hash for Offset {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for Offset {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By the bytes, then by the partition.
impl Ord for Offset {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// On both sides of the length at which the representation changes.
    #[test]
    fn an_offset_is_the_same_however_it_is_held() {
        for length in [0, 1, INLINE - 1, INLINE, INLINE + 1, 1 << 20] {
            let buffer = Bytes::from(vec![b'x'; length + 2]);
            let held = Offset::slice_of(&buffer, &buffer[1..=length], 3);
            let owned = Offset::new(vec![b'x'; length], 3);
            assert_eq!((held.as_bytes(), held.partition_id()), (&buffer[1..=length], 3));
            assert_eq!(held, owned);
            assert!(HashSet::from([held.clone()]).contains(&owned));
            assert!(held < Offset::new(vec![b'x'; length], 4) && held < Offset::new(vec![b'y'; length + 1], 0));
            drop(buffer.clone());
            assert_eq!(format!("{held:?}").len(), format!("{owned:?}").len());
            drop((held, owned));
        }
    }

    #[test]
    fn a_short_offset_is_small_and_keeps_no_buffer_in_memory() {
        assert_eq!(size_of::<Offset>(), 40);
        for (length, keeps) in [(INLINE, false), (INLINE + 1, true)] {
            let buffer = Bytes::from(vec![7; 1000]);
            let offset = Offset::slice_of(&buffer, &buffer[..length], 0);
            assert_eq!(buffer.is_unique(), !keeps, "{offset:?}");
        }
    }
}
