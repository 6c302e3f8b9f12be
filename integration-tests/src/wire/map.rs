//! `map.v1.Map`: its messages, and a stream of it in the server's mode.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost::Message;
use tokio::time::timeout;

use super::common::{Handshake, Metadata, NackOptions, Timestamp};
use super::{Call, Connection, LOOKED_AT, Next, Status};
use crate::Kind;
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
    #[prost(message, optional, tag = "4")]
    pub(crate) status: Option<TransmissionStatus>,
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
    #[prost(map = "string, string", tag = "5")]
    pub(crate) headers: HashMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub(crate) metadata: Option<Metadata>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct TransmissionStatus {
    #[prost(bool, tag = "1")]
    pub(crate) eot: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) results: Vec<Output>,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) handshake: Option<Handshake>,
    #[prost(message, optional, tag = "4")]
    pub(crate) status: Option<TransmissionStatus>,
}

impl MapResponse {
    /// Whether this is an end of transmission: of a batch in batch mode, of a message's outputs in stream mode.
    pub(crate) fn is_eot(&self) -> bool {
        self.status.is_some_and(|status| status.eot)
    }
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
    #[prost(message, optional, tag = "4")]
    pub(crate) metadata: Option<Metadata>,
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

/// The end of a batch as the platform sends it.
pub(crate) fn end_of_batch() -> MapRequest {
    MapRequest { status: Some(TransmissionStatus { eot: true }), ..MapRequest::default() }
}

/// A `MapFn` stream after its handshake, which knows what an answer consists of in the server's mode: one message in unary
/// and batch mode, and in stream mode any number of them and then an end of transmission.
pub(crate) struct MapStream {
    pub(crate) call: Call,
    kind: Kind,
    /// What has come of answers that are not complete, by id.
    partial: HashMap<String, Vec<Output>>,
}

/// All that a message is answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) results: Vec<Output>,
}

impl MapStream {
    pub(crate) async fn open(connection: &Connection) -> Result<Self, Unproven> {
        let mut call = connection.open(MAP_FN)?;
        call.shake_hands(&handshake(), |answer: &MapResponse| answer.handshake).await?;
        Ok(Self { call, kind: connection.kind, partial: HashMap::new() })
    }

    /// Sends a message. In batch mode it waits for the end of its batch.
    pub(crate) async fn send(&mut self, id: &str, value: impl Into<Bytes>) {
        self.call.send(&message(id, value)).await;
    }

    /// Says in batch mode that the batch is complete. The other modes have no such thing.
    pub(crate) async fn end_batch(&mut self) {
        if self.kind == Kind::BatchMap {
            self.call.send(&end_of_batch()).await;
        }
    }

    /// Receives until a message is answered in full, whichever that is. Ends the case where the answer says that what the
    /// message asks for is not offered.
    pub(crate) async fn next_answer(&mut self, expected: &str) -> Result<Answer, Unproven> {
        loop {
            let response: MapResponse = self.call.message(expected).await?;
            let eot = response.is_eot();
            let MapResponse { id, results, .. } = response;
            offered(&id, &results)?;
            match self.kind {
                // What comes with an end of transmission is lost on the platform.
                Kind::StreamMap if eot => {
                    let results = self.partial.remove(&id).unwrap_or_default();
                    return Ok(Answer { id, results });
                }
                Kind::StreamMap => self.partial.entry(id).or_default().extend(results),
                Kind::BatchMap if eot => return Err(Unproven::broken(expected, "the end of the batch")),
                Kind::UnaryMap | Kind::BatchMap | Kind::Source => return Ok(Answer { id, results }),
            }
        }
    }

    /// Receives in batch mode the end of a batch whose messages are answered.
    pub(crate) async fn batch_ended(&mut self) -> Result<(), Unproven> {
        const EXPECTED: &str = "the end of the batch, all of whose messages are answered";
        if self.kind == Kind::BatchMap {
            let response: MapResponse = self.call.message(EXPECTED).await?;
            check(response.is_eot(), EXPECTED, || format!("an answer with the id {}", brief(&response.id)))?;
        }
        Ok(())
    }

