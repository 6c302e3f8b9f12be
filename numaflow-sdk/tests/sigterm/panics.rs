//! Panics outside of handlers: the process ends with an error and says why.

use std::time::Duration;

use tokio::time::timeout;

use crate::blocked::block_on;
use crate::process::{End, LONG_DRAIN, Process};
use crate::server::{SET_UP_PANICS, SHUTDOWN_PANICS};

/// Far longer than a start takes; a process that hangs is killed then.
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn set_up() {
    block_on(async {
        let mut process = Process::draining_for(LONG_DRAIN, SET_UP_PANICS);
        let reason = timeout(LONG, process.line("error: ")).await.unwrap();
        assert!(reason.starts_with("error: the set-up before serving failed: it panicked: no database"), "{reason}");
        check(&process.end().await);
    });
}

pub(crate) fn on_shutdown() {
    block_on(async {
        let mut process = Process::draining_for(LONG_DRAIN, SHUTDOWN_PANICS);
        process.listens().await;
        process.terminate();
        let reason = timeout(LONG, process.line("error: ")).await.unwrap();
        let start = "error: the server has drained, but an action of its on_shutdown panicked: nobody to tell at ";
        assert!(reason.starts_with(start), "{reason}");
        check(&process.end().await);
    });
}

/// An error, with nothing left and without waiting for the drain's time to be over.
fn check(end: &End) {
    assert!(end.code == Some(1) && end.left == 0 && end.took < end.drain, "{end:?}");
}
