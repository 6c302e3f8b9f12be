//! A Kafka source that never commits past a record that is not done.
//!
//! ```text
//! split partition queues -> thread (the only owner of the client) -> assignment -> reads
//!                                    stored offsets <- commit points <- assignment <- acks, nacks
//! ```
//!
//! `thread` polls, encodes each record once and answers rebalances; `assignment` and `tracker` are pure and hold what is
//! between the broker and its ack; `source` is what the platform calls. `pending` and `group` look at the group from
//! outside, with a client of their own.

mod args;
mod assignment;
mod brokers;
mod client;
mod config;
mod context;
mod fetch;
mod group;
mod pending;
mod policy;
mod record;
mod shared;
mod source;
mod start;
mod thread;
mod token;
mod tracker;

pub use args::KafkaArgs;
pub use brokers::{BrokerArgs, Brokers};
pub use client::StartError;
pub use config::KafkaConfig;
pub(crate) use group::Group;
pub use group::PartitionOffsets;
pub use policy::{Durability, Exhausted, Oversize};
pub use source::KafkaSource;
pub use start::Start;
