//! A source of numbered records.

use numaflow_sdk::HandlerError;
use numaflow_sdk::source::{Batch, Message, NackOffset, Offset, Partitions, ReadRequest, Sourcer};
use tokio::time::Instant;

use crate::contract::records::{FAILING_READ, PANICKING_READ, PARTITIONS, Record, Records};
use crate::contract::{ASKED_FOR, panicked};

#[derive(Default)]
pub(crate) struct Contract {
    records: Records,
}

/// The same, but that it says nothing of what is pending and of its partitions.
pub(crate) struct Silent(pub(crate) Contract);

fn message(record: Record) -> Message {
    Message::new(record.value(), Offset::new(record.offset(), record.partition()), record.event_time())
}

impl Sourcer for Contract {
    async fn read(&self, request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        match request.count {
            FAILING_READ => return Err(HandlerError::new(ASKED_FOR)),
            PANICKING_READ => panicked(ASKED_FOR),
            _ => {}
        }
        let deadline = Instant::now() + batch.time_left();
        while !batch.is_full()
            && let Some(record) = self.records.next(deadline).await
        {
            batch.push(message(record)).await?;
        }
        Ok(())
    }

    async fn ack(&self, offsets: Vec<Offset>) -> Result<(), HandlerError> {
        for offset in offsets {
            self.records.ack(offset.as_bytes());
        }
        Ok(())
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        for NackOffset { offset, options, .. } in offsets {
            self.records.nack(offset.as_bytes(), options.delay.unwrap_or_default(), options.max_deliveries);
        }
        Ok(())
    }

    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        Ok(u64::try_from(self.records.pending()).ok())
    }

    async fn partitions(&self) -> Result<Option<Partitions>, HandlerError> {
        Ok(Some(Partitions::new(0..PARTITIONS).with_total(PARTITIONS.into())))
    }
}

impl Sourcer for Silent {
    async fn read(&self, request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        self.0.read(request, batch).await
    }

    async fn ack(&self, offsets: Vec<Offset>) -> Result<(), HandlerError> {
        self.0.ack(offsets).await
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        self.0.nack(offsets).await
    }
}
