//! The status by which the platform knows that it was user code that failed, and in which container.

use prost::Message;

use crate::outcome::{Unproven, check};
use crate::wire::Status;

const INTERNAL: u32 = 13;
const DEBUG_INFO: &str = "type.googleapis.com/google.rpc.DebugInfo";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.DebugInfo`.
#[derive(Clone, PartialEq, Message)]
struct DebugInfo {
    #[prost(string, repeated, tag = "1")]
    stack_entries: Vec<String>,
    #[prost(string, tag = "2")]
    detail: String,
}

/// Checks that this is what a handler's panic or exception with this text has to end a call with.
pub(super) fn execution_error(status: &Status, text: &str) -> Result<(), Unproven> {
    check(status.code == INTERNAL, "status 13", || status.to_string())?;
    let marked = status.message.strip_prefix("UDF_EXECUTION_ERROR(").and_then(|rest| rest.split_once("): "));
    let told = marked.is_some_and(|(container, told)| !container.is_empty() && told.contains(text));
    let expected = format!("UDF_EXECUTION_ERROR(<container>): and {text:?}");
    check(told, &expected, || format!("{:?}", status.message))?;

    check(!status.details.is_empty(), "grpc-status-details-bin, decodable", || "none".to_owned())?;
    let details = RichStatus::decode(&status.details[..])
        .map_err(|error| Unproven::broken("details that are a google.rpc.Status", error.to_string()))?;
    let same = details.code == status.code && details.message == status.message;
    check(same, "details with the code and message of the status", || format!("{details:?}"))?;
    let debug_info = details.details.iter().find(|any| any.type_url == DEBUG_INFO);
    let decoded =
        debug_info.is_some_and(|any| DebugInfo::decode(&any.value[..]).is_ok_and(|info| !info.detail.is_empty()));
    check(decoded, "a DebugInfo with a detail", || format!("{details:?}"))
}
