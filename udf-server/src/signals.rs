//! Signals, for the commands that end by them without serving anything.

use std::io;

use numaflow_sdk::stop_signals;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use tokio::sync::watch;

/// Counts the signals to stop from here on; they no longer end the process by themselves. SIGHUP counts once and never as a
/// second signal, because a terminal that is closed and its shell both send it.
///
/// # Errors
///
/// When the handlers can't be installed, or the thread that waits for signals can't be started.
pub fn signals() -> io::Result<watch::Receiver<u32>> {
    let mut signals = Signals::new(stop_signals())?;
    let (count, counted) = watch::channel(0);
    let forward = move || {
        for signal in signals.forever() {
            count.send_modify(|count| {
                if signal != SIGHUP || *count == 0 {
                    *count += 1;
                }
            });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(counted)
}
