//! How a client reads answers: as Protobuf, and none that takes far more memory than it has bytes.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The most outputs that an answer may have, 262,144: each takes some hundred bytes of memory, and may have two on the wire.
/// The platform has no limit beside that of 64 MiB.
pub const MOST_OUTPUTS: usize = 1 << 18;

/// The codec of a call.
#[derive(Debug)]
pub(super) struct Bounded<Req, Res>(PhantomData<(Req, Res)>);

impl<Req, Res> Default for Bounded<Req, Res> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Req: Message + 'static, Res: Message + Default + 'static> Codec for Bounded<Req, Res> {
    type Encode = Req;
    type Decode = Res;
    type Encoder = ProstEncoder<Req>;
    type Decoder = BoundedDecoder<Res>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Req, Res>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstCodec::<Req, Res>::default().decoder())
    }
}

/// Counts the fields of an answer before it is read.
#[derive(Debug)]
pub(super) struct BoundedDecoder<Res>(ProstDecoder<Res>);

impl<Res: Message + Default> Decoder for BoundedDecoder<Res> {
    type Item = Res;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Res>, Status> {
        // The buffer is in one piece.
        if has_more_fields(source.chunk(), MOST_OUTPUTS) {
            return Err(Status::resource_exhausted(format!(
                "an answer has more than {MOST_OUTPUTS} outputs, which this client does not take"
            )));
        }
        self.0.decode(source)
    }
}

/// Whether a message has more fields than `most`, those inside of its fields aside.
fn has_more_fields(mut message: &[u8], most: usize) -> bool {
    // No field has less than two bytes.
    if message.len() / 2 <= most {
        return false;
    }
    let mut count = 0;
    // Bytes that are no message are refused when they are read.
    while let Ok((number, wire_type)) = decode_key(&mut message)
        && skip_field(wire_type, number, &mut message, DecodeContext::default()).is_ok()
    {
        count += 1;
        if count > most {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::map::v1::{MapResponse, map_response::Result as Output};

    #[test]
    fn an_answer_is_refused_for_its_outputs_and_not_for_its_bytes() {
        let answer = |outputs| MapResponse { results: vec![Output::default(); outputs], ..Default::default() };
        assert!(!has_more_fields(&answer(1000).encode_to_vec(), 1000));
        assert!(has_more_fields(&answer(1001).encode_to_vec(), 1000));
        let large = Output { value: vec![7; 1 << 20].into(), ..Default::default() };
        let large = MapResponse { results: vec![large; 3], id: "id".into(), ..Default::default() };
        assert!(!has_more_fields(&large.encode_to_vec(), 4));
        assert!(!has_more_fields(&[0xff; 4000], 1000), "no message at all");
    }
}
