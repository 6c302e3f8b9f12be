//! The work of a handler without any server, as often as it can be done: what the machine and tokio allow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::task::JoinSet;

use super::Serving;
use crate::Outcome;
use crate::handler::{Handler, compute};

/// How often it was done.
pub(crate) static DONE: AtomicU64 = AtomicU64::new(0);

/// Computes on as many threads as there are workers, or waits in as many tasks as there may be messages in flight.
pub(super) fn run(serving: &Serving) -> Outcome<()> {
    match serving.handler {
        Handler::Compute { rounds } => {
            let workers = std::env::var(super::WORKERS)?.parse()?;
            std::thread::scope(|scope| {
                for _ in 0_usize..workers {
                    scope.spawn(|| {
                        loop {
                            compute(rounds);
                            DONE.fetch_add(1, Relaxed);
                        }
                    });
                }
            });
            Ok(())
        }
        handler @ (Handler::Identity | Handler::Wait { .. }) => super::block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..serving.in_flight {
                tasks.spawn(async move {
                    loop {
                        handler.run(&[]).await;
                        DONE.fetch_add(1, Relaxed);
                    }
                });
            }
            // They never end.
            while tasks.join_next().await.is_some() {}
            Ok(())
        }),
    }
}
