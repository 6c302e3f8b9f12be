//! Faults of what becomes of records that were delivered: acks and nacks.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;

use super::SOURCE;
use crate::edits::{ACK_FN, Call, Edits, NACK_FN, READ_FN, answers_of, each, lock, messages, records, requests_of};
use crate::fault::{Fault, How};
use crate::pb::source::v1::{AckRequest, AckResponse, NackRequest, NackResponse, Offset};

pub(super) const FAULTS: &[Fault] =
    &[
        Fault {
            name: "acks-of-other-streams-refused",
            sentence: "An ack of what an earlier read stream delivered is refused.",
            kinds: SOURCE,
            cases: &["source.read-stream.reopened"],
            how: How::Relay(|call| {
                static DELIVERED: Offsets = LazyLock::new(Mutex::default);
                if call.path == READ_FN {
                    lock(&DELIVERED).clear();
                }
                refuse_acks(call, delivered(call, &DELIVERED), |offset| !lock(&DELIVERED).contains(offset))
            }),
        },
        Fault {
            name: "ack-unanswered",
            sentence: "Every other ack is not answered.",
            kinds: SOURCE,
            cases: &["source.ack.once-each"],
            how: How::Relay(|call| {
                let mut answers = 0;
                answers_of(call, ACK_FN, move |answer: &mut AckResponse| {
                    answers += 1;
                    answer.handshake.is_some() || answers % 2 == 0
                })
            }),
        },
        Fault {
            name: "ack-answered-per-offset",
            sentence: "An ack is answered once for each of its offsets.",
            kinds: SOURCE,
            cases: &["source.ack.once-each"],
            how: How::Relay(|call| {
                if call.path != ACK_FN {
                    return Edits::default();
                }
                Edits::default().answers(messages(|answer: AckResponse| {
                    if answer.handshake.is_some() { vec![answer] } else { vec![answer; 3] }
                }))
            }),
        },
        Fault {
            name: "ack-without-success",
            sentence: "The answer to an ack does not say that it succeeded.",
            kinds: SOURCE,
            cases: &["source.ack.once-each"],
            how: How::Relay(|call| {
                answers_of(call, ACK_FN, |answer: &mut AckResponse| {
                    if let Some(result) = &mut answer.result {
                        result.success = None;
                    }
                    true
                })
            }),
        },
        Fault {
            name: "unknown-ack-refused",
            sentence: "An ack of what this process has not delivered is refused.",
            kinds: SOURCE,
            cases: &["source.ack.unknown", "source.restart.ack"],
            how: How::Relay(|call| {
                static DELIVERED: Offsets = LazyLock::new(Mutex::default);
                refuse_acks(call, delivered(call, &DELIVERED), |offset| !lock(&DELIVERED).contains(offset))
            }),
        },
        Fault {
            name: "repeated-ack-refused",
            sentence: "An ack of what was acked before is refused.",
            kinds: SOURCE,
            cases: &["source.ack.repeated"],
            how: How::Relay(|call| {
                static ACKED: Offsets = LazyLock::new(Mutex::default);
                refuse_acks(call, Edits::default(), |offset| !lock(&ACKED).insert(offset.clone()))
            }),
        },
        Fault {
            name: "offsets-as-text",
            sentence: "Offsets in acks and nacks are taken for text.",
            kinds: SOURCE,
            cases: &["source.offset.bytes"],
            how: How::Relay(|call| {
                let as_text = |offset: &mut Offset| {
                    offset.offset = String::from_utf8_lossy(&offset.offset).into_owned().into();
                };
                match &*call.path {
                    ACK_FN => requests_of(call, ACK_FN, move |request: &mut AckRequest| {
                        request.request.iter_mut().flat_map(|request| &mut request.offsets).for_each(as_text);
                        true
                    }),
                    _ => requests_of(call, NACK_FN, move |request: &mut NackRequest| {
                        request.request.iter_mut().flat_map(|request| &mut request.offsets).for_each(as_text);
                        true
                    }),
                }
            }),
        },
        Fault {
            name: "ack-ignored",
            sentence: "What was acked is delivered again after a nack.",
            kinds: SOURCE,
            cases: &["source.offset.bytes"],
            how: How::Relay(|call| {
                requests_of(call, ACK_FN, |request: &mut AckRequest| {
                    if let Some(request) = &mut request.request {
                        request.offsets.clear();
                    }
                    true
                })
            }),
        },
        Fault {
            name: "nack-ignored",
            sentence: "A nack is answered, and nothing comes of it.",
            kinds: SOURCE,
            cases: &["source.nack.redelivery"],
            how: How::Relay(|call| {
                requests_of(call, NACK_FN, |request: &mut NackRequest| {
                    request.request.clear();
                    true
                })
            }),
        },
        Fault {
            name: "nack-first-element",
            sentence: "Of a nack's elements the first one counts.",
            kinds: SOURCE,
            cases: &["source.nack.elements"],
            how: How::Relay(|call| {
                requests_of(call, NACK_FN, |request: &mut NackRequest| {
                    request.request.truncate(1);
                    true
                })
            }),
        },
        Fault {
            name: "nack-first-offset",
            sentence: "Of the offsets of a nack's element the first one counts.",
            kinds: SOURCE,
            cases: &["source.nack.elements"],
            how: How::Relay(|call| {
                requests_of(call, NACK_FN, |request: &mut NackRequest| {
                    request.request.iter_mut().for_each(|request| request.offsets.truncate(1));
                    true
                })
            }),
        },
        Fault {
            name: "nack-without-result",
            sentence: "The answer to a nack says nothing.",
            kinds: SOURCE,
            cases: &["source.nack.redelivery", "source.nack.elements", "source.nack.unknown"],
            how: How::Relay(|call| {
                answers_of(call, NACK_FN, |answer: &mut NackResponse| {
                    answer.result = None;
                    true
                })
            }),
        },
        Fault {
            name: "unknown-nack-refused",
            sentence: "A nack of what is not on its way is refused.",
            kinds: SOURCE,
            cases: &["source.nack.unknown"],
            how: How::Relay(unknown_nack_refused),
        },
        Fault {
            name: "nack-empty-refused",
            sentence: "A nack without elements is refused.",
            kinds: SOURCE,
            cases: &["source.nack.empty"],
            how: How::Relay(|call| {
                let this = call.clone();
                requests_of(call, NACK_FN, move |request: &mut NackRequest| {
                    if request.request.is_empty() {
                        this.refuse();
                    }
                    !request.request.is_empty()
                })
            }),
        },
        Fault {
            name: "nack-options-ignored",
            sentence: "The options of a nack are not looked at.",
            kinds: SOURCE,
            cases: &["source.nack.delay", "source.nack.max-deliveries", "source.nack.own-options"],
            how: How::Relay(|call| {
                requests_of(call, NACK_FN, |request: &mut NackRequest| {
                    request.request.iter_mut().for_each(|request| request.nack_options = None);
                    true
                })
            }),
        },
    ];

