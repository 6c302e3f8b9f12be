//! What batch mode and stream mode promise.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use numaflow_sdk::map::{self, BatchAnswers, MapService, Outputs, SendError};
use numaflow_sdk::testing::MapStream;
use numaflow_sdk::{HandlerError, MapMode, MapRequest, Message, Server, UserMetadata};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::step::{LONG, serve, steps};
use crate::support::{status, within};

async fn open(service: MapService) -> MapStream {
    serve(Server::new(service)).await.open().await.unwrap()
}

fn upper() -> impl map::Mapper {
    map::from_fn(async |request: MapRequest| Ok(Message::new(request.value().to_ascii_uppercase())))
}

/// A batch map that answers as `answer` says.
fn batch_map(answer: fn(Vec<MapRequest>) -> BatchAnswers) -> MapService {
    map::batch_service(map::batch_from_fn(move |requests: Vec<MapRequest>| ready(Ok(answer(requests)))))
}

fn backwards(requests: Vec<MapRequest>) -> BatchAnswers {
    requests.into_iter().rev().map(|request| (request.id().to_owned(), request.into_message())).collect()
}

#[tokio::test]
async fn a_batch_has_one_answer_for_each_message_and_one_end() {
    for service in [map::service(upper()).mode(MapMode::Batch), batch_map(backwards)] {
        let mut stream = open(service).await;
        for size in [1, 2, 500, 0, 3] {
            let requests = (0..size).map(|index| MapRequest::new(format!("{index}")));
            let answers = within(LONG, stream.map_batch(requests)).await.unwrap();
            let expected: Vec<_> = (0..size).map(|index| vec![Message::new(format!("{index}"))]).collect();
            assert_eq!(answers, expected);
        }
        stream.close();
        assert_eq!(stream.recv().await.unwrap(), None);
    }
}

/// As no platform sends them: the second batch is there before the first is answered.
#[tokio::test]
async fn two_batches_in_a_row_do_not_mix() {
    for service in [map::service(upper()).mode(MapMode::Batch), batch_map(backwards)] {
        let mut stream = open(service).await;
        for batch in ["a", "b"] {
            for index in 0..50 {
                stream.send(format!("{batch}{index}"), MapRequest::new("x")).await.unwrap();
            }
            stream.send_eot().await.unwrap();
        }
        for batch in ["a", "b"] {
            for _ in 0..50 {
                let answer = stream.recv().await.unwrap().unwrap();
                assert!(!answer.eot && answer.id.starts_with(batch), "{answer:?} in {batch}");
            }
            let end = stream.recv().await.unwrap().unwrap();
            assert!(end.eot && end.id.is_empty() && end.messages.is_empty(), "{end:?}");
        }
    }
}

/// The answers of a unary handler leave as they come, in any order, also before the batch is complete.
#[tokio::test]
async fn a_unary_handler_in_a_batch_answers_as_it_goes() {
    let (steps, mut director) = steps();
    let mapper = map::from_fn(move |request: MapRequest| {
        let steps = steps.clone();
        async move {
            if request.value() == "later" {
                steps.step(&request).await?;
            }
            Ok(request.into_message())
        }
    });
    let mut stream = open(map::service(mapper).mode(MapMode::Batch)).await;
    stream.send("1", MapRequest::new("later")).await.unwrap();
    stream.send("2", MapRequest::new("now")).await.unwrap();
    assert_eq!(director.started().await, "1");
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "2");
    stream.send_eot().await.unwrap();
    director.go(1);
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "1");
    assert!(stream.recv().await.unwrap().unwrap().eot);
}

/// What was not asked in full is not answered in full: no end, and from a batch handler nothing at all.
#[tokio::test]
async fn a_batch_that_is_half_closed_before_its_end() {
    let called = Arc::new(AtomicUsize::new(0));
    let calls = called.clone();
    let batch = map::batch_from_fn(move |requests: Vec<MapRequest>| {
        calls.fetch_add(1, Ordering::SeqCst);
        async move { Ok(backwards(requests)) }
    });
    for (service, answers) in [(map::batch_service(batch), 0), (map::service(upper()).mode(MapMode::Batch), 2)] {
        let mut stream = open(service).await;
        for id in ["1", "2"] {
            stream.send(id, MapRequest::new("x")).await.unwrap();
        }
        stream.close();
        for _ in 0..answers {
            assert!(!stream.recv().await.unwrap().unwrap().eot);
        }
        assert_eq!(within(LONG, stream.recv()).await.unwrap(), None);
    }
    assert_eq!(called.load(Ordering::SeqCst), 0);
}

