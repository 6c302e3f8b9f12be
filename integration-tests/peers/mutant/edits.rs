//! Changes of what goes over the socket in one call: how faults of messages are written.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use numaflow_conformance::Kind;
use prost::Message;
use tokio::sync::SemaphorePermit;
use tokio::sync::mpsc::Sender;

use crate::pb::map::v1::{MapRequest, MapResponse};
use crate::pb::source::v1::{AckRequest, ReadRequest, ReadResponse};

pub(crate) const MAP_FN: &str = "/map.v1.Map/MapFn";
pub(crate) const READ_FN: &str = "/source.v1.Source/ReadFn";
pub(crate) const ACK_FN: &str = "/source.v1.Source/AckFn";
pub(crate) const NACK_FN: &str = "/source.v1.Source/NackFn";
pub(crate) const PENDING_FN: &str = "/source.v1.Source/PendingFn";
pub(crate) const PARTITIONS_FN: &str = "/source.v1.Source/PartitionsFn";

/// One thing on its way through a call.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A message, without its frame.
    Message(Bytes),
    /// The end: of the platform's half with nothing, of the server's with the status.
    End(HeaderMap),
    /// Nothing comes any more, not even an end.
    Silence,
}

impl Item {
    pub(crate) fn message(message: &impl Message) -> Self {
        Self::Message(message.encode_to_vec().into())
    }

    /// An end with this status.
    pub(crate) fn status(code: u16, text: &'static str) -> Self {
        let mut status = HeaderMap::new();
        status.insert("grpc-status", code.into());
        status.insert("grpc-message", HeaderValue::from_static(text));
        Self::End(status)
    }
}

/// A call as a fault sees it.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) path: String,
    pub(crate) authority: String,
    /// Where the mutant may keep something for its next process.
    pub(crate) memory: std::path::PathBuf,
    pub(crate) interjections: Sender<Item>,
}

impl Call {
    /// Whether it lasts for many messages, after a handshake.
    pub(crate) fn is_stream(&self) -> bool {
        [MAP_FN, READ_FN, ACK_FN].contains(&&*self.path)
    }

    /// Has the server say something that it has not said. What it says itself goes on.
    pub(crate) fn interject(&self, item: Item) {
        // The call may be over, or have enough to say.
        drop(self.interjections.try_send(item));
    }

    /// Ends the call for something in a request.
    pub(crate) fn refuse(&self) {
        self.interject(Item::status(3, "the mutant does not take this"));
    }
}

type Edit = Box<dyn FnMut(Item) -> Vec<Item> + Send>;
type Gate = Pin<Box<dyn Future<Output = Option<SemaphorePermit<'static>>> + Send>>;

/// What becomes of one call.
pub(crate) struct Edits {
    /// The server hears of the call when this is over; what it gives is kept while the call lasts.
    pub(crate) gate: Gate,
    pub(crate) requests: Edit,
    pub(crate) answers: Edit,
    /// When nothing was answered for so long, the call ends with OK.
    pub(crate) patience: Option<Duration>,
}

impl Default for Edits {
    fn default() -> Self {
        let same = || Box::new(|item| vec![item]);
        Self { gate: Box::pin(ready(None)), requests: same(), answers: same(), patience: None }
    }
}

impl Edits {
    pub(crate) fn gate(
        mut self,
        gate: impl Future<Output = Option<SemaphorePermit<'static>>> + Send + 'static,
    ) -> Self {
        self.gate = Box::pin(gate);
        self
    }

    pub(crate) fn requests(mut self, edit: impl FnMut(Item) -> Vec<Item> + Send + 'static) -> Self {
        self.requests = Box::new(edit);
        self
    }

    pub(crate) fn answers(mut self, edit: impl FnMut(Item) -> Vec<Item> + Send + 'static) -> Self {
        self.answers = Box::new(edit);
        self
    }
}

/// Each message of a type becomes as many others; ends stay.
pub(crate) fn messages<M: Message + Default>(
    mut edit: impl FnMut(M) -> Vec<M> + Send + 'static,
) -> impl FnMut(Item) -> Vec<Item> + Send + 'static {
    move |item| match item {
        Item::Message(encoded) => match M::decode(encoded.clone()) {
            Ok(message) => edit(message).iter().map(Item::message).collect(),
            Err(_) => vec![Item::Message(encoded)],
        },
        Item::End(_) | Item::Silence => vec![item],
    }
}

