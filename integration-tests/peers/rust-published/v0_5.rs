//! The handler contract, `CONTRACT.md`, with the published SDK for Rust, version 0.5.0.

// What is the same for both versions names the SDK as its users do.
extern crate numaflow_0_5 as numaflow;

/// This version has no nack.
macro_rules! to_nack {
    ($message:ty) => {
        <$message>::new(crate::contract::NOT_OFFERED.into())
    };
}

#[path = "../contract/mod.rs"]
mod contract;
mod map;
mod serve;
mod source;

use std::process::ExitCode;
use std::time::Duration;

use numaflow::source::{Message, Offset, SourceReadRequest, Sourcer};
use tokio::sync::mpsc::Sender;

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

    // This version does not hand on what is asked of the redelivery.
    async fn nack(&self, offsets: Vec<Offset>) {
        for offset in offsets {
            self.records.nack(&offset.offset, Duration::ZERO, None);
        }
    }

    async fn pending(&self) -> Option<usize> {
        self.pending_records()
    }

    async fn partitions(&self) -> Option<Vec<i32>> {
        self.partitions_read()
    }
}
