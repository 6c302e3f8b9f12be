//! The platform's side of a source.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Streaming;

use super::connection::{Connection, Open, Requests};
use super::error::ClientError;
use crate::pb::source::v1 as wire;
use crate::source::{Message, NackOffset, Offset, Partitions, ReadRequest};

/// A client of a source server.
///
/// The platform never has two of these calls open at the same time; whoever plays it sees to that.
#[derive(Debug, Clone)]
pub struct SourceClient {
    connection: Connection,
}

impl SourceClient {
    /// The name of the service, for [`Connection::is_ready`].
    pub const SERVICE: &str = "source.v1.Source";

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

    /// Opens `ReadFn` and does the handshake.
    ///
    /// # Errors
    ///
    /// When the server ends the stream, or answers the handshake with something else.
    pub async fn read_stream(&self) -> Result<ReadStream, ClientError> {
        let first = wire::ReadRequest { handshake: Some(wire::Handshake { sot: true }), ..Default::default() };
        let Open { requests, mut responses } = self.connection.open(Self::SERVICE, "ReadFn", first).await?;
        let answer: Option<wire::ReadResponse> = responses.message().await?;
        shaken("ReadFn", answer.map(|answer| answer.handshake))?;
        Ok(ReadStream { requests, responses })
    }

    /// Opens `AckFn` and does the handshake.
    ///
    /// # Errors
    ///
    /// When the server ends the stream, or answers the handshake with something else.
    pub async fn ack_stream(&self) -> Result<AckStream, ClientError> {
        let first = wire::AckRequest { handshake: Some(wire::Handshake { sot: true }), ..Default::default() };
        let Open { requests, mut responses } = self.connection.open(Self::SERVICE, "AckFn", first).await?;
        let answer: Option<wire::AckResponse> = responses.message().await?;
        shaken("AckFn", answer.map(|answer| answer.handshake))?;
        Ok(AckStream { requests, responses })
    }

    /// Calls `NackFn`, one element for each offset.
    ///
    /// # Errors
    ///
    /// When the call fails, or its answer lacks the result that says it was done.
    pub async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), ClientError> {
        let request = offsets
            .into_iter()
            .map(|nack| wire::nack_request::Request {
                offsets: vec![nack.offset.into_wire()],
                nack_options: Some(Arc::unwrap_or_clone(nack.options).into_wire()),
            })
            .collect();
        let answer: wire::NackResponse =
            self.connection.unary(Self::SERVICE, "NackFn", wire::NackRequest { request }).await?;
        answer.result.map(|_| ()).ok_or_else(|| ClientError::protocol("NackFn: the answer has no result"))
    }

    /// Calls `PendingFn`: how many messages wait to be read; `None` where the source doesn't know.
    ///
    /// # Errors
    ///
    /// When the call fails.
    pub async fn pending(&self) -> Result<Option<u64>, ClientError> {
        let answer: wire::PendingResponse = self.connection.unary(Self::SERVICE, "PendingFn", ()).await?;
        Ok(answer.result.and_then(|result| u64::try_from(result.count).ok()))
    }

    /// Calls `PartitionsFn`.
    ///
    /// # Errors
    ///
    /// When the call fails, or the answer is one that the platform can't use.
    pub async fn partitions(&self) -> Result<Partitions, ClientError> {
        let answer: wire::PartitionsResponse = self.connection.unary(Self::SERVICE, "PartitionsFn", ()).await?;
        let result = answer.result.ok_or_else(|| ClientError::protocol("PartitionsFn: the answer has no result"))?;
        let active = result
            .partitions
            .into_iter()
            .map(|id| u16::try_from(id).map_err(|_| out_of_range("partition", id)))
            .collect::<Result<Vec<u16>, _>>()?;
        let partitions = Partitions::new(active);
        match result.total_partitions {
            None => Ok(partitions),
            Some(total) => {
                let total = u32::try_from(total).map_err(|_| out_of_range("total of", total))?;
                Ok(partitions.with_total(total))
            }
        }
    }
}

impl From<Connection> for SourceClient {
    fn from(connection: Connection) -> Self {
        Self { connection }
    }
}

fn out_of_range(what: &str, value: i32) -> ClientError {
    ClientError::protocol(format!("PartitionsFn: {what} {value} is out of range"))
}

fn shaken(method: &str, answer: Option<Option<wire::Handshake>>) -> Result<(), ClientError> {
    match answer {
        Some(Some(wire::Handshake { sot: true })) => Ok(()),
        Some(_) => Err(ClientError::protocol(format!(
            "{method}: the first answer is not a handshake with sot = true, and the platform exits"
        ))),
        None => Err(ClientError::protocol(format!(
            "{method}: the stream ended before the handshake was answered, and the platform exits"
        ))),
    }
}

