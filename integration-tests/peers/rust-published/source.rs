//! A source of numbered records: what is the same for both versions of the SDK, whose trait is not.

use std::collections::HashMap;

use numaflow::source::{Message, Offset, SourceReadRequest};
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use crate::contract::records::{FAILING_READ, PANICKING_READ, PARTITIONS, Record, Records};
use crate::contract::{ASKED_FOR, defaults, panicked};

pub(crate) struct Contract {
    pub(crate) records: Records,
    /// Whether it says nothing of what is pending and of its partitions.
    pub(crate) silent: bool,
}

impl Default for Contract {
    fn default() -> Self {
        Self { records: Records::default(), silent: defaults() }
    }
}

impl Contract {
    pub(crate) async fn read_records(&self, request: SourceReadRequest, transmitter: Sender<Message>) {
        // A panic is the only way for a read to fail.
        if [FAILING_READ, PANICKING_READ].contains(&request.count) {
            panicked(ASKED_FOR);
        }
        let deadline = Instant::now() + request.timeout;
        for _ in 0..request.count {
            let Some(record) = self.records.next(deadline).await else { return };
            if transmitter.send(message(record)).await.is_err() {
                // The stream has ended.
                return;
            }
        }
    }

    pub(crate) fn ack_records(&self, offsets: Vec<Offset>) {
        for offset in offsets {
            self.records.ack(&offset.offset);
        }
    }

    pub(crate) fn pending_records(&self) -> Option<usize> {
        (!self.silent).then(|| self.records.pending())
    }

    pub(crate) fn partitions_read(&self) -> Option<Vec<i32>> {
        (!self.silent).then(|| (0..PARTITIONS.into()).collect())
    }
}

fn message(record: Record) -> Message {
    Message {
        value: record.value().into_bytes(),
        offset: Offset { offset: record.offset(), partition_id: record.partition().into() },
        event_time: record.event_time().into(),
        keys: Vec::new(),
        headers: HashMap::new(),
        user_metadata: None,
    }
}