type Answer = fn(Vec<MapRequest>) -> BatchAnswers;

#[tokio::test]
async fn a_batch_handler_that_miscounts_is_told_how() {
    let cases: [(Answer, &str); 4] = [
        (
            |requests| backwards(requests[1..].to_vec()),
            "the handler answered 1 of the 2 messages of the batch, and not \"1\": give each message an answer, which \
             may be none at all",
        ),
        (
            |requests| backwards([&requests[..], &requests[1..]].concat()),
            "the handler answered \"2\" more often than the batch has it",
        ),
        (
            |requests| {
                let mut answers = backwards(requests);
                answers.push("3", Message::new("x"));
                answers
            },
            "the handler answered \"3\" more often than the batch has it",
        ),
        (|_| BatchAnswers::new(), "the handler answered 0 of the 2 messages of the batch, and not \"1\""),
    ];
    for (answer, text) in cases {
        let mut stream = open(batch_map(answer)).await;
        for id in ["1", "2"] {
            stream.send(id, MapRequest::new("x")).await.unwrap();
        }
        stream.send_eot().await.unwrap();
        let error = within(LONG, stream.recv()).await.unwrap_err();
        let (code, message) = status(&error);
        assert_eq!(code, "INTERNAL");
        assert!(message.starts_with(&format!("UDF_EXECUTION_ERROR(udf): {text}")), "{message}");
    }
}

/// The same id twice in one batch is two messages, which want two answers.
#[tokio::test]
async fn the_same_id_twice_in_a_batch() {
    let mut stream = open(batch_map(backwards)).await;
    for _ in 0..2 {
        stream.send("same", MapRequest::new("x")).await.unwrap();
    }
    stream.send_eot().await.unwrap();
    for eot in [false, false, true] {
        assert_eq!(stream.recv().await.unwrap().unwrap().eot, eot);
    }
}

#[tokio::test]
async fn a_batch_above_its_limit_ends_its_stream_and_names_the_flag() {
    let client = serve(Server::new(batch_map(backwards).max_batch_bytes(10_000))).await;
    for sizes in [&[4000, 4000, 4000][..], &[20_000]] {
        let mut stream = client.open().await.unwrap();
        for (id, size) in sizes.iter().enumerate() {
            stream.send(id.to_string(), MapRequest::new(vec![0; *size])).await.unwrap();
        }
        let error = within(LONG, stream.recv()).await.unwrap_err();
        let (code, message) = status(&error);
        assert_eq!(code, "RESOURCE_EXHAUSTED");
        assert!(message.contains("--max-batch-bytes"), "{message}");
    }
    // One that is smaller is handled.
    let batch = || (0..2).map(|_| MapRequest::new(vec![0; 4000]));
    let mut stream = client.open().await.unwrap();
    for _ in 0..2 {
        assert_eq!(within(LONG, stream.map_batch(batch())).await.unwrap().len(), 2);
    }
}

/// In the published SDKs it is lost in these modes.
#[tokio::test]
async fn user_metadata_leaves_in_every_mode() {
    fn marked() -> Message {
        let mut metadata = UserMetadata::new();
        metadata.insert("group", "key", "value");
        Message::new("x").with_user_metadata(metadata)
    }
    let unary = || map::from_fn(async |_: MapRequest| Ok(marked()));
    let batch = batch_map(|requests| requests.into_iter().map(|r| (r.id().to_owned(), marked())).collect());
    let streaming = map::stream_from_fn(async |_: MapRequest, mut outputs: Outputs| Ok(outputs.send(marked()).await?));
    for service in [batch, map::service(unary()).mode(MapMode::Batch)] {
        assert_eq!(open(service).await.map_batch([MapRequest::new("x")]).await.unwrap(), [[marked()]]);
    }
    for service in [map::stream_service(streaming), map::service(unary()).mode(MapMode::Stream)] {
        assert_eq!(open(service).await.map_stream(MapRequest::new("x")).await.unwrap(), [marked()]);
    }
    assert_eq!(open(map::service(unary())).await.map(MapRequest::new("x")).await.unwrap(), [marked()]);
}

