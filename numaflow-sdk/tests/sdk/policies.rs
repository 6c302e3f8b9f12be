//! What becomes of a message whose handler fails: each policy, in each mode, before and after the first output.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use numaflow_sdk::map::{self, BatchAnswers, FailurePolicy, MapService, Outputs, Retry};
use numaflow_sdk::{HandlerError, MapMode, MapRequest, Message, NackOptions, Server, testing};

use crate::raw::RawCall;

const MAP_FN: &str = "/map.v1.Map/MapFn";
/// `MapRequest { handshake: Handshake { sot: true } }`.
const HANDSHAKE: &[u8] = &[0x1a, 0x02, 0x08, 0x01];
/// `MapRequest { status: TransmissionStatus { eot: true } }`.
const EOT: &[u8] = &[0x22, 0x02, 0x08, 0x01];
const DROP: &str = "U+005C__DROP__";
const NACK: &str = "U+005C__NACK__";
const FAIL: &str = "U+005C__FAIL__";

/// `MapRequest { request: Request { value }, id }`.
fn message(id: &str, value: &str) -> Vec<u8> {
    let (id_length, value_length) = (u8::try_from(id.len()).unwrap(), u8::try_from(value.len()).unwrap());
    let head = [0x0a, value_length + 2, 0x12, value_length];
    [&head[..], value.as_bytes(), &[0x12, id_length], id.as_bytes()].concat()
}

/// Sends these values as one batch, or as the messages they are, and tells what came back.
async fn answers(mode: MapMode, service: MapService, values: &[&str]) -> (Bytes, String) {
    let mut call = RawCall::open(testing::serve(Server::new(service)), MAP_FN).await;
    call.send(HANDSHAKE).await;
    for (index, value) in values.iter().enumerate() {
        call.send(&message(&format!("id-{index}"), value)).await;
    }
    if mode == MapMode::Batch {
        call.send(EOT).await;
    }
    call.close();
    call.finish().await
}

fn times(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}