/// Offsets that a process knows.
type Offsets = LazyLock<Mutex<HashSet<Bytes>>>;

/// Notes what is delivered.
fn delivered(call: &Call, offsets: &'static Offsets) -> Edits {
    records(call, |record| {
        lock(offsets).extend(record.offset.as_ref().map(|offset| offset.offset.clone()));
        true
    })
}

/// Adds to the edits that acks with such offsets end their stream.
fn refuse_acks(call: &Call, edits: Edits, refused: fn(&Bytes) -> bool) -> Edits {
    if call.path != ACK_FN {
        return edits;
    }
    let this = call.clone();
    edits.requests(each(move |request: &mut AckRequest| {
        let is_refused =
            request.request.iter().flat_map(|request| &request.offsets).any(|offset| refused(&offset.offset));
        if is_refused {
            this.refuse();
        }
        !is_refused
    }))
}

fn unknown_nack_refused(call: &Call) -> Edits {
    static ON_ITS_WAY: Offsets = LazyLock::new(Mutex::default);
    let this = call.clone();
    match &*call.path {
        ACK_FN => requests_of(call, ACK_FN, |request: &mut AckRequest| {
            for offset in request.request.iter().flat_map(|request| &request.offsets) {
                lock(&ON_ITS_WAY).remove(&offset.offset);
            }
            true
        }),
        NACK_FN => requests_of(call, NACK_FN, move |request: &mut NackRequest| {
            let mut offsets = request.request.iter().flat_map(|request| &request.offsets);
            let is_refused = offsets.any(|offset| !lock(&ON_ITS_WAY).contains(&offset.offset));
            if is_refused {
                this.refuse();
            }
            !is_refused
        }),
        _ => delivered(call, &ON_ITS_WAY),
    }
}
