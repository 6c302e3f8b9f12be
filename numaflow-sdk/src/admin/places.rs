//! The connections of the endpoint at a time.
//!
//! A new one always gets a place: probes must be answered whatever other peers do. Where all are taken it gets the place of
//! the oldest connection whose peer has not asked for anything yet, or else of the oldest that does not take its answer.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{AbortHandle, JoinSet};

/// Whether the peer of a connection has asked for something.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections, the oldest first.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: VecDeque<(Asked, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: VecDeque::new(), tasks: JoinSet::new() }
    }

    /// Runs a connection. Whether another one has lost its place to it.
    pub(super) fn take<C>(&mut self, connection: impl FnOnce(Asked) -> C) -> bool
    where
        C: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.taken.retain(|(_, task)| !task.is_finished());
        let is_full = self.taken.len() >= self.most;
        if is_full {
            let idle = self.taken.iter().position(|(asked, _)| !asked.is_set());
            if let Some((_, task)) = self.taken.remove(idle.unwrap_or(0)) {
                task.abort();
            }
        }
        let asked = Asked::default();
        let task = self.tasks.spawn(connection(asked.clone()));
        self.taken.push_back((asked, task));
        is_full
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::mpsc;

    use super::*;

    /// The connection of this number: it says when it ends, however that is.
    struct Ends(u32, mpsc::Sender<u32>);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.1.try_send(self.0).unwrap();
        }
    }

    #[tokio::test]
    async fn the_oldest_that_has_not_asked_goes_first() {
        let (say, mut ended) = mpsc::channel(16);
        let mut places = Places::new(3);
        let take = |number: u32, asks: bool, places: &mut Places| {
            let ends = Ends(number, say.clone());
            places.take(move |asked| {
                if asks {
                    asked.set();
                }
                async move {
                    let _ends = ends;
                    pending().await
                }
            })
        };
        assert_eq!(
            [(0, true), (1, false), (2, true)].map(|(number, asks)| take(number, asks, &mut places)),
            [false; 3]
        );
        for (number, asks, loses) in [(3, true, 1), (4, true, 0), (5, false, 2), (6, false, 5)] {
            assert!(take(number, asks, &mut places));
            assert_eq!(ended.recv().await, Some(loses));
        }
    }
}
