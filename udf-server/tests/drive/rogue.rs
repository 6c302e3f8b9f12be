//! Servers that do as a script says, also what the protocol forbids: bare HTTP/2, so that nothing keeps them from it.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use udf_server::drive::ServerAt;

use crate::stage::Stage;

/// A frame of `MapFn`, both ways, as far as the scripts need it; the other services' frames have the same shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapFrame {
    #[prost(message, repeated, tag = "1")]
    pub(crate) parts: Vec<Part>,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) handshake: Option<Flag>,
    #[prost(message, optional, tag = "4")]
    pub(crate) status: Option<Flag>,
}

/// A request or a result.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Part {
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// A handshake or a status: its first field says whether it is one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Flag {
    #[prost(bool, tag = "1")]
    pub(crate) set: bool,
}

pub(crate) const SET: Option<Flag> = Some(Flag { set: true });

/// A frame of `ReadFn` from a source.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadFrame {
    #[prost(message, optional, tag = "1")]
    pub(crate) result: Option<Record>,
    #[prost(message, optional, tag = "2")]
    pub(crate) status: Option<Flag>,
    #[prost(message, optional, tag = "3")]
    pub(crate) handshake: Option<Flag>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) payload: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(crate) offset: Option<Place>,
    #[prost(message, optional, tag = "3")]
    pub(crate) event_time: Option<Flag>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Place {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) offset: Bytes,
}

/// A frame of `AckFn`, both ways.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AckFrame {
    #[prost(message, optional, tag = "2")]
    pub(crate) handshake: Option<Flag>,
}

/// What a server does about a frame.
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Ends the stream with this code.
    End(u8),
}

pub(crate) fn send(frame: &impl Message) -> Step {
    Step::Send(frame.encode_to_vec())
}

/// A frame that arrived.
pub(crate) struct Arrived {
    /// `MapFn`, `ReadFn`, ..
    pub(crate) method: String,
    /// Which stream of this method, counted from 1.
    pub(crate) stream: usize,
    /// Which frame of this stream, counted from 1: the first is the handshake.
    pub(crate) frame: usize,
    pub(crate) bytes: Bytes,
}

/// How streams ended, as the server saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endings(Arc<Mutex<Vec<String>>>);

impl Endings {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

type Script = Arc<dyn Fn(Arrived) -> Vec<Step> + Send + Sync>;

/// Serves a script on the socket of this name.
pub(crate) fn serve(
    stage: &mut Stage,
    name: &str,
    info: &str,
    script: impl Fn(Arrived) -> Vec<Step> + Send + Sync + 'static,
) -> (ServerAt, Endings) {
    let at = stage.at(name);
    let listener = UnixListener::bind(&at.socket).unwrap();
    std::fs::write(at.info.as_ref().unwrap(), format!("{info}U+005C__END__")).unwrap();
    let endings = Endings::default();
    let (seen, script): (_, Script) = (endings.clone(), Arc::new(script));
    let streams = Arc::new(Mutex::new(Vec::new()));
    stage.servers.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (io, _) = listener.accept().await.unwrap();
            connections.spawn(connection(io, script.clone(), streams.clone(), seen.clone()));
        }
    });
    (at, endings)
}

async fn connection(io: UnixStream, script: Script, streams: Arc<Mutex<Vec<String>>>, endings: Endings) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let number = {
            let mut streams = streams.lock().unwrap();
            streams.push(method.clone());
            streams.iter().filter(|other| **other == method).count()
        };
        calls.spawn(call(method, number, request.into_body(), respond, script.clone(), endings.clone()));
    }
    // Calls see the end of the connection by themselves.
    while calls.join_next().await.is_some() {}
}

async fn call(
    method: String,
    number: usize,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    script: Script,
    endings: Endings,
) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut out = respond.send_response(head, false).unwrap();
    if method == "IsReady" {
        out.send_data(framed(Flag { set: true }.encode_to_vec()), false).unwrap();
        end(&mut out, 0);
        return;
    }
    let mut buffer = BytesMut::new();
    let mut frames = 0;
    let ending = loop {
        while let Some(bytes) = frame(&mut buffer) {
            frames += 1;
            for step in script(Arrived { method: method.clone(), stream: number, frame: frames, bytes }) {
                match step {
                    Step::Send(message) => drop(out.send_data(framed(message), false)),
                    Step::End(code) => {
                        end(&mut out, code);
                        return;
                    }
                }
            }
        }
        match body.data().await {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                buffer.extend_from_slice(&data);
            }
            Some(Err(error)) if error.is_reset() => break "reset",
            Some(Err(_)) => break "connection lost",
            None => break "half-closed",
        }
    };
    endings.0.lock().unwrap().push(format!("{method}: {ending}"));
}

/// Takes one gRPC message off the front.
fn frame(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().unwrap()) as usize;
    (buffer.len() >= 5 + length).then(|| buffer.split_to(5 + length).freeze().slice(5..))
}

fn framed(message: Vec<u8>) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), &message].concat().into()
}

fn end(out: &mut SendStream<Bytes>, code: u8) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    drop(out.send_trailers(trailers));
}
