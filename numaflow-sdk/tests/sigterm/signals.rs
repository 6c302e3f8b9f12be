//! Signals at a bad moment: while the server starts, and when a terminal is closed.

use std::time::Duration;

use numaflow_sdk::testing::MapClient;
use signal_hook::consts::SIGHUP;
use tokio::time::sleep;

use crate::blocked::block_on;
use crate::process::Process;

/// Starts of a server, each told to stop twice a little later after its start than the one before.
const STARTS: u64 = 40;

pub(crate) fn at_the_start() {
    block_on(async {
        for start in 0..STARTS {
            let process = Process::spawn("1");
            sleep(Duration::from_micros(500 * start)).await;
            process.terminate();
            process.terminate();
            let end = process.end().await;
            // Before it handles signals it may be killed by one.
            assert!(end.left == 0 && matches!(end.code, Some(0) | None), "{start}: {end:?}");
        }
    });
}

/// As a terminal and its shell do, which both send it.
pub(crate) fn hang_up() {
    if !numaflow_sdk::stop_signals().contains(&SIGHUP) {
        // The tests themselves are to outlive their terminal, and so would be the server.
        return;
    }
    block_on(async {
        let mut process = Process::start().await;
        let stream = MapClient::connect(process.socket()).await.unwrap().open().await.unwrap();
        process.signal("-HUP");
        process.line("draining").await;
        process.signal("-HUP");
        drop(stream);
        process.end().await.check().unwrap();
    });
}

/// A program that is to outlive its terminal does.
pub(crate) fn hang_up_ignored() {
    block_on(async {
        let mut process = Process::ignoring_hang_ups();
        process.listens().await;
        process.signal("-HUP");
        let client = MapClient::connect(process.socket()).await.unwrap();
        assert!(client.is_ready().await.unwrap());
        process.terminate();
        process.line("draining").await;
        drop(client);
        process.end().await.check().unwrap();
    });
}
