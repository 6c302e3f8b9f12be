//! The handler contract, `CONTRACT.md`, with the published SDK for Rust, version 0.6.0.

// What is the same for both versions names the SDK as its users do.
extern crate numaflow_0_6 as numaflow;

/// The SDK's nack, of whichever of its message types.
macro_rules! to_nack {
    ($message:ty) => {
        <$message>::message_to_nack(Some(numaflow::shared::NackOptions {
            delay: Some(1500),
            max_deliveries: Some(3),
            reason: Some("asked to".to_owned()),
        }))
    };
}

#[path = "../contract/mod.rs"]
mod contract;
mod map;
mod serve;
mod source;

use std::process::ExitCode;
use std::time::Duration;

use numaflow::source::{Message, NackOffset, Offset, SourceReadRequest, Sourcer};
use tokio::sync::mpsc::Sender;

use contract::records::PARTITIONS;

#[tokio::main]
async fn main() -> ExitCode {
    serve::serve().await
}

#[tonic::async_trait]
impl Sourcer for source::Contract {
    async fn read(&self, request: SourceReadRequest, transmitter: Sender<Message>) {
        self.read_records(request, transmitter).await;
    }

    async fn ack(&self, offsets: Vec<Offset>) {
        self.ack_records(offsets);
    }

    async fn nack(&self, offsets: Vec<NackOffset>) {
        for NackOffset { offset, options } in offsets {
            let options = options.unwrap_or_default();
            let delay = Duration::from_millis(options.delay.unwrap_or_default());
            self.records.nack(&offset.offset, delay, options.max_deliveries);
        }
    }

    async fn pending(&self) -> Option<usize> {
        self.pending_records()
    }

    async fn active_partitions(&self) -> Option<Vec<i32>> {
        self.partitions_read()
    }

    async fn total_partitions(&self) -> Option<i32> {
        (!self.silent).then(|| PARTITIONS.into())
    }
}
