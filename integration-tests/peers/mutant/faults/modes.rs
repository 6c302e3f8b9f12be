//! Faults of what the modes of a map have of their own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use numaflow_conformance::Kind;

use super::{BATCH, STREAM, UNARY};
use crate::edits::{
    Call, Edits, Item, MAP_FN, each, is_eot, lock, map_answers, map_answers_by, map_requests, messages,
};
use crate::fault::{Fault, How};
use crate::pb::map::v1::{MapRequest, MapResponse, TransmissionStatus};

/// The two modes that have an end of transmission.
const WITH_EOT: &[Kind] = &[Kind::BatchMap, Kind::StreamMap];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "answer-in-parts",
        sentence: "Each output of a message is a response of its own.",
        kinds: UNARY,
        cases: &["map.unary.one-response"],
        how: How::Relay(|call| {
            map_answers_by(call, |answer| {
                if answer.results.is_empty() {
                    return vec![answer];
                }
                let MapResponse { results, id, .. } = answer;
                let part = |result| MapResponse { results: vec![result], id: id.clone(), ..MapResponse::default() };
                results.into_iter().map(part).collect()
            })
        }),
    },
    Fault {
        name: "eot-early",
        sentence: "The end of transmission comes before the last answer, or output.",
        kinds: WITH_EOT,
        cases: &["map.batch.sizes", "map.stream.outputs"],
        how: How::Relay(|call| {
            let mut last = None;
            map_answers_by(call, move |answer| match is_eot(&answer) {
                true => std::iter::once(answer).chain(last.take()).collect(),
                false => last.replace(answer).into_iter().collect(),
            })
        }),
    },
    Fault {
        name: "eot-twice",
        sentence: "The end of transmission comes twice.",
        kinds: WITH_EOT,
        cases: &["map.batch.sizes", "map.stream.outputs"],
        how: How::Relay(|call| {
            map_answers_by(call, |answer| if is_eot(&answer) { vec![answer; 2] } else { vec![answer] })
        }),
    },
    Fault {
        name: "eot-missing",
        sentence: "No end of transmission comes.",
        kinds: WITH_EOT,
        cases: &["map.batch.sizes", "map.stream.outputs"],
        how: How::Relay(|call| map_answers_by(call, |answer| if is_eot(&answer) { Vec::new() } else { vec![answer] })),
    },
    Fault {
        name: "eot-without-id",
        sentence: "The end of transmission of a message's outputs does not say which message.",
        kinds: STREAM,
        cases: &["map.stream.outputs"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                if is_eot(answer) {
                    answer.id.clear();
                }
                true
            })
        }),
    },
    Fault {
        name: "five-hundred-answers",
        sentence: "The first 500 messages of a batch are answered.",
        kinds: BATCH,
        cases: &["map.batch.sizes"],
        how: How::Relay(|call| {
            let mut answers = 0;
            map_answers_by(call, move |answer| {
                answers = if is_eot(&answer) { 0 } else { answers + 1 };
                if answers > 500 { Vec::new() } else { vec![answer] }
            })
        }),
    },
    Fault {
        name: "eot-with-results",
        sentence: "The last results come again with the end of transmission.",
        kinds: WITH_EOT,
        cases: &["map.batch.eot-bare", "map.stream.eot-bare"],
        how: How::Relay(|call| {
            let mut last = Vec::new();
            map_answers_by(call, move |mut answer| {
                if is_eot(&answer) {
                    answer.results = std::mem::take(&mut last);
                } else {
                    last.clone_from(&answer.results);
                }
                vec![answer]
            })
        }),
    },
    Fault {
        name: "batches-overlap",
        sentence: "A message is answered as soon as it is done, whatever batch it is of.",
        kinds: BATCH,
        cases: &["map.batch.in-sequence"],
        how: How::RelayToUnary(batches_overlap),
    },
    Fault {
        name: "skipped-id-unnoticed",
        sentence: "A batch with a message that the function left out ends as if it was complete.",
        kinds: BATCH,
        cases: &["map.batch.skipped-id"],
        how: How::Relay(|call| {
            map_requests(call, |request| request.request.as_ref().is_none_or(|input| input.value != "skip"))
        }),
    },
    Fault {
        name: "cut-batch-completed",
        sentence: "A batch that a half-close cuts short is answered as if it was complete.",
        kinds: BATCH,
        cases: &["map.batch.cut-short"],
        how: How::Relay(|call| {
            let is_map = call.path == MAP_FN;
            let eot = MapRequest { status: Some(TransmissionStatus { eot: true }), ..MapRequest::default() };
            Edits::default().requests(move |item| {
                let is_half_close = is_map && matches!(item, Item::End(_));
                if is_half_close { vec![Item::message(&eot), item] } else { vec![item] }
            })
        }),
    },
    Fault {
        name: "outputs-swapped",
        sentence: "Of each two outputs of a message the second one comes first.",
        kinds: STREAM,
        cases: &["map.stream.order", "map.outputs"],
        how: How::Relay(|call| {
            let mut held: HashMap<String, MapResponse> = HashMap::new();
            map_answers_by(call, move |answer| match held.remove(&answer.id) {
                Some(first) if is_eot(&answer) => vec![first, answer],
                Some(first) => vec![answer, first],
                None if is_eot(&answer) => vec![answer],
                None => {
                    held.insert(answer.id.clone(), answer);
                    Vec::new()
                }
            })
        }),
    },
    Fault {
        name: "outputs-at-the-end",
        sentence: "The outputs of a message are sent when its handler is done.",
        kinds: STREAM,
        cases: &["map.stream.flushed"],
        how: How::Relay(|call| {
            let mut held: HashMap<String, Vec<MapResponse>> = HashMap::new();
            map_answers_by(call, move |answer| {
                let (id, is_last) = (answer.id.clone(), is_eot(&answer));
                held.entry(id.clone()).or_default().push(answer);
                if is_last { held.remove(&id).unwrap_or_default() } else { Vec::new() }
            })
        }),
    },
];