/// Each message of a type is changed, or left out where the function says so.
pub(crate) fn each<M: Message + Default>(
    mut edit: impl FnMut(&mut M) -> bool + Send + 'static,
) -> impl FnMut(Item) -> Vec<Item> + Send + 'static {
    messages(move |mut message| if edit(&mut message) { vec![message] } else { Vec::new() })
}

/// Changes the answers of one method.
pub(crate) fn answers_of<M: Message + Default>(
    call: &Call,
    path: &str,
    edit: impl FnMut(&mut M) -> bool + Send + 'static,
) -> Edits {
    if call.path == path { Edits::default().answers(each(edit)) } else { Edits::default() }
}

/// Changes the requests of one method.
pub(crate) fn requests_of<M: Message + Default>(
    call: &Call,
    path: &str,
    edit: impl FnMut(&mut M) -> bool + Send + 'static,
) -> Edits {
    if call.path == path { Edits::default().requests(each(edit)) } else { Edits::default() }
}

/// Changes what a map answers to messages; the handshake and, in batch mode, the end of a batch stay as they are.
pub(crate) fn map_answers(call: &Call, mut edit: impl FnMut(&mut MapResponse) -> bool + Send + 'static) -> Edits {
    let is_batch = call.kind == Kind::BatchMap;
    answers_of(call, MAP_FN, move |answer: &mut MapResponse| {
        answer.handshake.is_some() || (is_batch && is_eot(answer)) || edit(answer)
    })
}

/// Replaces what a map answers, all but the handshake, by any number of answers.
pub(crate) fn map_answers_by(
    call: &Call,
    mut edit: impl FnMut(MapResponse) -> Vec<MapResponse> + Send + 'static,
) -> Edits {
    if call.path != MAP_FN {
        return Edits::default();
    }
    Edits::default().answers(messages(
        move |answer: MapResponse| {
            if answer.handshake.is_some() { vec![answer] } else { edit(answer) }
        },
    ))
}

/// Changes the messages that a map is sent.
pub(crate) fn map_requests(call: &Call, mut edit: impl FnMut(&mut MapRequest) -> bool + Send + 'static) -> Edits {
    requests_of(call, MAP_FN, move |request: &mut MapRequest| {
        request.handshake.is_some() || request.status.is_some() || edit(request)
    })
}

/// Replaces what a read is answered with, all but the handshake.
pub(crate) fn read_answers_by(
    call: &Call,
    mut edit: impl FnMut(ReadResponse) -> Vec<ReadResponse> + Send + 'static,
) -> Edits {
    if call.path != READ_FN {
        return Edits::default();
    }
    Edits::default().answers(messages(
        move |answer: ReadResponse| {
            if answer.handshake.is_some() { vec![answer] } else { edit(answer) }
        },
    ))
}

/// Changes each record that is delivered.
pub(crate) fn records(
    call: &Call,
    mut edit: impl FnMut(&mut crate::pb::source::v1::read_response::Result) -> bool + Send + 'static,
) -> Edits {
    answers_of(call, READ_FN, move |answer: &mut ReadResponse| answer.result.as_mut().is_none_or(&mut edit))
}

/// Changes the status that a call ends with, where it is not OK.
pub(crate) fn failures(mut edit: impl FnMut(HeaderMap) -> Vec<Item> + Send + 'static) -> Edits {
    Edits::default().answers(move |item| match item {
        Item::End(status) if code(&status) != 0 => edit(status),
        Item::Message(_) | Item::End(_) | Item::Silence => vec![item],
    })
}

pub(crate) fn code(status: &HeaderMap) -> u16 {
    let code = status.get("grpc-status").and_then(|code| code.to_str().ok());
    code.and_then(|code| code.parse().ok()).unwrap_or(2)
}

pub(crate) fn is_eot(answer: &MapResponse) -> bool {
    answer.status.is_some_and(|status| status.eot)
}

pub(crate) fn is_end_of_read(answer: &ReadResponse) -> bool {
    answer.status.as_ref().is_some_and(|status| status.eot)
}

/// The first message of a stream, as the platform sends it; `None` for a message that is no handshake at all.
pub(crate) fn handshake_in(path: &str, message: &Bytes) -> Option<bool> {
    let message = message.clone();
    match path {
        MAP_FN => MapRequest::decode(message).ok()?.handshake.map(|handshake| handshake.sot),
        READ_FN => ReadRequest::decode(message).ok()?.handshake.map(|handshake| handshake.sot),
        ACK_FN => AckRequest::decode(message).ok()?.handshake.map(|handshake| handshake.sot),
        _ => None,
    }
}

/// What a fault remembers, whatever happened to another call.
pub(crate) fn lock<T>(memory: &Mutex<T>) -> MutexGuard<'_, T> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
