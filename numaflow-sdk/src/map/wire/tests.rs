//! The generated code says what is right.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{decode, encode_answer, encode_end, encode_handshake, encoded_len};
use crate::pb::map::v1 as pb;
use crate::{MapRequest, SystemMetadata, UserMetadata};

/// All that a request tells.
#[derive(Debug, PartialEq)]
struct Told {
    id: String,
    value: Bytes,
    keys: Vec<String>,
    event_time: Option<SystemTime>,
    watermark: Option<SystemTime>,
    headers: HashMap<String, String>,
    user: UserMetadata,
    system: SystemMetadata,
    previous_vertex: String,
}

impl Told {
    fn by(request: &MapRequest) -> Self {
        Self {
            id: request.id().to_owned(),
            value: request.value().clone(),
            keys: request.keys().to_vec(),
            event_time: request.event_time(),
            watermark: request.watermark(),
            headers: request.headers().clone(),
            user: request.user_metadata().clone(),
            system: request.system_metadata().clone(),
            previous_vertex: request.previous_vertex().to_owned(),
        }
    }
}

/// What is read is what the generated decoder reads, or neither can read it.
fn agree(bytes: &Bytes) {
    match (decode(bytes), pb::MapRequest::decode(bytes.clone())) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.id.as_str(), theirs.id);
            assert_eq!(ours.handshake, theirs.handshake.map(|handshake| handshake.sot));
            assert_eq!(ours.status, theirs.status.map(|status| status.eot));
            let expected = theirs.request.map(|request| Told::by(&MapRequest::from_wire(theirs.id, request)));
            assert_eq!(ours.request.as_ref().map(Told::by), expected);
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("we say {ours:?} and the generated code {theirs:?}"),
    }
}

#[test]
fn a_request() {
    let request = pb::MapRequest {
        id: "mv-MQ==-0-0".to_owned(),
        request: Some(pb::map_request::Request { value: vec![7; 300].into(), ..Default::default() }),
        ..Default::default()
    };
    agree(&request.encode_to_vec().into());
}

#[test]
fn an_answer() {
    let mut out = BytesMut::new();
    let messages: crate::Messages = [crate::Message::new("v").with_keys(["k"]), crate::Message::to_drop()].into_iter().collect();
    encode_answer(&mut out, b"id", messages.as_slice());
    assert_eq!(out.len(), 5 + encoded_len(b"id", messages.as_slice()));
    let read = pb::MapResponse::decode(&out[5..]).unwrap();
    assert_eq!(read, pb::MapResponse { id: "id".to_owned(), results: messages.into_wire(), ..Default::default() });
    out.clear();
    encode_handshake(&mut out);
    let read = pb::MapResponse::decode(&out[5..]).unwrap();
    assert_eq!(read, pb::MapResponse { handshake: Some(pb::Handshake { sot: true }), ..Default::default() });
    out.clear();
    encode_end(&mut out, b"");
    let read = pb::MapResponse::decode(&out[5..]).unwrap();
    assert_eq!(read, pb::MapResponse { status: Some(pb::TransmissionStatus { eot: true }), ..Default::default() });
}