/// An open `ReadFn` stream, after its handshake. Dropped, it is cancelled.
#[derive(Debug)]
pub struct ReadStream {
    requests: Requests<wire::ReadRequest>,
    responses: Streaming<wire::ReadResponse>,
}

/// What a source sends on a [`ReadStream`].
#[derive(Debug, Clone)]
pub enum ReadEvent {
    /// One message of the batch.
    Message(Message),
    /// The end of the batch.
    Eot,
    /// The end of the stream, with OK; a source must not do that while the platform's side is open.
    End,
}

impl ReadStream {
    /// Reads one batch, up to its EOT or the end of the stream.
    ///
    /// # Errors
    ///
    /// When the stream breaks or the server breaks the protocol. What had arrived of the batch is lost then; to keep
    /// it, use [`ReadStream::request`] and [`ReadStream::next`].
    pub async fn read(&mut self, request: ReadRequest) -> Result<Vec<Message>, ClientError> {
        self.request(request).await?;
        let mut batch = Vec::new();
        while let ReadEvent::Message(message) = self.next().await? {
            batch.push(message);
        }
        Ok(batch)
    }

    /// Asks for a batch. The platform asks for the next only after the EOT of the one before.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the stream is; [`ReadStream::next`] then tells why.
    pub async fn request(&mut self, request: ReadRequest) -> Result<(), ClientError> {
        let request = wire::read_request::Request {
            num_records: request.count as u64,
            timeout_in_ms: u32::try_from(request.timeout.as_millis()).unwrap_or(u32::MAX),
        };
        self.requests.send(wire::ReadRequest { request: Some(request), handshake: None }).await
    }

    /// Receives what comes next. Safe to cancel.
    ///
    /// # Errors
    ///
    /// When the stream breaks or the server breaks the protocol.
    pub async fn next(&mut self) -> Result<ReadEvent, ClientError> {
        let Some(response) = self.responses.message().await? else {
            return Ok(ReadEvent::End);
        };
        if response.status.is_some_and(|status| status.eot) {
            return match response.result {
                None => Ok(ReadEvent::Eot),
                // The platform ignores it, so that it is never acked: worse than a failure.
                Some(_) => Err(ClientError::protocol("ReadFn: a message on the EOT, where the platform loses it")),
            };
        }
        let result = response.result.ok_or_else(|| {
            ClientError::protocol("ReadFn: an answer with neither a message nor an EOT, and the platform exits")
        })?;
        match &result.offset {
            Some(offset) if offset.offset.is_empty() => {
                return Err(ClientError::protocol("ReadFn: a message whose offset is empty, and the platform exits"));
            }
            Some(offset) if u16::try_from(offset.partition_id).is_err() => {
                // The platform cuts it to 16 bits and acks another offset than it was given.
                return Err(ClientError::protocol(format!(
                    "ReadFn: the partition id {} is not in 0..=65535, and the platform acks another one",
                    offset.partition_id
                )));
            }
            Some(_) => {}
            None => return Err(ClientError::protocol("ReadFn: a message without an offset, and the platform exits")),
        }
        Message::from_wire(result).map(ReadEvent::Message).ok_or_else(|| {
            ClientError::protocol("ReadFn: a message without a valid event time, and the platform exits")
        })
    }

    /// Half-closes the stream.
    pub fn close(&mut self) {
        self.requests.close();
    }
}

/// An open `AckFn` stream, after its handshake. Dropped, it is cancelled.
#[derive(Debug)]
pub struct AckStream {
    requests: Requests<wire::AckRequest>,
    responses: Streaming<wire::AckResponse>,
}

impl AckStream {
    /// Acks these offsets and waits for the answer. When cancelled, the stream is out of step: drop it.
    ///
    /// # Errors
    ///
    /// When the stream ends, with OK or a status, before it answers.
    pub async fn ack(&mut self, offsets: Vec<Offset>) -> Result<(), ClientError> {
        let offsets = offsets.into_iter().map(Offset::into_wire).collect();
        let request = wire::AckRequest { request: Some(wire::ack_request::Request { offsets }), handshake: None };
        // Where sending fails, receiving says why.
        let sent = self.requests.send(request).await;
        match self.responses.message().await? {
            Some(_) => sent,
            None => Err(ClientError::Closed),
        }
    }

    /// Half-closes the stream.
    pub fn close(&mut self) {
        self.requests.close();
    }
}
