//! How a map is served.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::execution::Pace;
use super::{Execution, FailurePolicy, Retry};
use crate::throttle::Throttle;
use crate::{MapMode, ServeError};

/// What all streams of a map go by.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) mode: MapMode,
    /// The only mode that the handler can be served in, with what it is called.
    pub(super) only: Option<(MapMode, &'static str)>,
    pub(super) on_failure: FailurePolicy,
    pub(super) retry: Retry,
    pub(super) execution: Execution,
    pub(super) key_ordered: bool,
    pub(super) exit_on_panic: bool,
    /// The most bytes of all batches that are collected.
    pub(super) max_batch_bytes: usize,
    /// The threads that blocking handlers may still take.
    pub(super) threads: Arc<Semaphore>,
    pub(super) pace: Arc<Pace>,
    pub(super) told: Arc<Told>,
}

/// What the log tells now and then, over all streams.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Handlers that failed and are called again.
    pub(super) retries: Throttle,
    /// Batches that are refused.
    pub(super) refused_batches: Throttle,
}

impl Options {
    pub(super) fn new(only: Option<(MapMode, &'static str)>) -> Self {
        Self {
            mode: only.map(|(mode, _)| mode).unwrap_or_default(),
            only,
            on_failure: FailurePolicy::default(),
            retry: Retry::default(),
            execution: Execution::default(),
            key_ordered: false,
            exit_on_panic: false,
            max_batch_bytes: crate::limit::default_max_batch_bytes(),
            threads: Arc::new(Semaphore::new(0)),
            pace: Arc::default(),
            told: Arc::default(),
        }
    }

    /// Sets how handlers run, and makes the threads that they may block.
    pub(super) fn set_execution(&mut self, execution: Execution) {
        self.execution = execution;
        let threads = match execution {
            Execution::Blocking { threads } => threads.get(),
            Execution::Automatic | Execution::Tasks => 0,
        };
        self.threads = Arc::new(Semaphore::new(threads.min(Semaphore::MAX_PERMITS)));
    }

    pub(super) fn check(&self) -> Result<(), ServeError> {
        let option = |name, problem| ServeError::Option { name, problem };
        if let Some((mode, handler)) = self.only
            && self.mode != mode
        {
            let problem = format!("{handler} is served as {mode} only, and {} was asked for", self.mode);
            return Err(option("mode", problem));
        }
        if self.key_ordered && self.only.is_some_and(|(mode, _)| mode == MapMode::Batch) {
            return Err(option("key_ordered", "a batch mapper takes all messages of a batch at once".to_owned()));
        }
        if self.max_batch_bytes == 0 {
            return Err(option("max_batch_bytes", "must be above zero".to_owned()));
        }
        self.execution.check().map_err(|problem| option("execution", problem))?;
        self.on_failure.check().map_err(|problem| option("on_failure", problem))?;
        self.retry.check().map_err(|problem| option("retry", problem))
    }

    /// What is worth a line in the block at the start.
    pub(super) fn describe(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            (
                "handlers",
                self.execution.to_string() + if self.key_ordered { ", in the order of their keys" } else { "" },
            ),
            ("on failure", format!("{} ({})", self.on_failure, self.on_failure.platform())),
        ];
        if self.retry.is_some() {
            lines.push(("retry", self.retry.to_string()));
        }
        if self.only.is_some_and(|(mode, _)| mode == MapMode::Batch) {
            lines.push(("batch", format!("at most {} KiB", self.max_batch_bytes >> 10)));
        }
        lines
    }
}
