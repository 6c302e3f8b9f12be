//! Faults that every kind of server can have: of calls, streams and what is in any message.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tokio::sync::Semaphore;

use super::{ALL, MAPS, SOURCE};
use crate::edits::{
    ACK_FN, Call, Edits, Item, MAP_FN, READ_FN, answers_of, code, failures, handshake_in, lock, map_requests,
};
use crate::fault::{Fault, How};
use crate::pb::map::v1::{self as map, MapRequest, MapResponse, ReadyResponse};
use crate::pb::source::v1::{self as source, AckRequest, AckResponse, ReadRequest, ReadResponse};

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "not-ready",
        sentence: "IsReady says ready = false.",
        kinds: ALL,
        cases: &["general.is-ready.while-streams-wait"],
        how: How::Relay(|call| {
            if !call.path.ends_with("/IsReady") {
                return Edits::default();
            }
            answers_of(call, &call.path, |answer: &mut ReadyResponse| {
                answer.ready = false;
                true
            })
        }),
    },
    Fault {
        name: "ready-when-idle",
        sentence: "IsReady is answered when no stream is open.",
        kinds: ALL,
        cases: &["general.is-ready.while-streams-wait"],
        how: How::Relay(|call| {
            const STREAMS: u32 = 1000;
            static IDLE: Semaphore = Semaphore::const_new(STREAMS as usize);
            let needed = if call.is_stream() { 1 } else { STREAMS };
            Edits::default().gate(async move { IDLE.acquire_many(needed).await.ok() })
        }),
    },
    Fault {
        name: "unknown-path-served",
        sentence: "A path that it does not know is answered with OK.",
        kinds: ALL,
        cases: &["general.path.unknown"],
        how: How::Relay(|_| {
            failures(|status| if code(&status) == 12 { vec![Item::status(0, "")] } else { vec![Item::End(status)] })
        }),
    },
    Fault {
        name: "authority-checked",
        sentence: "It refuses calls of a server by another name than localhost.",
        kinds: ALL,
        cases: &["general.authority"],
        how: How::Relay(|call| {
            if !["localhost", "[::1]:50051"].contains(&&*call.authority) {
                call.refuse();
            }
            Edits::default()
        }),
    },
    Fault {
        name: "handshake-false",
        sentence: "It answers a handshake with sot = false.",
        kinds: ALL,
        cases: &["general.handshake.first"],
        how: How::Relay(|call| first_answer(call, |path| vec![handshake_answer(path, false)])),
    },
    Fault {
        name: "handshake-twice",
        sentence: "It answers a handshake twice.",
        kinds: ALL,
        cases: &["general.handshake.first"],
        how: How::Relay(|call| first_answer(call, |path| vec![handshake_answer(path, true); 2])),
    },
    Fault {
        name: "handshake-after-data",
        sentence: "It answers a handshake when the first data has come.",
        kinds: ALL,
        cases: &["general.handshake.first"],
        how: How::Relay(handshake_after_data),
    },
    Fault {
        name: "handshake-not-checked",
        sentence: "A stream that begins with anything else than a handshake is served.",
        kinds: ALL,
        cases: &["general.handshake.missing", "general.handshake.sot-false", "source.handshake.ack-missing"],
        how: How::Relay(handshake_not_checked),
    },
    Fault {
        name: "ends-without-handshake",
        sentence: "The process ends with a stream that did not begin with a handshake.",
        kinds: ALL,
        cases: &["general.handshake.missing", "source.handshake.ack-missing"],
        how: How::Relay(|call| {
            let (this, mut is_first) = (call.clone(), call.is_stream());
            let mut guard = EndsTheProcess { armed: false };
            Edits::default().requests(move |item| {
                if let Item::Message(message) = &item
                    && std::mem::take(&mut is_first)
                {
                    guard.arm(handshake_in(&this.path, message).is_none());
                }
                vec![item]
            })
        }),
    },
    Fault {
        name: "idle-stream-ended",
        sentence: "It ends a stream with OK when nothing was answered on it for two seconds.",
        kinds: ALL,
        cases: &["general.idle-stream"],
        how: How::Relay(|call| Edits {
            patience: call.is_stream().then_some(Duration::from_secs(2)),
            ..Edits::default()
        }),
    },
    Fault {
        name: "half-close-unnoticed",
        sentence: "A stream that the platform has half-closed goes on for ever.",
        kinds: ALL,
        cases: &["general.half-close", "source.half-close.ack"],
        how: How::Relay(|call| on_half_close(call, |_| vec![Item::Silence])),
    },
    Fault {
        name: "half-close-loses-answers",
        sentence: "A half-close ends the stream at once, without what is outstanding.",
        kinds: MAPS,
        cases: &["general.half-close"],
        how: How::Relay(|call| {
            let this = call.clone();
            on_half_close(call, move |end| {
                this.interject(Item::status(0, ""));
                vec![end]
            })
        }),
    },
    Fault {
        name: "ends-when-a-stream-breaks",
        sentence: "The process ends when the platform resets a stream or goes away.",
        kinds: ALL,
        cases: &["general.peer-gone", "map.stream-reset", "map.connection-lost"],
        how: How::Relay(|_| {
            let mut guard = EndsTheProcess { armed: true };
            Edits::default().answers(move |item| {
                guard.arm(!matches!(item, Item::End(_)));
                vec![item]
            })
        }),
    },
    Fault {
        name: "later-fields-refused",
        sentence: "It refuses messages with fields that it does not know.",
        kinds: ALL,
        cases: &["general.unknown-field"],
        how: How::Relay(|call| refuse_if(call, has_later_fields)),
    },
    Fault {
        name: "four-mebibytes",
        sentence: "It takes no message of more than 4 MiB.",
        kinds: MAPS,
        cases: &["general.large-message"],
        how: How::Relay(|call| refuse_if(call, |message| message.len() > 4 << 20)),
    },
    Fault {
        name: "four-mebibytes-back",
        sentence: "It sends no message of more than 4 MiB.",
        kinds: MAPS,
        cases: &["general.large-message"],
        how: How::Relay(|_| {
            Edits::default().answers(|item| {
                let is_too_large = matches!(&item, Item::Message(message) if message.len() > 4 << 20);
                vec![if is_too_large { Item::status(8, "it is too large") } else { item }]
            })
        }),
    },
    Fault {
        name: "ends-at-times-of-no-calendar",
        sentence: "The process ends at an event time past the year 9999.",
        kinds: MAPS,
        cases: &["general.timestamps.out-of-range"],
        how: How::Relay(|call| {
            map_requests(call, |request| {
                if event_time(request) > 253_402_300_799 {
                    end_process();
                }
                true
            })
        }),
    },
    Fault {
        name: "before-1970-refused",
        sentence: "It refuses messages from before 1970.",
        kinds: MAPS,
        cases: &["map.minimal-message"],
        how: How::Relay(|call| {
            let this = call.clone();
            map_requests(call, move |request| {
                let refused = event_time(request) < 0;
                if refused {
                    this.refuse();
                }
                !refused
            })
        }),
    },
    Fault {
        name: "empty-value-refused",
        sentence: "It refuses messages without a value.",
        kinds: MAPS,
        cases: &["map.minimal-message"],
        how: How::Relay(|call| {
            let this = call.clone();
            map_requests(call, move |request| {
                let refused = request.request.as_ref().is_some_and(|input| input.value.is_empty());
                if refused {
                    this.refuse();
                }
                !refused
            })
        }),
    },
    Fault {
        name: "one-stream-at-a-time",
        sentence: "A stream is served when the one before it is over.",
        kinds: MAPS,
        cases: &["map.several-streams", "map.concurrent"],
        how: How::Relay(|call| {
            static TURN: Semaphore = Semaphore::const_new(1);
            if call.path == MAP_FN {
                Edits::default().gate(async { TURN.acquire().await.ok() })
            } else {
                Edits::default()
            }
        }),
    },
    Fault {
        name: "ack-stream-after-read-stream",
        sentence: "An ack stream is served when a read stream was opened.",
        kinds: SOURCE,
        cases: &["source.handshake.independent"],
        how: How::Relay(|call| {
            static READS: Semaphore = Semaphore::const_new(0);
            match &*call.path {
                READ_FN => READS.add_permits(1),
                ACK_FN => return Edits::default().gate(async { READS.acquire().await.ok() }),
                _ => {}
            }
            Edits::default()
        }),
    },
];

