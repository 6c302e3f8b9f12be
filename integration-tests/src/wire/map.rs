//! `map.v1.Map`: its messages, and a stream of it.

use bytes::Bytes;
use prost::Message;

use super::common::{Handshake, NackOptions, Timestamp};
use super::{Call, Connection};
use crate::outcome::{Unproven, check};

pub(crate) const MAP_FN: &str = "/map.v1.Map/MapFn";

/// How a server says that it has no means for a part of the handler contract.
const NOT_OFFERED: &str = "not offered";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) request: Option<Input>,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) handshake: Option<Handshake>,
}

/// `MapRequest.Request`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Input {
    #[prost(string, repeated, tag = "1")]
    pub(crate) keys: Vec<String>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
    #[prost(message, optional, tag = "3")]
    pub(crate) event_time: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    pub(crate) watermark: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) results: Vec<Output>,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) handshake: Option<Handshake>,
}

/// `MapResponse.Result`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Output {
    #[prost(string, repeated, tag = "1")]
    pub(crate) keys: Vec<String>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
    #[prost(string, repeated, tag = "3")]
    pub(crate) tags: Vec<String>,
    #[prost(message, optional, tag = "5")]
    pub(crate) nack_options: Option<NackOptions>,
}

/// The first message of a stream.
pub(crate) fn handshake() -> MapRequest {
    MapRequest { handshake: Some(Handshake { sot: true }), ..MapRequest::default() }
}

/// A message with as little in it as the platform ever sends.
pub(crate) fn message(id: &str, value: impl Into<Bytes>) -> MapRequest {
    let event_time = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
    let request = Some(Input { value: value.into(), event_time, ..Input::default() });
    MapRequest { request, id: id.to_owned(), ..MapRequest::default() }
}

/// A `MapFn` stream after its handshake.
pub(crate) struct MapStream {
    pub(crate) call: Call,
}

impl MapStream {
    pub(crate) async fn open(connection: &Connection) -> Result<Self, Unproven> {
        let mut call = connection.open(MAP_FN)?;
        call.shake_hands(&handshake(), |answer: &MapResponse| answer.handshake).await?;
        Ok(Self { call })
    }

    pub(crate) async fn send(&mut self, id: &str, value: impl Into<Bytes>) {
        self.call.send(&message(id, value)).await;
    }

    /// The next answer, which must be to this message, and must not say that what it asks for is not offered.
    pub(crate) async fn answer(&mut self, id: &str) -> Result<Vec<Output>, Unproven> {
        let expected = format!("an answer with the id {}", brief(id));
        let answer: MapResponse = self.call.message(&expected).await?;
        check(answer.id == id, &expected, || format!("one with the id {}", brief(&answer.id)))?;
        offered(id, &answer.results)?;
        Ok(answer.results)
    }

    /// Sends a message and expects its answer to be the next.
    pub(crate) async fn map(&mut self, id: &str, value: impl Into<Bytes>) -> Result<Vec<Output>, Unproven> {
        self.send(id, value).await;
        self.answer(id).await
    }

    /// Has a message echoed.
    pub(crate) async fn echo(&mut self, id: &str) -> Result<(), Unproven> {
        let results = self.map(id, "echo").await?;
        is_echo(&results, b"echo")
    }

    /// Half-closes, after which no answer and an end with OK must follow.
    pub(crate) async fn finish(mut self) -> Result<(), Unproven> {
        self.call.close();
        self.call.ends_ok().await
    }
}

/// Ends the case where the server has said, in its answer to the message with this id, that it can't do what was asked.
pub(crate) fn offered(id: &str, results: &[Output]) -> Result<(), Unproven> {
    match results {
        [output] if output.value == NOT_OFFERED => Err(Unproven::NotOffered(format!("the answer to {}", brief(id)))),
        _ => Ok(()),
    }
}

/// Checks that these are the results for a value that is echoed.
pub(crate) fn is_echo(results: &[Output], value: &[u8]) -> Result<(), Unproven> {
    let echoed = matches!(results, [output] if output.value == value && output.tags.is_empty());
    check(echoed, "the value as the one result, without tags", || match results {
        [output] => format!("{} bytes, tags {:?}", output.value.len(), output.tags),
        results => format!("{} results", results.len()),
    })
}

/// An id as it fits a line.
fn brief(id: &str) -> String {
    match id.char_indices().nth(40) {
        Some((cut, _)) => format!("{:?}... ({} bytes)", &id[..cut], id.len()),
        None => format!("{id:?}"),
    }
}
