//! Faults of sources.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, OnceLock};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::SOURCE;
use crate::edits::{
    ACK_FN, Call, Edits, NACK_FN, PARTITIONS_FN, PENDING_FN, READ_FN, answers_of, each, is_end_of_read, lock, messages,
    read_answers_by, records, requests_of,
};
use crate::fault::{Fault, How};
use crate::pb::source::v1::{
    AckRequest, AckResponse, NackRequest, NackResponse, Offset, PartitionsResponse, PendingResponse, ReadRequest,
    ReadResponse,
};

pub(super) const FAULTS: &[Fault] =
    &[
        Fault {
            name: "one-record-too-many",
            sentence: "A batch has one record more than was asked for.",
            kinds: SOURCE,
            cases: &["source.read.count"],
            how: How::Relay(|call| {
                let mut last: Option<ReadResponse> = None;
                read_answers_by(call, move |answer| {
                    if answer.result.is_some() {
                        last = Some(answer.clone());
                        return vec![answer];
                    }
                    last.take().into_iter().chain([answer]).collect()
                })
            }),
        },
        Fault {
            name: "same-offset",
            sentence: "Records of one partition have the same offset.",
            kinds: SOURCE,
            cases: &["source.read.count"],
            how: How::Relay(|call| {
                records(call, |record| {
                    if let Some(offset) = &mut record.offset {
                        offset.offset.truncate(3);
                    }
                    true
                })
            }),
        },
        Fault {
            name: "offset-empty",
            sentence: "Records have an empty offset.",
            kinds: SOURCE,
            cases: &["source.read.record"],
            how: How::Relay(|call| {
                records(call, |record| {
                    if let Some(offset) = &mut record.offset {
                        offset.offset.clear();
                    }
                    true
                })
            }),
        },
        Fault {
            name: "event-time-missing",
            sentence: "Records have no event time.",
            kinds: SOURCE,
            cases: &["source.read.record"],
            how: How::Relay(|call| {
                records(call, |record| {
                    record.event_time = None;
                    true
                })
            }),
        },
        Fault {
            name: "partition-65536",
            sentence: "A partition has a number that is too large.",
            kinds: SOURCE,
            cases: &["source.read.record"],
            how: How::Relay(|call| {
                records(call, |record| {
                    if let Some(offset) = &mut record.offset {
                        offset.partition_id += 65_536;
                    }
                    true
                })
            }),
        },
        Fault {
            name: "read-eot-with-record",
            sentence: "The end of a batch comes with its last record.",
            kinds: SOURCE,
            cases: &["source.read.eot-alone"],
            how: How::Relay(|call| {
                let mut last: Option<ReadResponse> = None;
                read_answers_by(call, move |mut answer| {
                    if is_end_of_read(&answer) {
                        answer.result = last.take().and_then(|last| last.result);
                        return vec![answer];
                    }
                    last.replace(answer).into_iter().collect()
                })
            }),
        },
        Fault {
            name: "read-eot-twice",
            sentence: "The end of a batch comes twice.",
            kinds: SOURCE,
            cases: &["source.read.eot-alone"],
            how: How::Relay(|call| {
                read_answers_by(call, |answer| if is_end_of_read(&answer) { vec![answer; 2] } else { vec![answer] })
            }),
        },
        Fault {
            name: "read-eot-at-once",
            sentence: "A read does not wait for records.",
            kinds: SOURCE,
            cases: &["source.read.eot-at-timeout", "source.read.partial"],
            how: How::Relay(|call| with_timeout(call, |_| 0)),
        },
        Fault {
            name: "read-eot-late",
            sentence: "A read waits twice as long as it may.",
            kinds: SOURCE,
            cases: &["source.read.eot-at-timeout", "source.read.partial"],
            how: How::Relay(|call| with_timeout(call, |timeout| timeout * 2)),
        },
        Fault {
            name: "one-read-stream",
            sentence: "It serves one read stream in its life.",
            kinds: SOURCE,
            cases: &["source.read-stream.reopened"],
            how: How::Relay(|call| {
                static ONCE: OnceLock<()> = OnceLock::new();
                if call.path == READ_FN && ONCE.set(()).is_err() {
                    call.refuse();
                }
                Edits::default()
            }),
        },
        Fault {
            name: "skips-on-reopening",
            sentence: "A read stream that is opened anew begins 50 records further on.",
            kinds: SOURCE,
            cases: &["source.read-stream.reopened"],
            how: How::Relay(|call| {
                static OPENED: OnceLock<()> = OnceLock::new();
                let mut skipped = if call.path == READ_FN && OPENED.set(()).is_err() { 50 } else { 0 };
                records(call, move |_| {
                    let is_delivered = skipped == 0;
                    skipped = if is_delivered { 0 } else { skipped - 1 };
                    is_delivered
                })
            }),
        },
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
        Fault {
            name: "pending-stays",
            sentence: "PendingFn says the same whatever was read.",
            kinds: SOURCE,
            cases: &["source.pending.result"],
            how: How::Relay(|call| with_pending(call, |_| 1000)),
        },
        Fault {
            name: "pending-without-result",
            sentence: "The answer of PendingFn says nothing.",
            kinds: SOURCE,
            cases: &["source.pending.result"],
            how: How::Relay(|call| {
                answers_of(call, PENDING_FN, |answer: &mut PendingResponse| {
                    answer.result = None;
                    true
                })
            }),
        },
        Fault {
            name: "pending-unknown-is-none",
            sentence: "PendingFn says 0 where it is not known how much is pending.",
            kinds: SOURCE,
            cases: &["source.pending.unknown"],
            how: How::Relay(|call| with_pending(call, |count| count.max(0))),
        },
        Fault {
            name: "partitions-without-result",
            sentence: "The answer of PartitionsFn says nothing.",
            kinds: SOURCE,
            cases: &["source.partitions.result"],
            how: How::Relay(|call| {
                answers_of(call, PARTITIONS_FN, |answer: &mut PartitionsResponse| {
                    answer.result = None;
                    true
                })
            }),
        },
        Fault {
            name: "one-partition-of-two",
            sentence: "PartitionsFn names one partition, and records of two are delivered.",
            kinds: SOURCE,
            cases: &["source.partitions.result"],
            how: How::Relay(|call| {
                answers_of(call, PARTITIONS_FN, |answer: &mut PartitionsResponse| {
                    if let Some(result) = &mut answer.result {
                        result.partitions.truncate(1);
                    }
                    true
                })
            }),
        },
        Fault {
            name: "reads-before-calls",
            sentence: "Nothing else is answered while a read waits for records.",
            kinds: SOURCE,
            cases: &["source.calls.while-read-waits"],
            how: How::Relay(|call| {
                static TURN: Semaphore = Semaphore::const_new(1);
                match &*call.path {
                    READ_FN | PENDING_FN | PARTITIONS_FN => Edits::default().gate(async { TURN.acquire().await.ok() }),
                    _ => Edits::default(),
                }
            }),
        },
        Fault {
            name: "delivered-is-done",
            sentence: "What was delivered is not delivered again after a restart, acked or not.",
            kinds: SOURCE,
            cases: &["source.restart.redelivery"],
            how: How::Relay(delivered_is_done),
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

fn with_timeout(call: &Call, edit: fn(u32) -> u32) -> Edits {
    requests_of(call, READ_FN, move |request: &mut ReadRequest| {
        if let Some(request) = &mut request.request {
            request.timeout_in_ms = edit(request.timeout_in_ms);
        }
        true
    })
}

fn with_pending(call: &Call, edit: fn(i64) -> i64) -> Edits {
    answers_of(call, PENDING_FN, move |answer: &mut PendingResponse| {
        if let Some(result) = &mut answer.result {
            result.count = edit(result.count);
        }
        true
    })
}

/// Remembers in a file what was delivered, so that the next process does not deliver it.
fn delivered_is_done(call: &Call) -> Edits {
    static EARLIER: OnceLock<HashSet<String>> = OnceLock::new();
    let memory = call.memory.clone();
    EARLIER.get_or_init(|| fs::read_to_string(&memory).unwrap_or_default().lines().map(str::to_owned).collect());
    records(call, move |record| {
        let name = format!("{:?}", record.offset.as_ref().map(|offset| &offset.offset));
        let is_new = EARLIER.get().is_none_or(|earlier| !earlier.contains(&name));
        let file = fs::File::options().append(true).create(true).open(&memory);
        // Where it cannot be written, the fault is none, and nobody catches it.
        drop(file.and_then(|mut file| writeln!(file, "{name}")));
        is_new
    })
}