#[expect(clippy::exit, reason = "the fault is that the process ends")]
fn end_process() -> ! {
    std::process::exit(1)
}

/// Ends the process when it is dropped, unless it is told that all is well.
struct EndsTheProcess {
    armed: bool,
}

impl EndsTheProcess {
    fn arm(&mut self, armed: bool) {
        self.armed = armed;
    }
}

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if self.armed {
            end_process();
        }
    }
}

/// Replaces the answer to a handshake.
fn first_answer(call: &Call, answer: fn(&str) -> Vec<Item>) -> Edits {
    let (path, mut is_first) = (call.path.clone(), call.is_stream());
    Edits::default().answers(move |item| if std::mem::take(&mut is_first) { answer(&path) } else { vec![item] })
}

fn handshake_answer(path: &str, sot: bool) -> Item {
    match path {
        MAP_FN => Item::message(&MapResponse { handshake: Some(map::Handshake { sot }), ..MapResponse::default() }),
        READ_FN => {
            Item::message(&ReadResponse { handshake: Some(source::Handshake { sot }), ..ReadResponse::default() })
        }
        _ => Item::message(&AckResponse { handshake: Some(source::Handshake { sot }), ..AckResponse::default() }),
    }
}

fn handshake_request(path: &str) -> Item {
    match path {
        MAP_FN => Item::message(&MapRequest { handshake: Some(map::Handshake { sot: true }), ..MapRequest::default() }),
        READ_FN => {
            Item::message(&ReadRequest { handshake: Some(source::Handshake { sot: true }), ..ReadRequest::default() })
        }
        _ => Item::message(&AckRequest { handshake: Some(source::Handshake { sot: true }), ..AckRequest::default() }),
    }
}

