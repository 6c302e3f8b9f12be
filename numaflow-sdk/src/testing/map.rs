//! The platform's side of a map.

use std::collections::HashMap;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::connection::{Connection, Open, Requests};
use super::error::ClientError;
use crate::pb::map::v1 as wire;
use crate::{MapRequest, Message};

/// A client of a map server.
#[derive(Debug, Clone)]
pub struct MapClient {
    connection: Connection,
}

impl MapClient {
    /// The name of the service, for [`Connection::is_ready`].
    pub const SERVICE: &str = "map.v1.Map";

    /// Connects to the Unix socket at `path`.
    ///
    /// # Errors
    ///
    /// When nobody listens there, or what listens does not speak HTTP/2.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        Connection::connect(path).await.map(Self::from)
    }

    /// Speaks over a byte stream that is connected already.
    ///
    /// # Errors
    ///
    /// When the other side does not speak HTTP/2.
    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, ClientError> {
        Connection::over(io).await.map(Self::from)
    }

    /// Asks `IsReady`.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn is_ready(&self) -> Result<bool, ClientError> {
        self.connection.is_ready(Self::SERVICE).await
    }

    /// Opens `MapFn` and does the handshake.
    ///
    /// # Errors
    ///
    /// When the server ends the stream, or answers the handshake with something else.
    pub async fn open(&self) -> Result<MapStream, ClientError> {
        let handshake = wire::MapRequest { handshake: Some(wire::Handshake { sot: true }), ..Default::default() };
        let Open { requests, mut responses } = self.connection.open(Self::SERVICE, "MapFn", handshake).await?;
        let answer: Option<wire::MapResponse> = responses.message().await?;
        match answer {
            Some(wire::MapResponse { handshake: Some(wire::Handshake { sot: true }), .. }) => {
                Ok(MapStream { sender: MapSender { requests }, receiver: MapReceiver { responses }, sent: 0 })
            }
            Some(_) => Err(ClientError::protocol(
                "MapFn: the first answer is not a handshake with sot = true, and the platform exits",
            )),
            None => Err(ClientError::protocol(
                "MapFn: the stream ended before the handshake was answered, and the platform exits",
            )),
        }
    }
}

impl From<Connection> for MapClient {
    fn from(connection: Connection) -> Self {
        Self { connection }
    }
}

/// An open `MapFn` stream, after its handshake. Dropped, it is cancelled.
#[derive(Debug)]
pub struct MapStream {
    sender: MapSender,
    receiver: MapReceiver,
    sent: u64,
}

impl MapStream {
    /// Sends one message under this id. Waits while the server takes nothing in.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the stream is; [`MapStream::recv`] then tells why.
    pub async fn send(&mut self, id: impl Into<String>, request: MapRequest) -> Result<(), ClientError> {
        self.sender.send(id, request).await
    }

    /// Receives the next answer; `None` after the server ended the stream with OK. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When the stream ends with a status or the connection is lost.
    pub async fn recv(&mut self) -> Result<Option<MapAnswer>, ClientError> {
        self.receiver.recv().await
    }

    /// Sends one message, under an id of its own, and waits for its answer: what a test of a unary map mostly wants.
    /// Not for use while other messages are unanswered.
    ///
    /// # Errors
    ///
    /// When the stream ends, and how; or the answer is to another message.
    pub async fn map(&mut self, request: MapRequest) -> Result<Vec<Message>, ClientError> {
        let id = self.next_id();
        // Where sending fails, receiving says why.
        let sent = self.send(id.clone(), request).await;
        match self.recv().await? {
            Some(answer) if answer.id == id => Ok(answer.messages),
            Some(answer) => Err(ClientError::protocol(format!("{id:?} was asked and {:?} answered", answer.id))),
            None => Err(sent.err().unwrap_or_else(ended_early)),
        }
    }

    /// Ends the batch that was sent, in batch mode: its answers come, then an answer with [`eot`](MapAnswer::eot).
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the stream is; [`MapStream::recv`] then tells why.
    pub async fn send_eot(&mut self) -> Result<(), ClientError> {
        self.sender.send_eot().await
    }

    /// Sends a batch, with its end, and waits for all answers: the outputs of each message, in the order of the requests.
    /// What a test of a map in batch mode mostly wants. Not for use while other messages are unanswered.
    ///
    /// # Errors
    ///
    /// When the stream ends, and how; or the answers are not those of batch mode: exactly one for each message, then one
    /// end.
    pub async fn map_batch(
        &mut self,
        requests: impl IntoIterator<Item = MapRequest>,
    ) -> Result<Vec<Vec<Message>>, ClientError> {
        let batch: Vec<_> = requests.into_iter().map(|request| (self.next_id(), request)).collect();
        let ids: Vec<_> = batch.iter().map(|(id, _)| id.clone()).collect();
        let Self { sender, receiver, .. } = self;
        let sending = async {
            for (id, request) in batch {
                sender.send(id, request).await?;
            }
            sender.send_eot().await
        };
        let receiving = async {
            let mut answers = HashMap::with_capacity(ids.len());
            loop {
                let answer = receiver.recv().await?.ok_or_else(ended_early)?;
                if answer.eot {
                    return Ok(answers);
                }
                if let Some(twice) = answers.insert(answer.id, answer.messages) {
                    return Err(ClientError::protocol(format!("a message was answered twice, first with {twice:?}")));
                }
            }
        };
        // Both at once: the answers may begin before the batch is sent, and be more than the connection holds. Where
        // sending fails, receiving says why.
        let (_, answers) = tokio::join!(sending, receiving);
        let mut answers = answers?;
        let mut messages = Vec::with_capacity(ids.len());
        for id in ids {
            let answer = answers.remove(&id);
            messages.push(
                answer.ok_or_else(|| ClientError::protocol(format!("the batch ended without an answer to {id:?}")))?,
            );
        }
        match answers.into_keys().next() {
            Some(id) => Err(ClientError::protocol(format!("{id:?} was answered and not asked"))),
            None => Ok(messages),
        }
    }

