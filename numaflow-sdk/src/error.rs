//! Errors for their three audiences: user code ([`HandlerError`]), the program ([`ServeError`]) and the wire, whose
//! statuses are made in this module and nowhere else.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use tonic::{Code, Status};

use crate::frame::FrameError;
use crate::map::{FailurePolicy, MapFault};
use crate::panic::{Panic, catching};
use crate::server::Drained;
use crate::service::Context;
use crate::{MapRequest, NackOptions, pb};

/// Why a handler could not do its work. Any error turns into one with `?`, and so does text.
///
/// What becomes of the message is for the server to say, by its [`Retry`](crate::map::Retry) and its
/// [`FailurePolicy`]; an error that knows better brings its own answer along, which wins over both:
///
/// | | Tried again here | Then |
/// | --- | --- | --- |
/// | [`HandlerError::new`], `?` | as the server says | as the server says |
/// | [`terminal`](HandlerError::terminal) | no | as the server says |
/// | [`fail`](HandlerError::fail) | no | [`FailurePolicy::Fail`]: the stream ends, the platform sends the message again |
/// | [`nack`](HandlerError::nack) | no | [`FailurePolicy::Nack`]: the source delivers the message again |
/// | [`drop`](HandlerError::drop) | no | [`FailurePolicy::Drop`]: the message is lost |
/// | [`dead_letter`](HandlerError::dead_letter) | no | [`FailurePolicy::DeadLetter`]: the message goes on with a tag |
/// | [`fail_tag`](HandlerError::fail_tag) | no | [`FailurePolicy::FailTag`]: the platform tries the message again |
///
/// Of several answers the last one counts. All this is for maps; an error of a source ends its call whatever it brings.
///
/// Not every bad message is an error: [`Message::to_drop`](crate::Message::to_drop) and
/// [`Message::to_nack`](crate::Message::to_nack) do the same as outputs. As an error it is logged and counts as failed.
///
/// It is not itself a [`std::error::Error`], because it could not be made from every error by `?` then.
///
/// ```
/// use numaflow_sdk::{HandlerError, MapRequest, Message};
///
/// fn double(request: MapRequest) -> Result<Message, HandlerError> {
///     // As the server says.
///     let text = std::str::from_utf8(request.value())?;
///     // The same text would not be a number the next time either.
///     let number: u64 = text.parse().map_err(|error| HandlerError::new(error).terminal())?;
///     let Some(double) = number.checked_mul(2) else {
///         return Err(HandlerError::new("the number is too large").dead_letter("too-large", request));
///     };
///     Ok(Message::new(double.to_string()))
/// }
/// assert_eq!(double(MapRequest::new("x")).unwrap_err().to_string(), "invalid digit found in string");
/// assert!(double(MapRequest::new("18446744073709551615")).unwrap_err().policy().is_some());
/// ```
pub struct HandlerError {
    source: Box<dyn Error + Send + Sync>,
    verdict: Verdict,
}

/// What an error says of its message.
#[derive(Default)]
enum Verdict {
    /// Nothing: the server decides.
    #[default]
    None,
    /// Not to be tried again here.
    Terminal,
    /// What is to become of the message, and for a dead letter the message.
    Own(Box<(FailurePolicy, Option<MapRequest>)>),
}

