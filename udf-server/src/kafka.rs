//! A Kafka source that never commits past a record that is not done.
//!
//! ```text
//! split partition queues -> thread (the only owner of the client) -> assignment -> reads
//!                                    stored offsets <- commit points <- assignment <- acks, nacks
//! ```
//!
//! `thread` polls and stores offsets, `lane` takes and encodes the records of one partition, `rebalance` answers the group.
//! `assignment` and `tracker` are pure and hold what is between the broker and its ack; `source` is what the platform
//! calls. What takes the brokers time to answer, `asker` asks with a client of its own: how much is left (`pending`), and
//! where to begin with a partition (`positions`); `lookup` has an answer for each partition, whatever the others have.
//! Partitions without one wait (`waiting`), as do topics that do not exist at the start (`missing`). A topic that is deleted
//! and created anew is known by its id (`identity`), and is read from its beginning (`anew`). `status` is what others see of
//! all this. `connect` tries the way to the brokers and `reset` moves a group, each for a command of its own.

/// The page's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/kafka-records.md")]
mod records_page {}

mod address;
mod alarms;
mod allowance;
mod anew;
mod args;
mod asker;
mod assignment;
mod auth;
mod backoff;
mod bootstrap;
mod brokers;
mod budget;
mod client;
mod commit_scope;
mod commits;
mod committer;
mod config;
mod connect;
mod context;
mod counters;
mod course;
mod cut;
mod damage;
mod dead_letter;
mod diagnosis;
mod epochs;
mod expansion;
mod gone;
mod group;
mod identity;
mod lane;
mod lasting;
mod latency;
mod lookup;
mod members;
mod metrics;
mod missing;
#[cfg(test)]
mod model;
mod native;
mod pending;
mod policy;
mod positions;
mod progress;
mod protocol;
mod rebalance;
mod record;
mod relief;
mod reset;
mod rights;
mod search;
mod secrets;
mod selection;
mod shared;
mod source;
mod stall;
mod start;
mod statistics;
mod status;
mod thread;
mod threads;
mod throttle;
mod token;
mod tracker;
mod used;
mod validation;
mod waiting;

pub use args::KafkaArgs;
pub use brokers::{BrokerArgs, Brokers};
pub use client::StartError;
pub use config::KafkaConfig;
pub(crate) use connect::{Outcome, Tried, try_connection, works};
pub(crate) use group::Group;
pub use group::PartitionOffsets;
pub(crate) use members::Membership;
pub(crate) use native::abort::explain_aborts;
#[doc(hidden)]
pub use native::decompress;
pub(crate) use native::heap::give_back_large_buffers;
pub use policy::{Damaged, Durability, Exhausted, Oversize, RecordMetadata, TopicHeader};
pub use protocol::GroupProtocol;
pub(crate) use reset::{Move, PlanError, Selected, Target, carry_out, plan};
pub use selection::PartitionIds;
pub use source::KafkaSource;
pub use start::Start;
pub(crate) use used::size;