/// A stream map with as many outputs as the value says, numbered.
fn numbers() -> MapService {
    map::stream_service(map::stream_from_fn(async |request: MapRequest, mut outputs: Outputs| {
        let count: usize = String::from_utf8_lossy(request.value()).parse()?;
        for number in 0..count {
            outputs.send(Message::new(number.to_string())).await?;
        }
        Ok(())
    }))
}

fn numbered(count: usize) -> Vec<Message> {
    (0..count).map(|number| Message::new(number.to_string())).collect()
}

#[tokio::test]
async fn any_number_of_outputs_in_their_order_and_one_end() {
    let all_at_once = map::service(map::from_fn(async |request: MapRequest| {
        let count: usize = String::from_utf8_lossy(request.value()).parse()?;
        Ok(numbered(count))
    }))
    .mode(MapMode::Stream);
    for service in [numbers(), all_at_once] {
        let mut stream = open(service).await;
        for count in [0, 1, 2, 5000, 0] {
            let outputs = within(LONG, stream.map_stream(MapRequest::new(count.to_string()))).await.unwrap();
            assert!(outputs == numbered(count), "{count}");
        }
        stream.close();
        assert_eq!(stream.recv().await.unwrap(), None);
    }
}

/// Many at once, on threads of their own: each id has its outputs in order, and its end behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn outputs_of_many_messages_at_once() {
    let (mut sender, mut receiver) = open(numbers().execution(map::Execution::Tasks)).await.split();
    let counts: Vec<_> = (0..200).map(|id| id * 7 % 150).collect();
    let sending = async {
        for (id, count) in counts.iter().enumerate() {
            sender.send(id.to_string(), MapRequest::new(count.to_string())).await.unwrap();
        }
        sender.close();
    };
    let receiving = async {
        let mut next = vec![Some(0); counts.len()];
        while let Some(answer) = receiver.recv().await.unwrap() {
            let id: usize = answer.id.parse().unwrap();
            let seen = next[id].unwrap_or_else(|| panic!("{id} goes on behind its end"));
            if answer.eot {
                assert_eq!(seen, counts[id], "{id} ended early");
                next[id] = None;
            } else {
                assert_eq!(answer.messages, [Message::new(seen.to_string())], "{id}");
                next[id] = Some(seen + 1);
            }
        }
        assert!(next.iter().all(Option::is_none));
    };
    within(LONG, async { tokio::join!(sending, receiving) }).await;
}

#[tokio::test]
async fn an_output_arrives_before_its_handler_returns() {
    let (steps, mut director) = steps();
    let mapper = map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
        let steps = steps.clone();
        async move {
            for output in ["first", "second"] {
                outputs.send(Message::new(output)).await?;
                steps.step(&request).await?;
            }
            Ok(())
        }
    });
    let mut stream = open(map::stream_service(mapper)).await;
    stream.send("1", MapRequest::new("x")).await.unwrap();
    for output in ["first", "second"] {
        assert_eq!(stream.recv().await.unwrap().unwrap().messages, [Message::new(output)]);
        director.started().await;
        director.go(1);
    }
    assert!(stream.recv().await.unwrap().unwrap().eot);
}

#[tokio::test]
async fn an_output_above_the_limit_is_refused_and_the_handler_goes_on() {
    let mapper = map::stream_from_fn(async |_: MapRequest, mut outputs: Outputs| {
        match outputs.send(Message::new(vec![0; 2000])).await {
            Err(error @ SendError::TooLarge { limit: 1000, .. }) => {
                outputs.send(Message::new(error.to_string())).await?
            }
            other => return Err(HandlerError::new(format!("{other:?}"))),
        }
        Ok(())
    });
    let client = serve(Server::new(map::stream_service(mapper)).max_message_size(1000)).await;
    let outputs = client.open().await.unwrap().map_stream(MapRequest::new("x")).await.unwrap();
    let text = String::from_utf8_lossy(outputs[0].value()).into_owned();
    assert!(text.starts_with("an output has 20") && text.contains("the limit of this server is 1000"), "{text}");
}

/// After which handlers that make no outputs are taken to stand still.
const STILL: Duration = Duration::from_millis(300);

