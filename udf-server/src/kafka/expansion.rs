//! How many bytes a compressed batch becomes, found out without memory for them. Pure.
//!
//! The client library decompresses each batch into one buffer. It limits that buffer for zstd only, and a batch of two
//! kilobytes may become fifty megabytes.

use std::io::{self, Read};

use flate2::bufread::{GzDecoder, ZlibDecoder};

/// The most that one byte of DEFLATE becomes (zlib's technical details).
const MOST_OF_GZIP: usize = 1032;
/// The largest block of zstd (RFC 8878, section 3.1.1.2.4).
const ZSTD_BLOCK: usize = 128 << 10;
const ZSTD_MAGIC: u32 = 0xFD2F_B528;
const LZ4_MAGIC: u32 = 0x184D_2204;

/// The most that a gzip stream of so many bytes may become.
pub(super) fn gzip_at_most(len: usize) -> usize {
    len.saturating_mul(MOST_OF_GZIP)
}

/// What a gzip stream becomes: its first member alone, as the client library reads it. More than `limit` is told as
/// `limit + 1`.
pub(super) fn gzip(input: &[u8], limit: usize) -> usize {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    // The client library takes both forms.
    if input.first() == Some(&0x1f) {
        count(GzDecoder::new(input).take(most))
    } else {
        count(ZlibDecoder::new(input).take(most))
    }
}

/// How much comes, up to the end or the first mistake.
fn count(mut stream: impl Read) -> usize {
    let mut buffer = [0; 16 << 10];
    let mut count = 0_usize;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return count,
            Ok(more) => count = count.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return count,
        }
    }
}

/// The most that zstd frames become. Blocks that were flushed before they were full make it too much.
pub(super) fn zstd_at_most(input: &[u8]) -> usize {
    let mut input = Input(input);
    let mut most = 0_usize;
    while zstd_frame(&mut input, &mut most).is_some() {}
    most
}

fn zstd_frame(input: &mut Input<'_>, most: &mut usize) -> Option<()> {
    let magic = input.number(4)?;
    // A frame that is to be skipped.
    if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
        let len = input.number(4)?;
        return input.skip(usize::try_from(len).ok()?);
    }
    if magic != u64::from(ZSTD_MAGIC) {
        return None;
    }
    let descriptor = input.byte()?;
    let is_single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => usize::from(is_single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    input.skip(usize::from(!is_single) + dictionary + content)?;
    loop {
        let header = input.number(3)?;
        let len = usize::try_from(header >> 3).ok()?;
        let (stored, becomes) = match header >> 1 & 3 {
            0 => (len, len),
            1 => (1, len),
            _ => (len, ZSTD_BLOCK),
        };
        *most = most.saturating_add(becomes.min(ZSTD_BLOCK));
        input.skip(stored)?;
        if header & 1 == 1 {
            break;
        }
    }
    input.skip(if descriptor & 4 == 0 { 0 } else { 4 })
}

/// What an lz4 frame becomes, up to its end or the first mistake.
pub(super) fn lz4(input: &[u8]) -> usize {
    let mut len = 0;
    lz4_frame(&mut Input(input), &mut len);
    len
}

fn lz4_frame(input: &mut Input<'_>, len: &mut usize) -> Option<()> {
    // A bad magic number is left to the client library.
    if input.number(4)? != u64::from(LZ4_MAGIC) {
        return None;
    }
    let flags = input.byte()?;
    let has = |bit: u8, len: usize| if flags & bit == 0 { 0 } else { len };
    // Block sizes; content size, dictionary, checksum of the header.
    input.skip(1 + has(0x08, 8) + has(0x01, 4) + 1)?;
    loop {
        let header = input.number(4)?;
        let stored = usize::try_from(header & 0x7FFF_FFFF).ok()?;
        if stored == 0 {
            return Some(());
        }
        let block = input.take(stored)?;
        let becomes = if header & 0x8000_0000 == 0 { lz4_block(block) } else { stored };
        *len = len.saturating_add(becomes);
        input.skip(has(0x10, 4))?;
    }
}

/// What an lz4 block becomes: its sequences say how long their literals and matches are.
fn lz4_block(block: &[u8]) -> usize {
    fn sequence(input: &mut Input<'_>, len: &mut usize) -> Option<()> {
        fn length(input: &mut Input<'_>, nibble: u8) -> Option<usize> {
            let mut length = usize::from(nibble);
            if nibble == 15 {
                loop {
                    let more = input.byte()?;
                    length = length.saturating_add(usize::from(more));
                    if more != 255 {
                        break;
                    }
                }
            }
            Some(length)
        }
        let token = input.byte()?;
        let literals = length(input, token >> 4)?;
        *len = len.saturating_add(literals);
        input.skip(literals)?;
        // The offset of the match; the last sequence has none.
        input.skip(2)?;
        *len = len.saturating_add(length(input, token & 15)?.saturating_add(4));
        Some(())
    }
    let (mut input, mut len) = (Input(block), 0);
    while sequence(&mut input, &mut len).is_some() {}
    len
}