    /// The answers to these messages, which in batch mode are one batch: each once, in any order, and nothing between
    /// them.
    pub(crate) async fn answers<I: Into<String>>(
        &mut self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<HashMap<String, Vec<Output>>, Unproven> {
        let mut unanswered: HashSet<String> = ids.into_iter().map(Into::into).collect();
        let mut answers = HashMap::with_capacity(unanswered.len());
        while let Some(one) = unanswered.iter().next() {
            let expected = match unanswered.len() {
                1 => format!("an answer with the id {}", brief(one)),
                more => format!("an answer with the id {}, or one of {} more", brief(one), more - 1),
            };
            let Answer { id, results } = self.next_answer(&expected).await?;
            check(unanswered.remove(&id), &expected, || format!("one with the id {}", brief(&id)))?;
            answers.insert(id, results);
        }
        self.batch_ended().await?;
        Ok(answers)
    }

    /// The next answer, which must be to this message; in batch mode it is a batch of its own.
    pub(crate) async fn answer(&mut self, id: &str) -> Result<Vec<Output>, Unproven> {
        Ok(self.answers([id]).await?.remove(id).unwrap_or_default())
    }

    /// Sends a message and expects its answer to be the next.
    pub(crate) async fn map(&mut self, id: &str, value: impl Into<Bytes>) -> Result<Vec<Output>, Unproven> {
        self.send(id, value).await;
        self.end_batch().await;
        self.answer(id).await
    }

    /// Has a message echoed.
    pub(crate) async fn echo(&mut self, id: &str) -> Result<(), Unproven> {
        let results = self.map(id, "echo").await?;
        is_echo(&results, b"echo")
    }

    /// Sends a message whose answer waits for something, and goes on when the server has read it. Batch mode does not show
    /// that.
    pub(crate) async fn occupy(&mut self, id: &str, value: impl Into<Bytes>) -> Result<(), Unproven> {
        self.send(id, value).await;
        if self.kind == Kind::BatchMap {
            self.end_batch().await;
            return Ok(());
        }
        self.echo("read after the one that waits").await
    }

    /// Half-closes, after which no answer may come. Whether and how the server then ends the stream is not looked at: one
    /// case is about that, and the others are about something else.
    pub(crate) async fn finish(mut self) -> Result<(), Unproven> {
        let begun = self.partial.keys().next();
        check(begun.is_none(), "no outputs but of messages that are not answered", || format!("some for {begun:?}"))?;
        self.call.close();
        timeout(LOOKED_AT, self.end()).await.map_or(Ok(()), |end| end.map(drop))
    }

    /// Half-closes, whatever may come yet.
    pub(crate) async fn leave(mut self) {
        self.call.close();
        let rest = async { while let Ok(Next::Message(_)) = self.call.next("the end").await {} };
        _ = timeout(LOOKED_AT, rest).await;
    }

    /// Expects an end with OK, without a further answer, of a stream that is half-closed.
    pub(crate) async fn ends_ok(mut self) -> Result<(), Unproven> {
        let status = self.end().await?;
        check(status.code == 0, "an end with status 0", || status.to_string())
    }

    /// The status that the stream ends with, without a further answer.
    async fn end(&mut self) -> Result<Status, Unproven> {
        const EXPECTED: &str = "no further answer, and an end";
        loop {
            match self.call.next(EXPECTED).await? {
                Next::End(status) => return Ok(status),
                Next::Message(encoded) => {
                    let response = MapResponse::decode(encoded).unwrap_or_default();
                    // The platform ignores the end of a batch that it has not begun.
                    let ignored = self.kind == Kind::BatchMap && response.is_eot() && response.results.is_empty();
                    check(ignored, EXPECTED, || format!("{response:?}"))?;
                }
            }
        }
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
pub(crate) fn brief(id: &str) -> String {
    match id.char_indices().nth(40) {
        Some((cut, _)) => format!("{:?}... ({} bytes)", &id[..cut], id.len()),
        None => format!("{id:?}"),
    }
}
