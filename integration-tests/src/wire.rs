//! The platform's end of the socket: gRPC over HTTP/2, by hand down to the frame, so that a case can send what no
//! well-behaved client would.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{self, Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Kind;
use crate::outcome::{Unproven, check};
use crate::target::Target;

pub(crate) mod common;
pub(crate) mod map;
pub(crate) mod raw;
pub(crate) mod source;
mod transcript;

pub(crate) use transcript::Transcript;
use transcript::{CallName, What};
pub use transcript::{Frame, Side};

/// gRPC's code for a call that the server does not have.
pub(crate) const UNIMPLEMENTED: u32 = 12;

/// The longest message that the platform takes, and a little.
const LONGEST: usize = 65 << 20;
/// What may come on one call: more than any case has reason to get.
const MOST: usize = 512 << 20;
/// The longest wait for a single thing: what comes at all comes sooner, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a call that is half-closed is looked at. What a server has not sent by then it does not send.
const LOOKED_AT: Duration = Duration::from_millis(500);
/// What the platform calls every server.
const ORIGIN: &str = "http://[::1]:50051";
/// The platform's HTTP/2 windows.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;
/// Frames that wait for the connection to take them; past that, sending waits.
const FRAMES_QUEUED: usize = 16;
/// How much of an unexpected message a failure shows.
const SHOWN: usize = 200;

/// One connection to the server under test. Dropped, it is gone at once and without a goodbye, open calls included.
pub(crate) struct Connection {
    /// What the server under test serves.
    kind: Kind,
    sender: SendRequest<Frames>,
    tasks: Tasks,
    transcript: Transcript,
}

impl Connection {
    pub(crate) async fn to(target: &Target) -> Result<Self, Unproven> {
        let lost = |error: &dyn fmt::Display| {
            Unproven::broken(format!("a server on {}", target.socket.display()), error.to_string())
        };
        let io = UnixStream::connect(&target.socket).await.map_err(|error| lost(&error))?;
        let tasks = Tasks::default();
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| lost(&error))?;
        tasks.execute(connection);
        Ok(Self { kind: target.kind, sender, tasks, transcript: target.transcript.clone() })
    }

    /// Opens a call; nothing of it is sent but its head.
    pub(crate) fn open(&self, path: &str) -> Result<Call, Unproven> {
        self.open_at(ORIGIN, path)
    }

    /// Opens a call of a server by this name.
    pub(crate) fn open_at(&self, origin: &str, path: &str) -> Result<Call, Unproven> {
        let (frames, queue) = mpsc::channel(FRAMES_QUEUED);
        let request = http::Request::post(format!("{origin}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Frames(queue))
            .map_err(|error| Unproven::broken(format!("{path} to be a path"), error.to_string()))?;
        let head = Box::pin(self.sender.clone().send_request(request));
        Ok(Call {
            path: path.to_owned(),
            name: self.transcript.name(path),
            transcript: self.transcript.clone(),
            frames: Some(frames),
            response: Response::Awaited(head),
            received: BytesMut::new(),
            total: 0,
            status: None,
            patience: PATIENCE,
        })
    }

    /// Makes a unary call that must succeed.
    pub(crate) async fn unary<Res: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<Res, Unproven> {
        let mut call = self.open(path)?;
        call.send(request).await;
        call.close();
        let response = call.message(&format!("the response of {path}")).await?;
        call.ends_ok().await?;
        Ok(response)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// The tasks of one connection, which end with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        // What a task ends with reaches whoever has a call open.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move { drop(task.await) });
    }
}

/// The request side of a call.
struct Frames(mpsc::Receiver<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(body::Frame::data(bytes))))
    }
}

/// One call, open in both directions. Dropped, it is reset.
pub(crate) struct Call {
    path: String,
    name: CallName,
    transcript: Transcript,
    frames: Option<mpsc::Sender<Bytes>>,
    response: Response,
    received: BytesMut,
    /// How many bytes have come in all.
    total: usize,
    status: Option<Status>,
    /// The longest wait for a single thing.
    pub(crate) patience: Duration,
}

enum Response {
    Awaited(Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>> + Send>>),
    Body(Incoming),
}

/// What a server sends: messages, then a status.
pub(crate) enum Next {
    Message(Bytes),
    End(Status),
}

impl Call {
    pub(crate) async fn send(&mut self, message: &impl Message) {
        self.send_encoded(&message.encode_to_vec()).await;
    }

    /// Sends bytes as a message, whether they are one or not.
    ///
    /// Where the server takes no more, that is for whoever receives next to see.
    pub(crate) async fn send_encoded(&mut self, message: &[u8]) {
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        frame.put_slice(message);
        let frame = frame.freeze();
        self.transcript.note(Side::Platform, &self.name, What::message(&frame.slice(5..)));
        if let Some(frames) = &self.frames {
            drop(frames.send(frame).await);
        }
    }

    /// Half-closes: nothing more is sent, answers still come.
    pub(crate) fn close(&mut self) {
        self.frames = None;
        self.transcript.note(Side::Platform, &self.name, What::Other("half-close".to_owned()));
    }

    /// The next thing the server sends, waited for no longer than any single thing is.
    pub(crate) async fn next(&mut self, expected: &str) -> Result<Next, Unproven> {
        let patience = self.patience;
        match timeout(patience, self.receive()).await {
            Ok(Ok(next)) => {
                let what = match &next {
                    Next::Message(encoded) => What::message(encoded),
                    Next::End(status) => What::Other(status.to_string()),
                };
                self.transcript.note(Side::Server, &self.name, what);
                Ok(next)
            }
            Ok(Err(problem)) => {
                self.transcript.note(Side::Server, &self.name, What::Other(problem.clone()));
                Err(Unproven::broken(expected, format!("on {}: {problem}", self.path)))
            }
            Err(_) => Err(Unproven::broken(expected, format!("nothing on {} within {patience:?}", self.path))),
        }
    }

