//! Every gRPC status that we send.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use tonic::{Code, Status};

use super::{HandlerError, chain, told};
use crate::frame::FrameError;
use crate::map::MapFault;
use crate::panic::Panic;
use crate::pb;
use crate::service::Context;

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

/// The most bytes of an error's text in a line of the log, or with a message, as a nack's reason or in a dead letter: enough
/// for an error and its causes, and little beside what the platform stores with every message.
pub(crate) const TEXT_CAP: usize = 1024;

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

/// A message with nothing in it that would make it one.
pub(crate) fn empty_message() -> Status {
    Status::invalid_argument(
        "a message without a request: each has to have one, but for the handshake and the ends of batches",
    )
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

/// A call with one request that has none, or several (gRPC's status for a wrong number of requests).
pub(crate) fn not_one_message() -> Status {
    Status::unimplemented("the call must have exactly one message")
}

/// An answer above the limit.
pub(crate) fn answer_too_large(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the answer has {length} bytes, and the limit of this server is {limit}: raise its max_message_size"
    ))
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
        MapFault::NothingInIt => empty_message(),
    }
}

/// A batch that is larger than what is collected for a handler that takes whole batches.
pub(crate) fn batch_too_large(messages: usize, bytes: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "the first {messages} messages of a batch have {bytes} bytes, and the limit of this server is {limit}: make the \
         platform's batches smaller (readBatchSize), or raise --max-batch-bytes"
    ))
}

/// The batches of all streams are larger together than what is collected for handlers that take whole batches.
pub(crate) fn batches_too_large(bytes: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "all batches that are collected and handled now have {bytes} bytes together, and the limit of this server is \
         {limit}: make the platform's batches smaller (readBatchSize), or raise --max-batch-bytes"
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
        crate::logging::warn!(%problem, "a status cannot be sent as it is");
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
    use std::error::Error;
    use std::io;

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
