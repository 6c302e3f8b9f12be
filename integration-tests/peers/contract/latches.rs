//! Messages that wait until another message tells them to go on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// What is held by name. A name that was released stays so.
#[derive(Debug, Default)]
pub(crate) struct Latches {
    /// By name, whether it is released.
    latches: Mutex<HashMap<String, watch::Sender<bool>>>,
}

impl Latches {
    /// Waits until `name` is released.
    pub(crate) async fn released(&self, name: &str) {
        let mut latch = self.latch(name).subscribe();
        // It cannot fail: its sender is kept in the map for ever.
        _ = latch.wait_for(|released| *released).await;
    }

    pub(crate) fn release(&self, name: &str) {
        self.latch(name).send_replace(true);
    }

    fn latch(&self, name: &str) -> watch::Sender<bool> {
        let mut latches = self.latches.lock().unwrap_or_else(PoisonError::into_inner);
        latches.entry(name.to_owned()).or_default().clone()
    }
}
