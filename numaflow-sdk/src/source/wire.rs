//! The codec of `ReadFn`: messages that are encoded already go out as they are.

use bytes::BufMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use super::message::EncodedMessage;
use crate::pb::source::v1 as pb;

/// What a read stream sends.
pub(super) enum Frame {
    Handshake,
    Message(EncodedMessage),
    EndOfTransmission,
}

#[derive(Clone, Copy)]
pub(super) struct ReadCodec;

impl Codec for ReadCodec {
    type Encode = Frame;
    type Decode = pb::ReadRequest;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<pb::ReadRequest>;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<pb::ReadRequest> {
        ProstDecoder::new(BufferSettings::default())
    }
}

pub(super) struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let response = match frame {
            Frame::Message(message) => {
                buffer.put_slice(message.as_bytes());
                return Ok(());
            }
            Frame::Handshake => pb::ReadResponse { handshake: Some(pb::Handshake { sot: true }), ..Default::default() },
            Frame::EndOfTransmission => pb::ReadResponse {
                status: Some(pb::read_response::Status { eot: true, ..Default::default() }),
                ..Default::default()
            },
        };
        response.encode_raw(buffer);
        Ok(())
    }
}
