//! Between the suite and the server: passes each call on, message by message, with the edits of a fault.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use numaflow_conformance::Kind;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::edits::{Call, Edits, Item};

/// How much of a stream, and of all streams of a connection, is on its way. Enough that large messages do not wait much, and
/// that a stream which is not read does not hold up the others.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// What a fault may have the server say by itself before it is said.
const INTERJECTIONS: usize = 16;

type Problem = Box<dyn Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Problem>;

/// The suite's socket, and the way to the server's.
pub(crate) struct Relay {
    listener: UnixListener,
    place: Arc<Place>,
}

struct Place {
    kind: Kind,
    server: PathBuf,
    memory: PathBuf,
    edits: fn(&Call) -> Edits,
}

impl Relay {
    /// Listens on `socket` for a server that will listen on `server`.
    pub(crate) fn bind(
        kind: Kind,
        socket: &Path,
        server: PathBuf,
        memory: PathBuf,
        edits: fn(&Call) -> Edits,
    ) -> io::Result<Self> {
        // Of one that was killed.
        if std::fs::symlink_metadata(socket).is_ok_and(|file| file.file_type().is_socket()) {
            std::fs::remove_file(socket)?;
        }
        let listener = UnixListener::bind(socket)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", socket.display())))?;
        Ok(Self { listener, place: Arc::new(Place { kind, server, memory, edits }) })
    }

    /// Passes connections on; never ends but with an error.
    pub(crate) async fn serve(self) -> io::Error {
        let mut connections = JoinSet::new();
        loop {
            match self.listener.accept().await {
                Ok((io, _)) => connections.spawn(connection(io, self.place.clone())),
                Err(error) => return error,
            };
            while connections.try_join_next().is_some() {}
        }
    }
}

/// Passes one connection on, over one of its own.
async fn connection(io: UnixStream, place: Arc<Place>) -> Result<(), Problem> {
    let behind = UnixStream::connect(&place.server).await?;
    let (sender, behind) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(behind))
        .await?;
    let call = service_fn(move |request| {
        let response = pass_on(request, sender.clone(), &place);
        async move { Ok::<_, Infallible>(response) }
    });
    let front = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(None)
        .serve_connection(TokioIo::new(io), call);
    let (front, behind) = (std::pin::pin!(front), std::pin::pin!(behind));
    // Whichever side goes takes the other with it.
    tokio::select! {
        ended = front => ended?,
        ended = behind => ended?,
    }
    Ok(())
}

