//! `udf-server demo`: the whole product on real data.
//!
//! ```text
//! input -> produce -> broker (in this process, or real) -> kafka-source -> drive -> map -> drive -> output
//! ```
//!
//! `command` puts the parts together and takes them away again; source and map are processes of their own (`process`),
//! and `outcome` holds the numbers at the end against each other.

mod args;
mod broker;
mod command;
mod input;
mod outcome;
mod process;
mod produce;
mod topic;

pub(crate) use args::DemoArgs;
pub use broker::{EmbeddedBroker, EmbeddedBrokerError};
pub(crate) use command::command;
pub use produce::{ProduceError, Progress, Totals, produce};
pub use topic::{DemoTopic, PARTITIONS, TopicError};
