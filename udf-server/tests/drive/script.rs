//! A source that follows a script and keeps a log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use numaflow_sdk::HandlerError;
use numaflow_sdk::source::{Batch, Message, NackOffset, Offset, Partitions, ReadRequest, Sourcer};

/// A call as the source saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Read(usize),
    Ack(Vec<String>),
    Nack(Vec<(String, Option<String>)>),
    Pending,
    Partitions,
}

/// What a read does: messages to deliver, by the text of their offset, and whether it fails after them.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) offsets: Vec<&'static str>,
    pub(crate) fails: bool,
}

/// A source whose reads do as told, one after the other; then they deliver nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    reads: Mutex<VecDeque<Read>>,
    log: Mutex<Vec<Call>>,
    /// How many acks and nacks are still to fail.
    failing: Mutex<(u32, u32)>,
    /// How long a call takes.
    takes: Mutex<Duration>,
    busy: AtomicBool,
    overlapped: AtomicBool,
}

impl Script {
    pub(crate) fn new(reads: impl IntoIterator<Item = Read>) -> Self {
        let script = Self::default();
        script.shared.reads.lock().unwrap().extend(reads);
        script
    }

    /// Lets that many acks and nacks fail first.
    pub(crate) fn failing(self, acks: u32, nacks: u32) -> Self {
        *self.shared.failing.lock().unwrap() = (acks, nacks);
        self
    }

    /// Lets every call take that long.
    pub(crate) fn taking(self, time: Duration) -> Self {
        *self.shared.takes.lock().unwrap() = time;
        self
    }

    /// All calls so far.
    pub(crate) fn log(&self) -> Vec<Call> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The acks and nacks so far.
    pub(crate) fn settled(&self) -> Vec<Call> {
        self.log().into_iter().filter(|call| matches!(call, Call::Ack(_) | Call::Nack(_))).collect()
    }

    /// Whether a call began before the one before it had ended.
    pub(crate) fn overlapped(&self) -> bool {
        self.shared.overlapped.load(Ordering::SeqCst)
    }

    async fn call(&self, call: Call) {
        let shared = &self.shared;
        shared.log.lock().unwrap().push(call);
        shared.overlapped.fetch_or(shared.busy.swap(true, Ordering::SeqCst), Ordering::SeqCst);
        let takes = *shared.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        shared.busy.store(false, Ordering::SeqCst);
    }
}

pub(crate) fn read<const N: usize>(offsets: [&'static str; N]) -> Read {
    Read { offsets: offsets.to_vec(), fails: false }
}

pub(crate) fn ack<const N: usize>(offsets: [&str; N]) -> Call {
    Call::Ack(offsets.map(str::to_owned).to_vec())
}

fn text(offset: &Offset) -> String {
    assert_eq!(offset.partition_id(), 7);
    String::from_utf8(offset.as_bytes().to_vec()).unwrap()
}

fn failing(left: &mut u32) -> Result<(), HandlerError> {
    match left.checked_sub(1) {
        None => Ok(()),
        Some(less) => {
            *left = less;
            Err(HandlerError::new("as the script says"))
        }
    }
}

impl Sourcer for Script {
    async fn read(&self, request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        self.call(Call::Read(request.count)).await;
        let read = self.shared.reads.lock().unwrap().pop_front();
        let Some(Read { offsets, fails }) = read else { return Ok(()) };
        for offset in offsets {
            let message = Message::new(format!("value {offset}"), Offset::new(offset, 7), SystemTime::UNIX_EPOCH);
            batch.push(message.with_keys(["key"]).with_header("name", "value")).await?;
        }
        if fails { Err(HandlerError::new("as the script says")) } else { Ok(()) }
    }

    async fn ack(&self, offsets: Vec<Offset>) -> Result<(), HandlerError> {
        self.call(Call::Ack(offsets.iter().map(text).collect())).await;
        failing(&mut self.shared.failing.lock().unwrap().0)
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        let nacks = offsets.into_iter().map(|nack| (text(&nack.offset), nack.options.reason.clone()));
        self.call(Call::Nack(nacks.collect())).await;
        failing(&mut self.shared.failing.lock().unwrap().1)
    }

    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        self.call(Call::Pending).await;
        Ok(Some(self.shared.reads.lock().unwrap().len() as u64))
    }

    async fn partitions(&self) -> Result<Option<Partitions>, HandlerError> {
        self.call(Call::Partitions).await;
        Ok(Some(Partitions::new([7])))
    }
}