/// What snappy becomes, which it says first. `None` where it says nothing sensible.
pub(super) fn snappy(input: &[u8]) -> Option<usize> {
    let mut len = 0_u64;
    for (place, byte) in input.iter().take(5).enumerate() {
        len |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return usize::try_from(len).ok();
        }
    }
    None
}

/// What snappy in the frame of snappy-java becomes, after its header.
pub(super) fn snappy_java(chunks: &[u8]) -> usize {
    fn chunk(input: &mut Input<'_>) -> Option<usize> {
        let len = input.take(4)?.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
        snappy(input.take(len)?)
    }
    let (mut input, mut len) = (Input(chunks), 0_usize);
    while let Some(more) = chunk(&mut input) {
        len = len.saturating_add(more);
    }
    len
}

/// Bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.take(len).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A number of so many bytes, the least one first.
    fn number(&mut self, len: usize) -> Option<u64> {
        Some(self.take(len)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    #[test]
    fn gzip_is_counted_up_to_the_limit() {
        let zeros = vec![0; 300_000];
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&zeros).unwrap();
        let mut packed = encoder.finish().unwrap();
        assert!(gzip_at_most(packed.len()) >= 300_000);
        assert_eq!(gzip(&packed, 1 << 20), 300_000);
        assert_eq!(gzip(&packed, 100_000), 100_001);
        // A last member whose trailer says little does not hide the first.
        packed.extend([0; 8]);
        assert_eq!(gzip(&packed, 1 << 20), 300_000);
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&zeros).unwrap();
        assert_eq!(gzip(&encoder.finish().unwrap(), 1 << 20), 300_000);
        assert_eq!(gzip(b"no such thing", 1 << 20), 0);
    }

    /// A frame by the letter of RFC 8878: a raw block of 5 bytes, one byte 70,000 times, a compressed block.
    fn zstd_frame(descriptor: &[u8], checksum: &[u8]) -> Vec<u8> {
        let block = |last: u32, kind: u32, len: u32| (last | kind << 1 | len << 3).to_le_bytes()[..3].to_vec();
        let magic = ZSTD_MAGIC.to_le_bytes();
        [
            &magic[..],
            descriptor,
            &block(0, 0, 5),
            b"12345",
            &block(0, 1, 70_000),
            b"x",
            &block(1, 2, 3),
            b"abc",
            checksum,
        ]
        .concat()
    }

    #[test]
    fn zstd_is_bounded_by_its_blocks() {
        let becomes = 5 + 70_000 + ZSTD_BLOCK;
        // The frame may lie about its content: it is not asked.
        for descriptor in [
            &[0x00, 0x58][..],
            &[0x20, 1],
            &[0x60, 1, 0],
            &[0xa0, 1, 0, 0, 0],
            &[0xe3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(zstd_at_most(&zstd_frame(descriptor, &[])), becomes, "{descriptor:?}");
        }
        let summed = zstd_frame(&[0x04, 0x58], &[1, 2, 3, 4]);
        let skipped = [&0x184D_2A53_u32.to_le_bytes()[..], &2_u32.to_le_bytes(), b"no"].concat();
        let several = [&summed[..], &skipped, &summed].concat();
        assert_eq!(zstd_at_most(&several), 2 * becomes);
        assert_eq!(zstd_at_most(&several[..several.len() - 6]), 2 * becomes, "its last block is cut");
        assert_eq!(zstd_at_most(b"no such thing"), 0);
    }

    #[test]
    fn lz4_is_counted_by_its_sequences() {
        // "ab", then a match of 4 + 15 + 255 + 10 bytes, then "cd" and no match.
        let block = [0x2f, b'a', b'b', 1, 0, 255, 10, 0x20, b'c', b'd'];
        assert_eq!(lz4_block(&block), 2 + 284 + 2);
        // 15 + 255 + 1 literals.
        assert_eq!(lz4_block(&[&[0xf0, 255, 1][..], &[7; 271]].concat()), 271);
        let sized = |len: u32| len.to_le_bytes();
        let magic = LZ4_MAGIC.to_le_bytes();
        let plain = [&magic[..], &[0x60, 0x40, 0], &sized(10), &block, &sized(0x8000_0003), b"xyz", &sized(0)].concat();
        assert_eq!(lz4(&plain), 288 + 3);
        let full = [&magic[..], &[0x79, 0x40], &[0; 12], &[0], &sized(10), &block, &[0; 4], &sized(0)].concat();
        assert_eq!(lz4(&full), 288);
        assert_eq!(lz4(b"no such thing"), 0);
    }

    #[test]
    fn snappy_says_what_it_becomes() {
        assert_eq!(snappy(&[5, 0, 0]), Some(5));
        assert_eq!(snappy(&[0x80, 0x80, 0x80, 0x19]), Some(25 << 21));
        assert_eq!(snappy(&[0xff; 6]), None);
        assert_eq!(snappy_java(&[0, 0, 0, 2, 5, 0, 0, 0, 0, 3, 0x80, 1, 0]), 5 + 128);
        assert_eq!(snappy_java(&[0, 0, 0, 9, 5]), 0);
    }
}