    /// Sends one message and waits for all its outputs, up to the end that they have in stream mode. What a test of a map
    /// in stream mode mostly wants; [`MapStream::recv`] has them one by one, as they come. Not for use while other
    /// messages are unanswered.
    ///
    /// # Errors
    ///
    /// When the stream ends, and how; or the answer is to another message.
    pub async fn map_stream(&mut self, request: MapRequest) -> Result<Vec<Message>, ClientError> {
        let id = self.next_id();
        // Where sending fails, receiving says why.
        drop(self.send(id.clone(), request).await);
        let mut outputs = Vec::new();
        loop {
            let answer = self.recv().await?.ok_or_else(ended_early)?;
            if answer.id != id {
                return Err(ClientError::protocol(format!("{id:?} was asked and {:?} answered", answer.id)));
            }
            if answer.eot {
                return Ok(outputs);
            }
            outputs.extend(answer.messages);
        }
    }

    fn next_id(&mut self) -> String {
        self.sent += 1;
        format!("test-{}", self.sent)
    }

    /// Half-closes the stream: nothing more is sent, answers still come.
    pub fn close(&mut self) {
        self.sender.close();
    }

    /// Splits the stream, for sending and receiving at the same time.
    #[must_use]
    pub fn split(self) -> (MapSender, MapReceiver) {
        (self.sender, self.receiver)
    }
}

/// The sending direction of a [`MapStream`].
#[derive(Debug)]
pub struct MapSender {
    requests: Requests<wire::MapRequest>,
}

impl MapSender {
    /// Sends one message under this id. Waits while the server takes nothing in. When cancelled, nothing was sent.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the stream is; [`MapReceiver::recv`] then tells why.
    pub async fn send(&self, id: impl Into<String>, request: MapRequest) -> Result<(), ClientError> {
        self.requests.send(to_wire(id.into(), request)).await
    }

    /// Waits until one message can be sent without waiting. Safe to cancel, so that a caller who also waits for answers
    /// need not make the message before it can go.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the stream is; [`MapReceiver::recv`] then tells why.
    pub async fn ready(&self) -> Result<MapPermit<'_>, ClientError> {
        Ok(MapPermit { permit: self.requests.reserve().await? })
    }

    /// Ends the batch that was sent, in batch mode. When cancelled, nothing was sent.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the stream is; [`MapReceiver::recv`] then tells why.
    pub async fn send_eot(&self) -> Result<(), ClientError> {
        self.requests.send(eot()).await
    }

    /// Half-closes the stream: nothing more is sent, answers still come.
    pub fn close(&mut self) {
        self.requests.close();
    }
}

/// Room for one message, from [`MapSender::ready`].
#[derive(Debug)]
pub struct MapPermit<'a> {
    permit: mpsc::Permit<'a, wire::MapRequest>,
}

impl MapPermit<'_> {
    /// Sends one message under this id.
    pub fn send(self, id: impl Into<String>, request: MapRequest) {
        self.permit.send(to_wire(id.into(), request));
    }

    /// Ends the batch that was sent, in batch mode.
    pub fn send_eot(self) {
        self.permit.send(eot());
    }
}

fn eot() -> wire::MapRequest {
    wire::MapRequest { status: Some(wire::TransmissionStatus { eot: true }), ..Default::default() }
}

fn ended_early() -> ClientError {
    ClientError::protocol("the stream ended without an answer")
}

fn to_wire(id: String, request: MapRequest) -> wire::MapRequest {
    wire::MapRequest { request: Some(request.into_wire()), id, ..Default::default() }
}

/// The receiving direction of a [`MapStream`].
#[derive(Debug)]
pub struct MapReceiver {
    responses: Streaming<wire::MapResponse>,
}

impl MapReceiver {
    /// Receives the next answer; `None` after the server ended the stream with OK. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When the stream ends with a status or the connection is lost, or an answer has more than [`MOST_OUTPUTS`](super::MOST_OUTPUTS)
    /// (`RESOURCE_EXHAUSTED`).
    pub async fn recv(&mut self) -> Result<Option<MapAnswer>, ClientError> {
        let answer = self.responses.message().await?;
        Ok(answer.map(|answer| MapAnswer {
            id: answer.id,
            messages: answer.results.into_iter().map(Message::from_wire).collect(),
            eot: answer.status.is_some_and(|status| status.eot),
        }))
    }
}

/// One answer of a map server (`map.v1.MapResponse` in the protocol).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapAnswer {
    /// The id of the message that it answers; empty on a batch's EOT.
    pub id: String,
    /// The outputs.
    pub messages: Vec<Message>,
    /// Whether this is an end-of-transmission, which only batch and stream mode have.
    pub eot: bool,
}
