//! A message that always fails, among many, redriven as the platform does it: the others do not suffer for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use numaflow_sdk::map::{self, BatchAnswers, FailurePolicy, MapService, Outputs};
use numaflow_sdk::testing::{MapClient, MapStream};
use numaflow_sdk::{HandlerError, MapMode, MapRequest, NackOptions, Server};

use crate::admin::{metric, serve};
use crate::step::LONG;
use crate::support::{status, within};

/// The messages of most cells; `POISON_MESSAGES` sets those of all of them.
const MESSAGES: usize = 5000;
/// The messages of one cell of each mode, the one with the most to do.
const MANY_MESSAGES: usize = 100_000;
/// What the platform keeps unanswered at once, and sends as one batch, by default.
const AT_ONCE: usize = 500;
/// How often a batch that cannot be completed is sent again before the test goes on without it.
const ATTEMPTS: usize = 2;

/// How the map is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    Unary,
    Batch,
    Stream,
}

fn fail(request: &MapRequest) -> Result<(), HandlerError> {
    if request.value() == "poison" { Err("as it always does".into()) } else { Ok(()) }
}

impl Handler {
    fn service(self) -> MapService {
        match self {
            Self::Unary => map::service(map::from_fn(async |request: MapRequest| {
                fail(&request)?;
                Ok(request.into_message())
            })),
            Self::Batch => map::batch_service(map::batch_from_fn(async |requests: Vec<MapRequest>| {
                requests.iter().try_for_each(fail)?;
                let answer = |request: MapRequest| (request.id().to_owned(), request.into_message());
                Ok(requests.into_iter().map(answer).collect::<BatchAnswers>())
            })),
            Self::Stream => {
                map::stream_service(map::stream_from_fn(async |request: MapRequest, mut outputs: Outputs| {
                    fail(&request)?;
                    Ok(outputs.send(request.into_message()).await?)
                }))
            }
        }
    }
}

/// What the peer has seen.
#[derive(Debug, Default)]
struct Seen {
    /// The messages sent, those sent again included.
    sent: usize,
    /// The answers received.
    answers: usize,
    /// The streams that ended with a status.
    streams_ended: usize,
}

/// A peer that wants each of `messages` answered, one of which is the poison.
struct Peer {
    client: MapClient,
    messages: usize,
    poison: usize,
    seen: Seen,
}

impl Peer {
    fn request(&self, message: usize) -> MapRequest {
        MapRequest::new(if message == self.poison { "poison" } else { "fine" })
    }

    /// Sends messages by themselves, in order, and when the stream ends sends again what was not answered.
    async fn one_by_one(&mut self, mode: MapMode, poison_is_answered: bool) {
        let mut open: BTreeSet<_> = (0..self.messages).collect();
        let over = |open: &BTreeSet<usize>| open.len() <= usize::from(!poison_is_answered);
        while !over(&open) {
            let mut stream = self.client.open().await.unwrap();
            let mut unsent: Vec<_> = open.iter().rev().copied().collect();
            let mut unanswered = 0;
            loop {
                while unanswered < AT_ONCE
                    && let Some(message) = unsent.pop()
                {
                    // Where the stream has ended, receiving says so.
                    drop(stream.send(message.to_string(), self.request(message)).await);
                    self.seen.sent += 1;
                    unanswered += 1;
                }
                if over(&open) && poison_is_answered {
                    assert_eq!((unsent.len(), unanswered), (0, 0));
                    break;
                }
                match stream.recv().await {
                    Ok(Some(answer)) if mode == MapMode::Stream && !answer.eot => {}
                    Ok(Some(answer)) => {
                        assert!(open.remove(&answer.id.parse().unwrap()), "{} is answered again", answer.id);
                        self.seen.answers += 1;
                        unanswered -= 1;
                    }
                    Ok(None) => panic!("the stream ended without a status"),
                    Err(error) => {
                        assert_eq!(status(&error).0, "INTERNAL");
                        self.seen.streams_ended += 1;
                        break;
                    }
                }
            }
        }
        assert!(poison_is_answered || open == BTreeSet::from([self.poison]));
    }

    /// Sends messages as batches, and each that its stream ended for again, but for the one that cannot be completed.
    async fn in_batches(&mut self, poison_is_answered: bool) {
        let mut stream = self.client.open().await.unwrap();
        for first in (0..self.messages).step_by(AT_ONCE) {
            let batch = first..first + AT_ONCE;
            let is_poisoned = !poison_is_answered && batch.contains(&self.poison);
            let mut attempts = 1;
            while !self.batch(&mut stream, batch.clone().collect()).await {
                assert!(is_poisoned, "the batch from {first} on is fine");
                stream = self.client.open().await.unwrap();
                if attempts == ATTEMPTS {
                    break;
                }
                attempts += 1;
            }
            assert!(!is_poisoned || attempts == ATTEMPTS);
        }
    }

