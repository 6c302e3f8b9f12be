//! The letters that are not written yet, as others see them.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// The letters that are not written yet.
#[derive(Debug, Clone, Default)]
pub(in crate::kafka) struct Backlog {
    /// How many there are, those included that are on their way to the brokers.
    pub(in crate::kafka) waiting: usize,
    /// Since when the oldest of them waits.
    pub(in crate::kafka) since: Option<Instant>,
    /// Why the topic refuses a letter, and what to do: by its partition's id and its offset.
    pub(in crate::kafka) refused: BTreeMap<(u16, i64), String>,
}
