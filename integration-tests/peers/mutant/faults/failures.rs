//! Faults of what is told of handlers that fail.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderValue};
use prost::Message as _;

use super::{ALL, MAPS, SOURCE, STREAM};
use crate::edits::{Call, Edits, Item, MAP_FN, READ_FN, code, each, failures, lock, map_requests};
use crate::fault::{Fault, How};
use crate::pb::google::rpc::Status;
use crate::pb::map::v1::{MapRequest, MapResponse, TransmissionStatus};
use crate::pb::source::v1::{ReadResponse, read_response};

/// The cases that look at the status of a failed handler.
const STATUS: &[&str] =
    &["map.panic.status", "map.error.status", "source.read.panic-status", "source.ack.panic-status"];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "failure-without-marker",
        sentence: "The status of a failed handler does not name the container.",
        kinds: ALL,
        cases: STATUS,
        how: How::Relay(|_| {
            failures(|mut status| {
                status.insert("grpc-message", HeaderValue::from_static("the handler failed"));
                vec![Item::End(status)]
            })
        }),
    },
    Fault {
        name: "failure-of-unknown-kind",
        sentence: "The status of a failed handler is UNKNOWN.",
        kinds: ALL,
        cases: STATUS,
        how: How::Relay(|_| {
            failures(|mut status| {
                status.insert("grpc-status", 2.into());
                vec![Item::End(status)]
            })
        }),
    },
    Fault {
        name: "failure-without-details",
        sentence: "The status of a failed handler has no details.",
        kinds: ALL,
        cases: STATUS,
        how: How::Relay(|_| {
            failures(|mut status| {
                status.remove("grpc-status-details-bin");
                vec![Item::End(status)]
            })
        }),
    },
    Fault {
        name: "failure-without-debug-info",
        sentence: "The details of a failed handler's status are a google.rpc.Status without DebugInfo.",
        kinds: ALL,
        cases: STATUS,
        how: How::Relay(|_| failures(|status| vec![Item::End(without_debug_info(status))])),
    },
    Fault {
        name: "failure-untold",
        sentence: "A stream whose handler has failed stays open, and nothing comes any more.",
        kinds: ALL,
        cases: &["map.panic.ends-stream", "map.stream.panic-no-eot", "source.read.error"],
        how: How::Relay(|_| failures(|_| vec![Item::Silence])),
    },
    Fault {
        name: "panic-answered",
        sentence: "A message whose handler panics is answered with no results.",
        kinds: MAPS,
        cases: &["map.panic.ends-stream"],
        how: How::Relay(|call| {
            map_requests(call, |request| {
                if let Some(input) = request.request.as_mut()
                    && input.value.starts_with(b"panic ")
                {
                    input.value = "empty".into();
                }
                true
            })
        }),
    },
    Fault {
        name: "panic-ends-with-ok",
        sentence: "The stream of a handler that fails ends with OK.",
        kinds: ALL,
        cases: &["map.panic.ends-stream", "source.read.error"],
        how: How::Relay(|call| {
            let is_stream = call.is_stream();
            failures(move |status| {
                let failed = is_stream && code(&status) == 13;
                vec![if failed { Item::status(0, "") } else { Item::End(status) }]
            })
        }),
    },
    Fault {
        name: "eot-after-panic",
        sentence: "The outputs of a message whose handler panics end like others, and then the stream fails.",
        kinds: STREAM,
        cases: &["map.stream.panic-no-eot"],
        how: How::Relay(eot_after_panic),
    },
    Fault {
        name: "read-error-as-eot",
        sentence: "The batch of a read that fails ends as if there was nothing to read.",
        kinds: SOURCE,
        cases: &["source.read.error"],
        how: How::Relay(|call| {
            failed_read(call, read_response::Status { eot: true, ..read_response::Status::default() })
        }),
    },
    Fault {
        name: "read-error-in-message",
        sentence: "A read that fails is told in a message, and its stream stays open.",
        kinds: SOURCE,
        cases: &["source.read.error"],
        how: How::Relay(|call| {
            let code = read_response::status::Code::Failure.into();
            failed_read(call, read_response::Status { code, ..read_response::Status::default() })
        }),
    },
];

fn without_debug_info(mut status: HeaderMap) -> HeaderMap {
    const DETAILS: &str = "grpc-status-details-bin";
    let details = status.get(DETAILS).and_then(|details| STANDARD_NO_PAD.decode(details).ok());
    if let Some(details) = details
        && let Ok(mut details) = Status::decode(&details[..])
    {
        details.details.clear();
        let encoded = STANDARD_NO_PAD.encode(details.encode_to_vec());
        if let Ok(encoded) = encoded.try_into() {
            status.insert(DETAILS, encoded);
        }
    }
    status
}

/// Says with a message what a read would end its stream with.
fn failed_read(call: &Call, told: read_response::Status) -> Edits {
    let is_read = call.path == READ_FN;
    failures(move |status| {
        let answer = ReadResponse { status: Some(told.clone()), ..ReadResponse::default() };
        if is_read { vec![Item::message(&answer), Item::Silence] } else { vec![Item::End(status)] }
    })
}

fn eot_after_panic(call: &Call) -> Edits {
    if call.path != MAP_FN {
        return Edits::default();
    }
    let last = Arc::new(Mutex::new(String::new()));
    let panicked = last.clone();
    failures(move |status| {
        let id = lock(&panicked).clone();
        let eot = MapResponse { id, status: Some(TransmissionStatus { eot: true }), ..MapResponse::default() };
        vec![Item::message(&eot), Item::End(status)]
    })
    .requests(each(move |request: &mut MapRequest| {
        lock(&last).clone_from(&request.id);
        true
    }))
}