/// A peer that does not read: its handlers stand still after some dozens of outputs more than its windows hold, those of
/// other streams go on, and it misses nothing once it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_are_not_ahead_of_a_peer_that_does_not_read() {
    const OUTPUTS: usize = 10_000;
    const SIZE: usize = 4 << 10;
    let made = Arc::new(Semaphore::new(0));
    let count = made.clone();
    let mapper = map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
        let made = count.clone();
        async move {
            let outputs_wanted = if request.value() == "much" { OUTPUTS } else { 1 };
            for _ in 0..outputs_wanted {
                outputs.send(Message::new(Bytes::from(vec![0; SIZE]))).await?;
                if outputs_wanted > 1 {
                    made.add_permits(1);
                }
            }
            Ok(())
        }
    });
    let client = serve(Server::new(map::stream_service(mapper))).await;
    let mut unread = client.open().await.unwrap();
    for id in ["1", "2"] {
        unread.send(id, MapRequest::new("much")).await.unwrap();
    }
    let mut ahead = 0;
    while let Ok(more) = timeout(STILL, made.acquire()).await {
        more.unwrap().forget();
        ahead += 1;
    }
    // The peer's windows of 2 and 5 MiB, the connection's buffers, a chunk, and a megabyte of outputs.
    assert!(ahead * SIZE < 8 << 20, "{ahead} outputs that nobody takes");
    let mut other = client.open().await.unwrap();
    assert_eq!(within(LONG, other.map_stream(MapRequest::new("little"))).await.unwrap().len(), 1);
    unread.close();
    let mut outputs = 0;
    let reading = async {
        while let Some(answer) = unread.recv().await.unwrap() {
            outputs += answer.messages.len();
        }
    };
    within(LONG, reading).await;
    assert_eq!(outputs, 2 * OUTPUTS);
}

/// With the limit reached by handlers that stand still because their peer does not read, other streams still get their
/// turn.
#[tokio::test]
async fn handlers_that_stand_still_keep_nothing_from_other_streams() {
    let (started, mut starts) = mpsc::channel(10);
    let mapper = map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            let count = if request.value() == "much" { 100_000 } else { 1 };
            for _ in 0..count {
                outputs.send(Message::new(vec![0; 1000])).await?;
            }
            Ok(())
        }
    });
    let client = serve(Server::new(map::stream_service(mapper)).max_in_flight(1)).await;
    let mut unread = client.open().await.unwrap();
    unread.send("1", MapRequest::new("much")).await.unwrap();
    starts.recv().await.unwrap();
    let mut other = client.open().await.unwrap();
    assert_eq!(within(LONG / 4, other.map_stream(MapRequest::new("little"))).await.unwrap().len(), 1);
}

/// Outputs that outlive their handler's call, on a task of the user's, are refused and keep no permit, whether the peer
/// reads at last or goes away.
#[tokio::test]
async fn outputs_that_outlive_their_call_keep_nothing() {
    for peer_reads in [true, false] {
        let (steps, mut director) = steps();
        let (told, mut ends) = mpsc::channel(1);
        let mapper = map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
            let (steps, told) = (steps.clone(), told.clone());
            async move {
                if request.value() == "much" {
                    let (began, begun) = tokio::sync::oneshot::channel();
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "what users do, and it ends with the test's runtime"
                    )]
                    drop(tokio::spawn(async move {
                        began.send(()).unwrap();
                        let error = loop {
                            if let Err(error) = outputs.send(Message::new(vec![0; 1000])).await {
                                break error;
                            }
                        };
                        told.send(error).await.unwrap();
                        // Kept for good, as by a user who has forgotten them.
                        std::future::pending::<()>().await;
                        drop(outputs);
                    }));
                    begun.await?;
                }
                steps.step(&request).await
            }
        });
        let client = serve(Server::new(map::stream_service(mapper)).max_in_flight(1)).await;
        let mut unread = client.open().await.unwrap();
        unread.send("much", MapRequest::new("much")).await.unwrap();
        assert_eq!(director.started().await, "much");
        // It starts when the outputs of the first stand still, which has given its permit back.
        let mut other = client.open().await.unwrap();
        other.send("other", MapRequest::new("x")).await.unwrap();
        assert_eq!(director.started().await, "other");
        director.go(2);
        assert!(within(LONG, other.recv()).await.unwrap().unwrap().eot);
        if peer_reads {
            within(LONG, async { while !unread.recv().await.unwrap().unwrap().eot {} }).await;
        } else {
            drop(unread);
        }
        assert_eq!(within(LONG, ends.recv()).await, Some(SendError::Closed));
        other.send("next", MapRequest::new("x")).await.unwrap();
        assert_eq!(director.started().await, "next");
        director.go(1);
        assert!(within(LONG, other.recv()).await.unwrap().unwrap().eot);
    }
}