impl HandlerError {
    /// Creates an error from another one, or from text.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), verdict: Verdict::None }
    }

    /// Another try here would fail as well: the server's policy applies at once. An answer that the error brings along
    /// stays.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        if matches!(self.verdict, Verdict::None) {
            self.verdict = Verdict::Terminal;
        }
        self
    }

    /// The stream is to end with this error as its status, and the platform sends the message again.
    #[must_use]
    pub fn fail(self) -> Self {
        self.answered(FailurePolicy::Fail, None)
    }

    /// The source is to deliver the message again, by these options; a reason that they lack is the error's text.
    #[must_use]
    pub fn nack(self, options: NackOptions) -> Self {
        self.answered(FailurePolicy::Nack(options), None)
    }

    /// The message is of no use, and is to count as handled.
    #[must_use]
    pub fn drop(self) -> Self {
        self.answered(FailurePolicy::Drop, None)
    }

    /// The message is to go on as it came, with this tag and the error's text in its user metadata.
    ///
    /// It takes the request back because the handler owns it: a copy that is there for the case that somebody asks would
    /// cost every message. A handler that takes its request apart clones it first.
    ///
    /// The error of a [`BatchMapper`](crate::map::BatchMapper) is about a batch, and one message can't stand for the others:
    /// each of them is a dead letter where the server keeps them (it tries again, or its own policy is a dead letter), and
    /// the stream ends as with [`fail`](Self::fail) where it does not. A batch mapper that knows the bad ones answers them
    /// with a tag.
    #[must_use]
    pub fn dead_letter(self, tag: impl Into<String>, request: MapRequest) -> Self {
        self.answered(FailurePolicy::DeadLetter { tag: tag.into() }, Some(request))
    }

    /// The platform is to try the message again, by the `retryStrategy` of the vertex.
    #[must_use]
    pub fn fail_tag(self) -> Self {
        self.answered(FailurePolicy::FailTag, None)
    }

    pub(crate) fn answered(mut self, policy: FailurePolicy, input: Option<MapRequest>) -> Self {
        self.verdict = Verdict::Own(Box::new((policy, input)));
        self
    }

    /// What the error wants to become of the message; `None` where the server decides.
    #[must_use]
    pub fn policy(&self) -> Option<&FailurePolicy> {
        self.own().map(|(policy, _)| policy)
    }

    /// Whether the message is not to be tried again here, because the error is terminal or brings its own answer.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        !matches!(self.verdict, Verdict::None)
    }

    /// The message, where the error brings it along.
    pub(crate) fn brought_input(&self) -> Option<&MapRequest> {
        self.own().and_then(|(_, input)| input.as_ref())
    }

    fn own(&self) -> Option<&(FailurePolicy, Option<MapRequest>)> {
        match &self.verdict {
            Verdict::Own(own) => Some(own),
            Verdict::None | Verdict::Terminal => None,
        }
    }

    /// The error this was made from, taken out.
    pub(crate) fn into_error(self) -> Box<dyn Error + Send + Sync> {
        self.source
    }

    /// The error this was made from.
    #[must_use]
    pub fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(source: E) -> Self {
        Self::new(source)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, f)
    }
}