    /// The next message.
    pub(crate) async fn message<M: Message + Default>(&mut self, expected: &str) -> Result<M, Unproven> {
        match self.next(expected).await? {
            Next::Message(bytes) => M::decode(bytes)
                .map_err(|error| Unproven::broken(expected, format!("a message that cannot be decoded: {error}"))),
            Next::End(status) => Err(Unproven::broken(expected, format!("the end of {}, {status}", self.path))),
        }
    }

    /// Sends the first message of a stream and expects the handshake that answers it.
    pub(crate) async fn shake_hands<Res: Message + Default + fmt::Debug>(
        &mut self,
        first: &impl Message,
        handshake: impl FnOnce(&Res) -> Option<common::Handshake>,
    ) -> Result<(), Unproven> {
        const EXPECTED: &str = "a handshake with sot = true as the first answer";
        self.send(first).await;
        let answer: Res = self.message(EXPECTED).await?;
        check(handshake(&answer).is_some_and(|handshake| handshake.sot), EXPECTED, || format!("{answer:?}"))
    }

    /// The status that the server ends the call with, without another message before it.
    pub(crate) async fn end(&mut self, expected: &str) -> Result<Status, Unproven> {
        match self.next(expected).await? {
            Next::End(status) => Ok(status),
            Next::Message(mut bytes) => {
                bytes.truncate(SHOWN);
                Err(Unproven::broken(expected, format!("a further message on {}: {}", self.path, bytes.escape_ascii())))
            }
        }
    }

    /// Half-closes, after which no message may come. Whether and how the server then ends the call is not looked at: other
    /// cases are about that.
    pub(crate) async fn finish(mut self) -> Result<(), Unproven> {
        self.close();
        timeout(LOOKED_AT, self.end("no further message")).await.map_or(Ok(()), |end| end.map(drop))
    }

    /// Expects the call to end well, without another message before.
    pub(crate) async fn ends_ok(&mut self) -> Result<(), Unproven> {
        const EXPECTED: &str = "no further message and an end with status 0";
        let status = self.end(EXPECTED).await?;
        check(status.code == 0, EXPECTED, || status.to_string())
    }

    /// Expects the call to end with a status that is not OK, without another message before.
    pub(crate) async fn fails(&mut self) -> Result<Status, Unproven> {
        const EXPECTED: &str = "no further message and an end with a status other than 0";
        let status = self.end(EXPECTED).await?;
        check(status.code != 0, EXPECTED, || status.to_string())?;
        Ok(status)
    }

    async fn receive(&mut self) -> Result<Next, String> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Next::Message(message));
            }
            match &mut self.response {
                Response::Awaited(head) => {
                    let response = head.await.map_err(|error| broken(&error))?;
                    self.status = Status::read(response.headers());
                    self.response = Response::Body(response.into_body());
                }
                Response::Body(body) => match body.frame().await {
                    Some(frame) => match frame.map_err(|error| broken(&error))?.into_data() {
                        Ok(data) => {
                            self.total += data.len();
                            if self.total > MOST {
                                return Err(format!("more than {} MiB, and no end of it", MOST >> 20));
                            }
                            self.received.extend_from_slice(&data);
                        }
                        Err(frame) => self.status = frame.trailers_ref().and_then(Status::read),
                    },
                    None => {
                        return self.status.clone().map(Next::End).ok_or_else(|| "an end without a status".to_owned());
                    }
                },
            }
        }
    }

    /// The first message of what was received, if all of it is there.
    fn take_message(&mut self) -> Result<Option<Bytes>, String> {
        let Some((head, rest)) = self.received.split_first_chunk::<5>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        if compressed != 0 {
            return Err("a compressed message, which was not asked for".to_owned());
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(format!("a message of {length} bytes, more than the platform takes"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.received.advance(5);
        Ok(Some(self.received.split_to(length).freeze()))
    }
}

/// The whole chain: what hyper says by itself is that "the connection" has an "error".
fn broken(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// How a server ended a call.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) code: u32,
    pub(crate) message: String,
    /// `grpc-status-details-bin`, decoded; empty where there is none.
    pub(crate) details: Vec<u8>,
}

impl Status {
    fn read(headers: &HeaderMap) -> Option<Self> {
        // Servers may or may not pad.
        const BASE64: GeneralPurpose = GeneralPurpose::new(
            &STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let text = |name| headers.get(name).map_or(&b""[..], http::HeaderValue::as_bytes);
        Some(Self {
            code: headers.get("grpc-status")?.to_str().ok()?.parse().ok()?,
            message: percent_decoded(text("grpc-message")),
            details: BASE64.decode(text("grpc-status-details-bin")).unwrap_or_default(),
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {} ({:?})", self.code, self.message)
    }
}

fn percent_decoded(mut text: &[u8]) -> String {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        text = rest;
        let mut byte = *first;
        if let (b'%', [high, low, rest @ ..]) = (byte, rest)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            byte = high << 4 | low;
            text = rest;
        }
        decoded.push(byte);
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_message_is_percent_decoded() {
        assert_eq!(percent_decoded(b"a%20%C3%bc%"), "a ü%");
        assert_eq!(percent_decoded(b"100%zz %4"), "100%zz %4");
    }
}