fn handshake_after_data(call: &Call) -> Edits {
    if !call.is_stream() {
        return Edits::default();
    }
    let held = Arc::new(Mutex::new(None));
    let (this, to_answer, mut requests, mut answers) = (call.clone(), held.clone(), 0, 0);
    Edits::default()
        .requests(move |item| {
            requests += 1;
            if requests == 2
                && let Some(handshake) = lock(&to_answer).take()
            {
                this.interject(handshake);
            }
            vec![item]
        })
        .answers(move |item| {
            answers += 1;
            if answers > 1 {
                return vec![item];
            }
            *lock(&held) = Some(item);
            Vec::new()
        })
}

fn handshake_not_checked(call: &Call) -> Edits {
    if !call.is_stream() {
        return Edits::default();
    }
    let (path, mut is_first) = (call.path.clone(), true);
    Edits::default().requests(move |item| {
        let Item::Message(message) = &item else { return vec![item] };
        let is_first = std::mem::take(&mut is_first);
        match handshake_in(&path, message) {
            None if is_first => vec![handshake_request(&path), item],
            Some(false) => vec![handshake_request(&path)],
            _ => vec![item],
        }
    })
}

/// Does something else with the end of what the platform sends on a stream.
fn on_half_close(call: &Call, mut edit: impl FnMut(Item) -> Vec<Item> + Send + 'static) -> Edits {
    let is_stream = call.is_stream();
    Edits::default().requests(move |item| {
        let is_half_close = is_stream && matches!(item, Item::End(_));
        if is_half_close { edit(item) } else { vec![item] }
    })
}

fn refuse_if(call: &Call, refused: fn(&Bytes) -> bool) -> Edits {
    let this = call.clone();
    Edits::default().requests(move |item| {
        let is_refused = matches!(&item, Item::Message(message) if refused(message));
        if is_refused {
            this.refuse();
            return Vec::new();
        }
        vec![item]
    })
}

/// Whether there is a field with a number that no message of the protocol has.
fn has_later_fields(message: &Bytes) -> bool {
    let mut rest = message.clone();
    while !rest.is_empty() {
        let Ok((number, wire_type)) = decode_key(&mut rest) else { return false };
        if number >= 100 {
            return true;
        }
        if skip_field(wire_type, number, &mut rest, DecodeContext::default()).is_err() {
            return false;
        }
    }
    false
}

fn event_time(request: &MapRequest) -> i64 {
    let time = request.request.as_ref().and_then(|request| request.event_time);
    time.map_or(0, |time| time.seconds)
}
