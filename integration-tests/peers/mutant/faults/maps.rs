//! Faults of what a map answers, in any mode.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use numaflow_conformance::Kind;

use super::MAPS;
use crate::edits::{Call, Edits, Item, MAP_FN, each, is_eot, lock, map_answers, map_answers_by, map_requests};
use crate::fault::{Fault, How};
use crate::pb::map::v1::MapRequest;

const DROP: &str = "U+005C__DROP__";

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "id-trimmed",
        sentence: "Ids come back without the white space around them.",
        kinds: MAPS,
        cases: &["map.id-echo"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                answer.id = answer.id.trim().to_owned();
                true
            })
        }),
    },
    Fault {
        name: "id-cut",
        sentence: "Ids come back with at most 4,096 bytes.",
        kinds: MAPS,
        cases: &["map.id-10k"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                answer.id.truncate(4096);
                true
            })
        }),
    },
    Fault {
        name: "answer-twice",
        sentence: "Each answer, or output, comes twice.",
        kinds: MAPS,
        cases: &["map.id-echo"],
        how: How::Relay(|call| {
            map_answers_by(call, |answer| if is_eot(&answer) { vec![answer] } else { vec![answer; 2] })
        }),
    },
    Fault {
        name: "id-of-another",
        sentence: "An answer has the id of the message that was read last, on whatever stream.",
        kinds: MAPS,
        cases: &["map.several-streams"],
        how: How::Relay(|call| {
            static LAST: Mutex<String> = Mutex::new(String::new());
            let edits = map_answers(call, |answer| {
                answer.id.clone_from(&lock(&LAST));
                true
            });
            if call.path != MAP_FN {
                return edits;
            }
            edits.requests(each(|request: &mut MapRequest| {
                if request.request.is_some() {
                    lock(&LAST).clone_from(&request.id);
                }
                true
            }))
        }),
    },
    Fault {
        name: "answers-on-another-stream",
        sentence: "An answer goes to the stream that was opened last.",
        kinds: MAPS,
        cases: &["map.several-streams"],
        how: How::Relay(|call| {
            static LAST: Mutex<Option<Call>> = Mutex::new(None);
            if call.path != MAP_FN {
                return Edits::default();
            }
            *lock(&LAST) = Some(call.clone());
            map_answers_by(call, |answer| {
                if let Some(last) = &*lock(&LAST) {
                    last.interject(Item::message(&answer));
                }
                Vec::new()
            })
        }),
    },
    Fault {
        name: "same-id-left-out",
        sentence: "A message with an id that it has seen before is not processed again.",
        kinds: MAPS,
        cases: &["map.same-id.twice"],
        how: How::Relay(|call| {
            static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
            map_requests(call, |request| lock(&SEEN).insert(request.id.clone()))
        }),
    },
    Fault {
        name: "no-request-no-answer",
        sentence: "A message without its data is passed over.",
        kinds: MAPS,
        cases: &["map.no-request"],
        how: How::Relay(|call| map_requests(call, |request| request.request.is_some())),
    },
    Fault {
        name: "one-answer-lost",
        sentence: "The 2,000th answer is lost.",
        kinds: MAPS,
        cases: &["map.load"],
        how: How::Relay(|call| {
            static ANSWERS: AtomicUsize = AtomicUsize::new(0);
            map_answers(call, |_| ANSWERS.fetch_add(1, Ordering::Relaxed) != 2000)
        }),
    },
    Fault {
        name: "keys-sorted",
        sentence: "The keys of a result are sorted.",
        kinds: MAPS,
        cases: &["map.keys"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                answer.results.iter_mut().for_each(|result| result.keys.sort());
                true
            })
        }),
    },
    Fault {
        name: "keys-lost",
        sentence: "A result has no keys.",
        kinds: MAPS,
        cases: &["map.keys"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                answer.results.iter_mut().for_each(|result| result.keys.clear());
                true
            })
        }),
    },
    Fault {
        name: "hundred-outputs",
        sentence: "Of a message's outputs the first hundred come.",
        kinds: MAPS,
        cases: &["map.outputs"],
        how: How::Relay(|call| {
            let is_stream = call.kind == Kind::StreamMap;
            let mut outputs = 0;
            map_answers(call, move |answer| {
                if !is_stream {
                    answer.results.truncate(100);
                    return true;
                }
                outputs = if is_eot(answer) { 0 } else { outputs + 1 };
                outputs <= 100
            })
        }),
    },
    Fault {
        name: "empty-unanswered",
        sentence: "A message without output is not answered.",
        kinds: MAPS,
        cases: &["map.empty-output"],
        how: How::Relay(|call| {
            let is_stream = call.kind == Kind::StreamMap;
            let mut with_outputs = HashSet::new();
            map_answers(call, move |answer| match (is_stream, is_eot(answer)) {
                (false, _) => !answer.results.is_empty(),
                (true, true) => with_outputs.remove(&answer.id),
                (true, false) => {
                    with_outputs.insert(answer.id.clone());
                    true
                }
            })
        }),
    },
    Fault {
        name: "drop-as-empty",
        sentence: "A drop is an answer without results.",
        kinds: MAPS,
        cases: &["map.drop"],
        how: How::Relay(|call| {
            let is_stream = call.kind == Kind::StreamMap;
            map_answers(call, move |answer| {
                let before = answer.results.len();
                answer.results.retain(|result| result.tags != [DROP]);
                !is_stream || answer.results.len() == before
            })
        }),
    },
    Fault {
        name: "tags-lost",
        sentence: "Results have no tags.",
        kinds: MAPS,
        cases: &["map.drop", "map.nack", "map.fail"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                answer.results.iter_mut().for_each(|result| result.tags.clear());
                true
            })
        }),
    },
    Fault {
        name: "nack-options-lost",
        sentence: "A nack has no options.",
        kinds: MAPS,
        cases: &["map.nack"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                answer.results.iter_mut().for_each(|result| result.nack_options = None);
                true
            })
        }),
    },
    Fault {
        name: "user-metadata-lost",
        sentence: "Results have no metadata.",
        kinds: MAPS,
        cases: &["map.user-metadata"],
        how: How::Relay(|call| {
            map_answers(call, |answer| {
                answer.results.iter_mut().for_each(|result| result.metadata = None);
                true
            })
        }),
    },
];
