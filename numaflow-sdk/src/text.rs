//! Text as it was received, without a `String` for each.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// The longest text that is held in place. Ids of the platform (vertex, offset in base64, partition, index) mostly fit.
/// Copying so few bytes costs less than counting one more reference to the receive buffer, and keeps no buffer alive.
const INLINE: usize = 32;

/// UTF-8 text that is never changed: in place where it is short, else a slice of the buffer it was received in. Cloning
/// it never allocates.
#[derive(Clone)]
pub(crate) struct Text {
    repr: Repr,
}

/// Made of whole words, its tag included, so that a text which was just written moves on at once: where a move reads over
/// the edge of two writes, as it does with smaller parts, the processor waits until both are done.
#[derive(Clone)]
#[repr(usize)]
enum Repr {
    /// The first `length` bytes, which are UTF-8.
    Inline { length: usize, bytes: [u8; INLINE] },
    /// All of it is UTF-8.
    Slice(Bytes),
}

impl Text {
    /// The text that lies within `buffer` at `text`; `None` where that is not UTF-8.
    #[inline]
    pub(crate) fn slice_of(buffer: &Bytes, text: &[u8]) -> Option<Self> {
        // Mostly more bytes follow in the buffer: as many as fit are taken at once, and those behind the text cleared.
        let start = text.as_ptr().addr().wrapping_sub(buffer.as_ptr().addr());
        if let Some(&(mut bytes)) = buffer.get(start..).and_then(|rest| rest.first_chunk())
            && text.len() <= INLINE
            && let Ok(length) = u8::try_from(text.len())
        {
            for (index, byte) in (0..).zip(&mut bytes) {
                *byte = if index < length { *byte } else { 0 };
            }
            if bytes.iter().fold(0, |all, byte| all | byte) < 0x80 {
                return Some(Self { repr: Repr::Inline { length: text.len(), bytes } });
            }
        }
        str::from_utf8(text).ok()?;
        Some(Self::inline(text).unwrap_or_else(|| Self { repr: Repr::Slice(buffer.slice_ref(text)) }))
    }

    #[inline]
    fn inline(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { repr: Repr::Inline { length: text.len(), bytes } })
    }

    /// The text. Its bytes are looked at once more, which is cheap beside the unsafe code it saves.
    pub(crate) fn as_str(&self) -> &str {
        #[expect(clippy::expect_used, reason = "a text is made from a str, and never changed")]
        str::from_utf8(self.as_bytes()).expect("a text is UTF-8")
    }

    /// The bytes of the text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.repr {
            Repr::Inline { length, bytes } => &bytes[..*length],
            Repr::Slice(bytes) => bytes,
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self { repr: Repr::Inline { length: 0, bytes: [0; INLINE] } }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::inline(text.as_bytes()).unwrap_or_else(|| text.to_owned().into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::inline(text.as_bytes()).unwrap_or_else(|| Self { repr: Repr::Slice(text.into()) })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// On both sides of the length where the representation changes.
    #[test]
    fn a_text_is_the_same_however_it_is_held() {
        for length in [0, 1, INLINE - 1, INLINE, INLINE + 1, 10 << 10] {
            let text = "i".repeat(length);
            let buffer = Bytes::from(format!("<{text}>"));
            let slice = Text::slice_of(&buffer, &buffer[1..=length]).unwrap();
            for held in [&slice, &slice.clone(), &Text::from(text.clone())] {
                assert_eq!((held.as_str(), held.as_bytes()), (&*text, text.as_bytes()));
                assert_eq!(format!("{held} {held:?}"), format!("{text} {text:?}"));
                assert_eq!(held, &slice);
                assert!(HashSet::from([slice.clone()]).contains(held));
            }
        }
    }

    #[test]
    fn what_is_not_utf8_is_no_text() {
        let text = "ü".repeat(INLINE);
        let buffer = Bytes::from(text.clone());
        for length in 0..buffer.len() {
            let slice = Text::slice_of(&buffer, &buffer[..length]);
            assert_eq!(slice.as_ref().map(Text::as_str), text.get(..length));
        }
    }

    #[test]
    fn what_is_short_keeps_no_buffer_alive() {
        for (length, keeps) in [(INLINE, false), (INLINE + 1, true)] {
            let buffer = Bytes::from(vec![b'x'; 1000]);
            let text = Text::slice_of(&buffer, &buffer[..length]).unwrap();
            assert_eq!(buffer.is_unique(), !keeps);
            drop(text);
            assert!(buffer.is_unique());
        }
    }
}