    /// Whether a batch was completed.
    async fn batch(&mut self, stream: &mut MapStream, mut open: BTreeSet<usize>) -> bool {
        for message in &open {
            stream.send(message.to_string(), self.request(*message)).await.unwrap();
            self.seen.sent += 1;
        }
        stream.send_eot().await.unwrap();
        loop {
            match stream.recv().await {
                Ok(Some(answer)) if answer.eot => {
                    assert!(open.is_empty(), "the batch ended without {open:?}");
                    return true;
                }
                Ok(Some(answer)) => {
                    assert!(open.remove(&answer.id.parse().unwrap()), "{} is answered again", answer.id);
                    self.seen.answers += 1;
                }
                Ok(None) => panic!("the stream ended without a status"),
                Err(error) => {
                    assert_eq!(status(&error).0, "INTERNAL");
                    assert!(open.contains(&self.poison));
                    self.seen.streams_ended += 1;
                    return false;
                }
            }
        }
    }
}

async fn outcome(address: SocketAddr, outcome: &str) -> usize {
    count(address, &format!("numaflow_udf_messages_finished_total{{outcome=\"{outcome}\"}}")).await
}

async fn count(address: SocketAddr, sample: &str) -> usize {
    format!("{}", metric(address, sample).await).parse().unwrap()
}

/// How many messages a cell has; whole batches.
fn messages(many: bool) -> usize {
    let asked = std::env::var("POISON_MESSAGES").ok().map(|text| text.parse::<usize>().unwrap());
    let messages = asked.unwrap_or(if many { MANY_MESSAGES } else { MESSAGES });
    messages.next_multiple_of(AT_ONCE)
}

/// Each policy, for a handler in a mode, with the poison as the first message and in the middle.
async fn among_many(handler: Handler, mode: MapMode) {
    let policies = [
        (FailurePolicy::Fail, "failed_error"),
        (FailurePolicy::Nack(NackOptions::new()), "nacked"),
        (FailurePolicy::Drop, "dropped"),
        (FailurePolicy::DeadLetter { tag: "aside".to_owned() }, "dead_letter"),
        (FailurePolicy::FailTag, "fail_tag"),
    ];
    for (policy, failed_as) in policies {
        // A stream that fails is the hard case, but in a batch it is the batch that is sent again and no more.
        let hard = match mode {
            MapMode::Unary | MapMode::Stream => policy == FailurePolicy::Fail,
            MapMode::Batch => matches!(policy, FailurePolicy::DeadLetter { .. }),
        };
        for in_the_middle in [false, true] {
            let messages = messages(hard && !in_the_middle);
            let poison = if in_the_middle { messages / 2 + 7 } else { 0 };
            let cell = format!("{policy:?} with {handler:?} in {mode}, poison at {poison}");
            let fails = policy == FailurePolicy::Fail;
            let service = handler.service().mode(mode).on_failure(policy.clone());
            let (_directory, address, client) = serve(Server::new(service)).await;
            let mut peer = Peer { client, messages, poison, seen: Seen::default() };
            let driven = async {
                match mode {
                    MapMode::Unary | MapMode::Stream => peer.one_by_one(mode, !fails).await,
                    MapMode::Batch => peer.in_batches(!fails).await,
                }
            };
            within(LONG, driven).await;

            let Seen { sent, answers, streams_ended } = peer.seen;
            let read = count(address, "numaflow_udf_messages_read_total").await;
            let mut finished = 0;
            for name in ALL_OUTCOMES {
                finished += outcome(address, name).await;
            }
            let (answered, failed) = (outcome(address, "answered").await, outcome(address, failed_as).await);
            let cancelled = outcome(address, "cancelled").await;
            assert_eq!(read, finished, "{cell}: every message has its outcome");
            // A batch handler fails for all messages of its batch.
            let together = if handler == Handler::Batch { AT_ONCE } else { 1 };
            if fails {
                assert_eq!((answered, failed), (answers, streams_ended * together), "{cell}");
                assert_eq!(read, answered + failed + cancelled, "{cell}");
                assert!(read <= sent, "{cell}");
                assert!(mode != MapMode::Batch || read == sent, "{cell}: batches are read to their end");
            } else {
                assert_eq!((sent, answers, streams_ended), (messages, messages, 0), "{cell}");
                assert_eq!((read, answered, failed), (messages, messages - together, together), "{cell}");
            }
        }
    }
}

const ALL_OUTCOMES: [&str; 10] = [
    "answered",
    "empty",
    "dropped",
    "nacked",
    "dead_letter",
    "fail_tag",
    "failed_error",
    "failed_panic",
    "cancelled",
    "bad_frame",
];

#[tokio::test]
async fn a_poison_among_many_in_unary_mode() {
    among_many(Handler::Unary, MapMode::Unary).await;
}

#[tokio::test]
async fn a_poison_among_many_in_batch_mode() {
    among_many(Handler::Batch, MapMode::Batch).await;
}

#[tokio::test]
async fn a_poison_among_many_one_by_one_in_batch_mode() {
    among_many(Handler::Unary, MapMode::Batch).await;
}

#[tokio::test]
async fn a_poison_among_many_in_stream_mode() {
    among_many(Handler::Stream, MapMode::Stream).await;
}

#[tokio::test]
async fn a_poison_among_many_with_all_outputs_at_once_in_stream_mode() {
    among_many(Handler::Unary, MapMode::Stream).await;
}