/// Answers with a head at once, as our server does; all the rest is for the body to find out.
fn pass_on(request: Request<Incoming>, mut sender: SendRequest<Body>, place: &Place) -> Response<Body> {
    let (head, requests) = request.into_parts();
    let (interjections, interjected) = mpsc::channel(INTERJECTIONS);
    let call = Call {
        kind: place.kind,
        path: head.uri.path().to_owned(),
        authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
        memory: place.memory.clone(),
        interjections,
    };
    let Edits { gate, requests: edit_request, answers: edit_answer, patience } = (place.edits)(&call);
    let requests = Way {
        origin: Origin::Body(requests),
        received: BytesMut::new(),
        edit: edit_request,
        interjected: None,
        patience: None,
        waiting: VecDeque::new(),
        over: false,
        _held: None,
    };
    let answer = async move {
        let held = gate.await;
        sender.ready().await?;
        let response = sender.send_request(Request::from_parts(head, requests.into_body())).await?;
        Ok((response, held))
    };
    let answers = Way {
        origin: Origin::Head(Box::pin(answer)),
        received: BytesMut::new(),
        edit: edit_answer,
        interjected: Some(interjected),
        patience,
        waiting: VecDeque::new(),
        over: false,
        _held: None,
    };
    let mut response = Response::new(answers.into_body());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// One direction of a call.
struct Way {
    origin: Origin,
    /// What has come of messages that are not whole.
    received: BytesMut,
    edit: Box<dyn FnMut(Item) -> Vec<Item> + Send>,
    interjected: Option<mpsc::Receiver<Item>>,
    patience: Option<std::time::Duration>,
    /// What is to go on before anything else is received.
    waiting: VecDeque<Item>,
    over: bool,
    _held: Option<SemaphorePermit<'static>>,
}

type Head = Pin<Box<dyn Future<Output = hyper::Result<(Response<Incoming>, Option<SemaphorePermit<'static>>)>> + Send>>;

/// Where it comes from.
enum Origin {
    /// The server, which has not answered yet.
    Head(Head),
    Body(Incoming),
    /// A head that was all there is.
    End(HeaderMap),
}

impl Way {
    fn into_body(self) -> Body {
        let frames = unfold(self, |mut way| async move { way.frame().await.map(|frame| (frame, way)) });
        StreamBody::new(frames).boxed_unsync()
    }

    /// The next frame to pass on.
    async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Problem>> {
        loop {
            if self.over {
                return None;
            }
            match self.waiting.pop_front() {
                Some(Item::Message(message)) => return Some(Ok(Frame::data(framed(&message)))),
                Some(Item::End(status)) => {
                    self.over = true;
                    // The platform's half ends with nothing.
                    return (!status.is_empty()).then(|| Ok(Frame::trailers(status)));
                }
                Some(Item::Silence) => return pending().await,
                None => {}
            }
            match self.receive().await {
                Ok(items) => self.waiting.extend(items),
                Err(problem) => {
                    self.over = true;
                    return Some(Err(problem));
                }
            }
        }
    }

    /// What comes next: what a fault says, or what was received, as the fault changes it.
    async fn receive(&mut self) -> Result<Vec<Item>, Problem> {
        let Self { origin, received, edit, interjected, patience, _held: held, .. } = self;
        let interjection = async {
            match interjected {
                Some(interjected) => interjected.recv().await,
                None => None,
            }
        };
        let patience = async {
            match patience {
                Some(patience) => sleep(*patience).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(item) = interjection => Ok(vec![item]),
            item = receive(origin, received, held) => Ok(edit(item?)),
            () = patience => Ok(vec![Item::status(0, "enough")]),
        }
    }
}

/// The next item of where it comes from. Nothing is lost when the future is dropped.
async fn receive(
    origin: &mut Origin,
    received: &mut BytesMut,
    held: &mut Option<SemaphorePermit<'static>>,
) -> Result<Item, Problem> {
    loop {
        if let Some(message) = take_message(received) {
            return Ok(Item::Message(message));
        }
        match origin {
            Origin::Head(head) => {
                let (response, permit) = head.await?;
                *held = permit;
                let (head, body) = response.into_parts();
                let is_all = head.headers.contains_key("grpc-status");
                *origin = if is_all { Origin::End(status_in(&head.headers)) } else { Origin::Body(body) };
            }
            Origin::Body(body) => match body.frame().await {
                Some(frame) => match frame?.into_data() {
                    Ok(data) => received.extend_from_slice(&data),
                    Err(frame) => return Ok(Item::End(frame.into_trailers().unwrap_or_default())),
                },
                None => return Ok(Item::End(HeaderMap::new())),
            },
            Origin::End(status) => return Ok(Item::End(std::mem::take(status))),
        }
    }
}

/// Only what says how the call ended.
fn status_in(head: &HeaderMap) -> HeaderMap {
    let names = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
    names.iter().filter_map(|name| Some((http::HeaderName::from_static(name), head.get(*name)?.clone()))).collect()
}

/// The first message of what was received, if all of it is there. Nobody compresses any.
fn take_message(received: &mut BytesMut) -> Option<Bytes> {
    let ([_, length @ ..], rest) = received.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes(*length) as usize;
    if rest.len() < length {
        let missing = length - rest.len();
        received.reserve(missing);
        return None;
    }
    received.advance(5);
    Some(received.split_to(length).freeze())
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