/// Why a server could not be started or could not go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// An option has a value that makes no sense.
    Option {
        /// The option's name, as the method that sets it is called.
        name: &'static str,
        /// What is wrong with the value.
        problem: String,
    },
    /// The socket path is longer than the system allows.
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// The most bytes a path may have.
        limit: usize,
    },
    /// The folder of the socket or the info file cannot be made.
    Directory {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is something at the socket path that is not a socket; it is left alone.
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// There is something at the info file's path that is not an info file; it is left alone.
    NotServerInfo {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens on the socket.
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    Bind {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server-info file cannot be written.
    PublishInfo {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The admin endpoint cannot listen on its address.
    BindAdmin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The environment holds values that cannot be used.
    Environment {
        /// The variables, each with what is wrong with its value.
        problems: Vec<String>,
    },
    /// What the program did before serving failed.
    SetUp {
        /// The error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The runtime or the signal handlers cannot be started.
    Runtime {
        /// What the system says.
        source: io::Error,
    },
    /// What was to run when the drain starts ([`Server::on_shutdown`](crate::Server::on_shutdown)) panicked; the server has
    /// drained all the same.
    OnShutdown {
        /// What the panic said, and where it was if that is known.
        message: String,
        /// How the drain went.
        drained: Drained,
    },
    /// Something panicked while the server served, outside of handlers and connections, where a panic is not the
    /// failure of one call: the server has ended without a drain.
    Panicked {
        /// What the panic said, and where it was if that is known.
        message: String,
    },
}

impl ServeError {
    /// Whether the mistake is in what the server was told (a path, an option, the environment) and not in the system.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Option { .. }
            | Self::SocketPathTooLong { .. }
            | Self::Directory { .. }
            | Self::NotASocket { .. }
            | Self::NotServerInfo { .. }
            | Self::Environment { .. } => true,
            Self::SocketInUse { .. }
            | Self::Bind { .. }
            | Self::PublishInfo { .. }
            | Self::BindAdmin { .. }
            | Self::SetUp { .. }
            | Self::Runtime { .. }
            | Self::OnShutdown { .. }
            | Self::Panicked { .. } => false,
        }
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option { name, problem } => write!(f, "{name}: {problem}"),
            Self::SocketPathTooLong { path, limit } => write!(
                f,
                "the socket path {} has {} bytes, and the system allows {limit}: choose a shorter one",
                path.display(),
                path.as_os_str().len()
            ),
            Self::Directory { path, .. } => write!(f, "the folder {} cannot be made", path.display()),
            Self::NotASocket { path } => {
                write!(f, "{} is not a socket: move it away or choose another socket path", path.display())
            }
            Self::NotServerInfo { path } => write!(
                f,
                "{} is not a server-info file: move it away or choose another path for the info file",
                path.display()
            ),
            Self::SocketInUse { path } => write!(f, "another process listens on {}", path.display()),
            Self::Bind { path, .. } => write!(f, "the socket {} cannot be made", path.display()),
            Self::PublishInfo { path, .. } => write!(f, "the server-info file {} cannot be written", path.display()),
            Self::BindAdmin { address, .. } => {
                write!(f, "the admin endpoint cannot listen on {address}; give `admin` another address")
            }
            Self::Environment { problems } => write!(f, "in the environment, {}", problems.join("; ")),
            Self::SetUp { .. } => f.write_str("the set-up before serving failed"),
            Self::Runtime { .. } => f.write_str("the runtime cannot be started"),
            Self::OnShutdown { message, .. } => {
                write!(f, "the server has drained, but an action of its on_shutdown panicked: {message}")
            }
            Self::Panicked { message } => write!(f, "the server ended without a drain, because it panicked: {message}"),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Directory { source, .. }
            | Self::Bind { source, .. }
            | Self::PublishInfo { source, .. }
            | Self::BindAdmin { source, .. }
            | Self::Runtime { source } => Some(source),
            Self::SetUp { source } => Some(&**source),
            Self::Option { .. }
            | Self::SocketPathTooLong { .. }
            | Self::NotASocket { .. }
            | Self::NotServerInfo { .. }
            | Self::SocketInUse { .. }
            | Self::Environment { .. }
            | Self::OnShutdown { .. }
            | Self::Panicked { .. } => None,
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    told(|| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    })
}

/// What an error says of itself. That is user code too, and its panic must not take the place of the error.
fn told(tell: impl FnOnce() -> String) -> String {
    catching(tell).unwrap_or_else(|panic| format!("an error whose text cannot be made, because that panics: {panic}"))
}

/// The most bytes of a status message. Trailers above 16 KiB lose fields at the platform (protocol: size limits of error
/// statuses), and the message is in them twice: percent-encoded, three bytes for one at worst, and inside the details,
/// which are base64. Both caps together stay below that also for text that is not ASCII.
const MESSAGE_CAP: usize = 1536;
/// The most bytes of `DebugInfo.detail`, for the same reason.
const DETAIL_CAP: usize = 6 * 1024;
const DEBUG_INFO: &str = "type.googleapis.com/google.rpc.DebugInfo";

/// The status of a handler that returned an error: INTERNAL, with the marker by which the platform finds the container.
pub(crate) fn handler_failed(container: &str, error: &HandlerError) -> Status {
    execution_error(container, &chain(error.as_error()), &told(|| format!("{error:?}")))
}

/// The status of a handler that panicked, with its location and backtrace. Takes long: backtraces have to be resolved.
pub(crate) fn handler_panicked(container: &str, panic: &Panic) -> Status {
    execution_error(container, &panic.to_string(), &panic.backtrace())
}

/// The same, made on a thread where nothing waits for it.
pub(crate) async fn handler_panicked_aside(context: &Arc<Context>, panic: Panic) -> Status {
    let context = context.clone();
    let resolve = move || handler_panicked(&context.container_type, &panic);
    tokio::task::spawn_blocking(resolve).await.unwrap_or_else(|_| draining())
}

/// A handler's task ended without an outcome, which only a runtime that shuts down does.
pub(crate) fn handler_lost(container: &str, error: &tokio::task::JoinError) -> Status {
    execution_error(container, &error.to_string(), "")
}

fn execution_error(container: &str, text: &str, detail: &str) -> Status {
    let message = one_line(&format!("UDF_EXECUTION_ERROR({container}): {text}"), MESSAGE_CAP);
    let debug_info =
        pb::google::rpc::DebugInfo { stack_entries: Vec::new(), detail: cap(detail, DETAIL_CAP).to_owned() };
    let details = pb::google::rpc::Status {
        code: Code::Internal as i32,
        message: message.clone(),
        details: vec![prost_types::Any { type_url: DEBUG_INFO.to_owned(), value: debug_info.encode_to_vec() }],
    };
    Status::with_details(Code::Internal, message, Bytes::from(details.encode_to_vec()))
}

/// `text` for a status message, a reason or metadata: at most `limit` bytes, and spaces for control characters, which have
/// no place there.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    cap(text, limit).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most `limit` bytes of `text`, whole characters only.
fn cap(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The first message of a stream was not a handshake.
pub(crate) fn no_handshake() -> Status {
    Status::invalid_argument("the first message of the stream must be a handshake with sot = true")
}

/// The stream ended before its handshake.
pub(crate) fn closed_before_handshake() -> Status {
    Status::invalid_argument("the stream was closed before the handshake")
}

/// A message without the part that makes it one.
pub(crate) fn missing_part(part: &'static str, id: &str) -> Status {
    Status::invalid_argument(format!("a message without {part} (id {id:?})"))
}

/// The bytes that the peer sends are not gRPC's frames, or not such as we take.
pub(crate) fn bad_prefix(error: FrameError) -> Status {
    match error {
        FrameError::TooLarge { length, limit } => Status::resource_exhausted(format!(
            "a message of {length} bytes is announced, and the limit of this server is {limit}: send less at once, or \
             raise its max_message_size"
        )),
        FrameError::Compressed => {
            Status::unimplemented("a message is compressed, which this server does not take: send it as it is")
        }
        FrameError::BadFlag(flag) => Status::invalid_argument(format!(
            "a message begins with {flag}, and only 0 (not compressed) and 1 (compressed) have a meaning"
        )),
    }
}

/// A frame that is whole holds something else than the message it should.
pub(crate) fn bad_message(problem: &dyn fmt::Display) -> Status {
    Status::invalid_argument(format!("the message cannot be decoded: {problem}"))
}

/// The peer closed its side in the middle of a message.
pub(crate) fn cut_short() -> Status {
    Status::invalid_argument("the stream was closed in the middle of a message")
}

/// What the peer of a `MapFn` stream did wrong.
pub(crate) fn map_fault(fault: MapFault) -> Status {
    match fault {
        MapFault::NoHandshake => no_handshake(),
        MapFault::ClosedBeforeHandshake => closed_before_handshake(),
        MapFault::NothingInIt => missing_part("a request", ""),
    }
}

/// A batch that is larger than what is collected for a handler that takes whole batches.
pub(crate) fn batch_too_large(messages: usize, bytes: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the first {messages} messages of a batch have {bytes} bytes, and the limit of this server is {limit}: make the \
         platform's batches smaller (readBatchSize), or raise --max-batch-bytes"
    ))
}

/// The connection or the call was broken off; nobody will see this status.
pub(crate) fn peer_gone() -> Status {
    Status::cancelled("the peer is gone")
}

/// What ends a call: the trailers for a status, or for OK where there is none.
pub(crate) fn trailers(status: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let status = status.cloned().unwrap_or_else(|| Status::new(Code::Ok, ""));
    if let Err(problem) = status.add_header(&mut trailers) {
        // The code counts; what cannot be a header is left out.
        trailers.clear();
        tracing::warn!(%problem, "a status cannot be sent as it is");
        trailers.insert("grpc-status", HeaderValue::from(i32::from(status.code())));
    }
    trailers
}

/// The server stops; the platform sends what was not answered to the next one.
pub(crate) fn draining() -> Status {
    Status::unavailable("the server is shutting down")
}

/// A path that is not served here.
pub(crate) fn unknown_method(path: &str) -> Status {
    Status::unimplemented(format!("{path} is not served here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_text_keeps_the_status_small() {
        let status = execution_error("udf", &"ü".repeat(1 << 20), &"ß".repeat(1 << 20));
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().len() <= MESSAGE_CAP);
        assert!(status.message().starts_with("UDF_EXECUTION_ERROR(udf): üü"));
        let trailers = 3 * status.message().len() + status.details().len().div_ceil(3) * 4;
        assert!(trailers < 16 * 1024 - 512, "{trailers} bytes of trailers");
        let details = pb::google::rpc::Status::decode(status.details()).unwrap();
        assert_eq!(details.code, 13);
        assert_eq!(details.message, status.message());
        assert_eq!(details.details[0].type_url, DEBUG_INFO);
        let info = pb::google::rpc::DebugInfo::decode(&details.details[0].value[..]).unwrap();
        assert!(info.detail.starts_with("ßß"));
    }

    #[test]
    fn the_last_answer_counts_and_none_is_lost_to_terminal() {
        let error = || HandlerError::new("no");
        assert_eq!((error().policy(), error().is_terminal()), (None, false));
        assert_eq!((error().terminal().policy(), error().terminal().is_terminal()), (None, true));
        let tag = "bad".to_owned();
        for (error, policy) in [
            (error().fail(), FailurePolicy::Fail),
            (error().drop().terminal(), FailurePolicy::Drop),
            (error().terminal().fail_tag(), FailurePolicy::FailTag),
            (error().drop().nack(NackOptions::new()), FailurePolicy::Nack(NackOptions::new())),
            (error().dead_letter("bad", MapRequest::new("v")), FailurePolicy::DeadLetter { tag }),
        ] {
            assert_eq!((error.policy(), error.is_terminal()), (Some(&policy), true));
            assert_eq!(error.to_string(), "no");
        }
    }

    #[test]
    fn the_whole_chain_is_told() {
        #[derive(Debug)]
        struct Outer(io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the lookup failed")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let status = handler_failed("udf", &HandlerError::new(Outer(io::Error::other("no\nroute"))));
        assert_eq!(status.message(), "UDF_EXECUTION_ERROR(udf): the lookup failed: no route");
    }

    #[test]
    fn a_bad_prefix_is_told_with_the_code_that_fits() {
        let status = bad_prefix(FrameError::TooLarge { length: 11, limit: 10 });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("11 bytes") && status.message().contains("is 10:"), "{status}");
        assert_eq!(bad_prefix(FrameError::Compressed).code(), Code::Unimplemented);
        let status = bad_prefix(FrameError::BadFlag(42));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("42"), "{status}");
    }
}
