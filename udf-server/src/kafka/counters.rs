//! What the source counts, for whoever looks on.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, shared by the threads of the source.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        if count > 0 {
            self.0.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a counter has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Total {
    /// With its unit, as it is in `/kafka` and, with `_total` after it, in `/metrics`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: u64,
}

/// Declares the counters once, for those who count and for those who look.
macro_rules! counters {
    ($($(#[$comment:meta])* $field:ident: $name:literal, $help:literal;)*) => {
        /// The counters of a source.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $($(#[$comment])* pub(super) $field: Counter,)*
        }

        impl Counters {
            /// All of them.
            pub(super) fn totals(&self) -> Vec<Total> {
                vec![$(Total { name: $name, help: $help, value: self.$field.get() }),*]
            }
        }
    };
}

counters! {
    fetched: "fetched_records", "Records read from the brokers.";
    /// As the platform gets them.
    fetched_bytes: "fetched_bytes", "Bytes of the records read from the brokers.";
    delivered: "delivered_records", "Records given to the platform, each time they are.";
    redelivered: "redelivered_records", "Of these, records that were given to it before.";
    acked: "acked_records", "Records acked.";
    nacked: "nacked_records", "Records nacked, each time they are.";
    expired: "expired_records", "Records delivered again because they were in flight for too long.";
    dead_letters: "dead_letter_records", "Records that the dead-letter topic has.";
    failed_letters: "failed_dead_letters", "Times that the dead-letter topic did not take a record.";
    skipped: "skipped_records", "Records passed over because they are too large.";
    damaged: "damaged_offsets", "Offsets passed over because what is there cannot be read.";
    oversize_batches: "oversize_batches", "Batches that stopped their partition because they are larger than may be held.";
    postponed: "postponed_batches", "Batches that were fetched again later because there was no room to decompress them.";
    paused: "paused_partitions", "Times that a partition was paused: its records found no room, or came in answers that cannot be read.";
    /// They succeed without effect.
    unknown_acks: "unknown_acks", "Acks and nacks of records that were not in flight here.";
    rebalances: "rebalances", "Changes of the assigned partitions.";
    assigned: "assigned_partitions", "Partitions that were assigned here.";
    /// Nothing of them was with the platform any more, or their time was over.
    revoked: "revoked_partitions", "Partitions that were given back.";
    lost: "lost_partitions", "Partitions that another member had before they were given back.";
    commits: "commits", "Commits that the brokers took.";
    failed_commits: "failed_commits", "Commits that the brokers did not take.";
    broker_errors: "broker_errors", "Errors of brokers and of connections to them.";
    denials: "denied_requests", "Answers of brokers that deny a right.";
    /// What came next was gone.
    resets: "offset_resets", "Times that a partition was read on elsewhere because records were gone.";
    /// The log was cut, or the topic was made anew.
    rewinds: "rewinds", "Times that the offsets of a partition went back.";
    gone: "gone_offsets", "Offsets of which the records were gone before they were read.";
    /// One could not go on.
    restarts: "client_restarts", "Kafka clients that were made anew.";
    renewals: "secret_renewals", "Times that the Kafka clients were made anew because the files of secrets had changed.";
}
