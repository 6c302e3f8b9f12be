//! Looks for refused requests in what leaves a connection.
//!
//! HTTP/2 checks the pseudo-headers of a request before anything of ours sees it, and resets the stream where it does not
//! accept one of them. It tells nobody: the reset that it sends is the one trace. Frames are passed over by their lengths
//! (RFC 9113, section 4.1), so this costs little more than a look at nine bytes a frame.

/// The bytes before the payload of a frame.
const HEAD: usize = 9;
/// A frame that ends a stream, whose payload is an error code (RFC 9113, section 6.4).
const RST_STREAM: u8 = 3;
const CODE: usize = 4;
/// The error code of a request that is malformed (RFC 9113, section 8.1.1).
const PROTOCOL_ERROR: u32 = 1;

/// Where in its frames a connection is.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The bytes of the payload at hand that are still to come and do not matter.
    skip: usize,
    /// What has come of a head, and of the error code behind it.
    part: [u8; HEAD + CODE],
    filled: usize,
}

impl Outgoing {
    /// Takes the next bytes and calls `refused` for each stream that they reset because of a malformed request.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut refused: impl FnMut()) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = if self.filled < HEAD { HEAD } else { HEAD + CODE };
            let taken = (wanted - self.filled).min(bytes.len());
            self.part[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            let [l0, l1, l2, kind, .., c0, c1, c2, c3] = self.part;
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            if self.filled == HEAD && !(kind == RST_STREAM && length == CODE) {
                (self.filled, self.skip) = (0, length);
            } else if self.filled == HEAD + CODE {
                self.filled = 0;
                if u32::from_be_bytes([c0, c1, c2, c3]) == PROTOCOL_ERROR {
                    refused();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    fn refused(outgoing: &mut Outgoing, bytes: &[u8]) -> usize {
        let mut count = 0;
        outgoing.pass(bytes, || count += 1);
        count
    }

    #[test]
    fn a_reset_for_another_reason_is_none() {
        let mut outgoing = Outgoing::default();
        assert_eq!(refused(&mut outgoing, &frame(RST_STREAM, &[0, 0, 0, 8])), 0);
        assert_eq!(refused(&mut outgoing, &frame(RST_STREAM, &[0, 0, 0, 1])), 1);
        // The same bytes as the payload of another frame.
        assert_eq!(refused(&mut outgoing, &frame(0, &frame(RST_STREAM, &[0, 0, 0, 1]))), 0);
        assert_eq!(refused(&mut outgoing, &frame(RST_STREAM, &[0, 0, 0, 1])), 1);
    }

    proptest! {
        /// However frames are cut into writes.
        #[test]
        fn every_refusal_is_seen_once(
            frames in prop::collection::vec((0_u8..5, prop::collection::vec(0_u8..3, 0..40)), 0..20),
            refusals in 0_usize..4,
            cuts in prop::collection::vec(1_usize..20, 1..20),
        ) {
            let others = frames.iter().filter(|(kind, _)| *kind != RST_STREAM).map(|(kind, payload)| frame(*kind, payload));
            let refusals_of_ours = (0..refusals).map(|_| frame(RST_STREAM, &[0, 0, 0, 1]));
            let bytes = others.chain(refusals_of_ours).chain([frame(RST_STREAM, &[0, 0, 0, 2])]).collect::<Vec<_>>().concat();
            let (mut outgoing, mut rest, mut seen) = (Outgoing::default(), &bytes[..], 0);
            for cut in cuts.into_iter().cycle() {
                let (part, left) = rest.split_at(cut.min(rest.len()));
                seen += refused(&mut outgoing, part);
                rest = left;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, refusals);
        }
    }
}
