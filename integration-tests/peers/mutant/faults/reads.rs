//! Faults of what a source delivers, and of what it says is there.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::sync::OnceLock;

use tokio::sync::Semaphore;

use super::SOURCE;
use crate::edits::{
    Call, Edits, PARTITIONS_FN, PENDING_FN, READ_FN, answers_of, is_end_of_read, read_answers_by, records, requests_of,
};
use crate::fault::{Fault, How};
use crate::pb::source::v1::{PartitionsResponse, PendingResponse, ReadRequest, ReadResponse};

pub(super) const FAULTS: &[Fault] = &[
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
