//! Clients that know no broker any more begin again with the addresses that they were given.
//!
//! A broker that has just started may answer with no broker at all. Then the client library forgets those that it knows. It is
//! to begin again by itself, and may not: a good answer that comes at the same time stops that, for good (librdkafka 5301). Such
//! a client asks nobody any more: records do not come, offsets are not known, letters are not written.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::{Client, ClientContext};

use super::brokers::Brokers;
use super::native::bootstrap::add_brokers;
use super::statistics::Told;

/// Whether a client is to begin again. Its context has it.
#[derive(Debug, Default)]
pub(super) struct Bootstrap {
    is_due: AtomicBool,
}

impl Bootstrap {
    /// Takes note of what the client library tells.
    pub(super) fn note(&self, told: &Told) {
        if told.is_without_brokers {
            self.is_due.store(true, Ordering::Relaxed);
        }
    }

    /// Has the client begin again, if that is due.
    pub(super) fn repeat_if_due<C: ClientContext>(&self, client: &Client<C>, brokers: &Brokers) {
        if !self.is_due.load(Ordering::Relaxed) {
            return;
        }
        self.is_due.store(false, Ordering::Relaxed);
        let added = add_brokers(client, brokers.addresses());
        tracing::info!(
            brokers = brokers.addresses(),
            added,
            "a client knows no broker any more, and begins again with these"
        );
    }
}