fn policies() -> [(FailurePolicy, &'static str); 5] {
    [
        (FailurePolicy::Fail, ""),
        (FailurePolicy::Nack(NackOptions::new()), NACK),
        (FailurePolicy::Drop, DROP),
        (FailurePolicy::DeadLetter { tag: "aside".to_owned() }, "aside"),
        (FailurePolicy::FailTag, FAIL),
    ]
}

/// What `value` came to: answered once, with this tag and no other, or not at all.
#[track_caller]
fn assert_tagged((bytes, status): &(Bytes, String), tag: &str, cell: &str) {
    if tag.is_empty() {
        assert_eq!(status, "13", "{cell}");
    } else {
        assert_eq!(status, "0", "{cell}");
    }
    for other in [DROP, NACK, FAIL, "aside"] {
        assert_eq!(times(bytes, other), usize::from(other == tag), "{other} with {cell}: {bytes:?}");
    }
    assert_eq!(times(bytes, "poison"), usize::from(tag == "aside"), "the input with {cell}: {bytes:?}");
}

fn failing(panics: bool) -> MapService {
    map::service(map::from_fn(move |_: MapRequest| async move {
        assert!(!panics, "no such thing");
        Err::<Message, _>("no such thing".into())
    }))
}

#[tokio::test]
async fn before_an_output_in_every_mode() {
    for mode in [MapMode::Unary, MapMode::Batch, MapMode::Stream] {
        for (policy, tag) in policies() {
            for panics in [false, true] {
                let cell = format!("{policy} in {mode}, panics: {panics}");
                let service = failing(panics).mode(mode).on_failure(policy.clone());
                assert_tagged(&answers(mode, service, &["poison"]).await, tag, &cell);
            }
        }
    }
}

/// What left stays, nothing is tried again, and the answer of the policy is the last before the end.
#[tokio::test]
async fn after_an_output_in_stream_mode() {
    for (policy, tag) in policies() {
        let mapper = map::stream_from_fn(async |_: MapRequest, mut outputs: Outputs| {
            outputs.send(Message::new("first-output")).await?;
            Err("no such thing".into())
        });
        let service = map::stream_service(mapper).on_failure(policy.clone()).retry(Retry::attempts(5));
        let answer = answers(MapMode::Stream, service, &["poison"]).await;
        assert_eq!(times(&answer.0, "first-output"), 1, "{policy}");
        if tag == DROP {
            // It would discard the output that has the tag; those that left count.
            assert_eq!((times(&answer.0, DROP), answer.1.as_str()), (0, "0"));
        } else {
            assert_tagged(&answer, tag, &policy.to_string());
        }
        assert_eq!(answer.0.ends_with(EOT), !tag.is_empty(), "{policy}: {:?}", answer.0);
    }
}

#[tokio::test]
async fn an_error_knows_better_than_the_server() {
    for (own, tag) in policies() {
        for (policy, _) in policies() {
            let cell = format!("{own} under {policy}");
            let own = own.clone();
            let mapper = map::from_fn(move |request: MapRequest| {
                let error = HandlerError::new("no such thing");
                let error = match own.clone() {
                    FailurePolicy::Nack(options) => error.nack(options),
                    FailurePolicy::Drop => error.drop(),
                    FailurePolicy::DeadLetter { tag } => error.dead_letter(tag, request),
                    FailurePolicy::FailTag => error.fail_tag(),
                    FailurePolicy::Fail | _ => error.fail(),
                };
                async move { Err::<Message, _>(error) }
            });
            let service = map::service(mapper).on_failure(policy);
            assert_tagged(&answers(MapMode::Unary, service, &["poison"]).await, tag, &cell);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_is_tried_again_and_a_terminal_error_is_not() {
    for terminal in [false, true] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let mapper = map::from_fn(move |request: MapRequest| {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                let error = HandlerError::new("a hiccup");
                match call {
                    0 | 1 if terminal => Err(error.terminal()),
                    0 | 1 => Err(error),
                    _ => Ok(request.into_message()),
                }
            }
        });
        let retry = Retry::attempts(3).initial_delay(Duration::from_secs(60)).max_delay(Duration::from_secs(600));
        let service = map::service(mapper).on_failure(FailurePolicy::Drop).retry(retry);
        let (bytes, status) = answers(MapMode::Unary, service, &["value"]).await;
        assert_eq!(status, "0");
        let (dropped, answered) = (times(&bytes, DROP), times(&bytes, "value"));
        let expected = if terminal { (1, 0, 1) } else { (0, 1, 3) };
        assert_eq!((dropped, answered, calls.load(Ordering::Relaxed)), expected);
    }
}

/// The message that an error brings along must not stand for the others of its batch.
#[tokio::test]
async fn a_dead_letter_of_a_batch_is_each_message_itself() {
    let mapper = || {
        map::batch_from_fn(async |mut requests: Vec<MapRequest>| -> Result<BatchAnswers, HandlerError> {
            Err(HandlerError::new("one of them is bad").dead_letter("aside", requests.remove(0)))
        })
    };
    let values = ["first", "second", "third"];
    let (bytes, status) = answers(MapMode::Batch, map::batch_service(mapper()), &values).await;
    assert_eq!((status.as_str(), times(&bytes, "aside")), ("13", 0), "{bytes:?}");
    let kept = map::batch_service(mapper()).retry(Retry::attempts(2));
    let (bytes, status) = answers(MapMode::Batch, kept, &values).await;
    assert_eq!((status.as_str(), times(&bytes, "aside")), ("0", 3), "{bytes:?}");
    for value in values {
        assert_eq!(times(&bytes, value), 1, "{value} in {bytes:?}");
    }
    let (bytes, status) = answers(MapMode::Batch, map::batch_service(mapper()), &["alone"]).await;
    assert_eq!((status.as_str(), times(&bytes, "alone")), ("0", 1), "{bytes:?}");
}
