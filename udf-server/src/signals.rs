//! Signals, for the commands that end by them without serving anything.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

/// Counts SIGINT and SIGTERM from here on; they no longer end the process by themselves.
///
/// # Errors
///
/// When the handlers can't be installed, or the thread that waits for signals can't be started.
pub fn signals() -> io::Result<watch::Receiver<u32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (count, counted) = watch::channel(0);
    let forward = move || {
        for _ in signals.forever() {
            count.send_modify(|count| *count += 1);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(counted)
}