/// The batches of a stream whose messages are answered one by one.
#[derive(Default)]
struct Batches {
    /// The ids without an answer of each batch, the last of which goes on.
    unanswered: VecDeque<HashSet<String>>,
}

impl Batches {
    fn send(&mut self, id: &str) {
        if self.unanswered.is_empty() {
            self.unanswered.push_back(HashSet::new());
        }
        if let Some(batch) = self.unanswered.back_mut() {
            batch.insert(id.to_owned());
        }
    }

    /// Ends the batch that goes on. Whether all of it is answered already.
    fn end(&mut self) -> bool {
        let is_answered = self.unanswered.back().is_none_or(HashSet::is_empty);
        if is_answered {
            self.unanswered.pop_back();
        }
        self.unanswered.push_back(HashSet::new());
        is_answered
    }

    /// Whether the answer to this message is the last of a batch that has ended.
    fn answer(&mut self, id: &str) -> bool {
        let Some(batch) = self.unanswered.iter().position(|batch| batch.contains(id)) else { return false };
        self.unanswered[batch].remove(id);
        let is_last = self.unanswered[batch].is_empty() && batch + 1 < self.unanswered.len();
        if is_last {
            self.unanswered.remove(batch);
        }
        is_last
    }
}

/// For a service that knows no batches: puts the ends of batches between its answers.
fn batches_overlap(call: &Call) -> Edits {
    if call.path != MAP_FN {
        return Edits::default();
    }
    let eot = MapResponse { status: Some(TransmissionStatus { eot: true }), ..MapResponse::default() };
    let batches = Arc::new(Mutex::new(Batches::default()));
    let (sent, this, bare) = (batches.clone(), call.clone(), eot.clone());
    Edits::default()
        .requests(each(move |request: &mut MapRequest| {
            let mut batches = lock(&sent);
            if request.status.is_some_and(|status| status.eot) {
                if batches.end() {
                    this.interject(Item::message(&bare));
                }
                return false;
            }
            if request.handshake.is_none() {
                batches.send(&request.id);
            }
            true
        }))
        .answers(messages(move |answer: MapResponse| {
            let is_last = lock(&batches).answer(&answer.id);
            if is_last { vec![answer, eot.clone()] } else { vec![answer] }
        }))
}
