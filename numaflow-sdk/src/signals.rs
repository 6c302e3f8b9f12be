//! The signals that tell a program to stop.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signals on which a program ends in good order: SIGTERM, which the platform sends, SIGINT, and SIGHUP, which comes
/// when a terminal is closed. SIGHUP is left out where the program was started with it ignored, as `nohup` does: a handler
/// for it would end a program that is to outlive its terminal.
///
/// [`run`](crate::run) takes them. They are for programs that call [`Bound::serve_until`](crate::Bound::serve_until) in a
/// runtime of their own, or that have other commands beside their server.
#[must_use]
pub fn stop_signals() -> Vec<i32> {
    let mut signals = vec![SIGTERM, SIGINT];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if ignores(&status, SIGHUP) == Some(false) {
        signals.push(SIGHUP);
    }
    signals
}

/// Whether a process ignores a signal, by its `/proc/PID/status` (see proc(5), `SigIgn`). `None` where that does not say.
fn ignores(status: &str, signal: i32) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let bit = u32::try_from(signal).ok()?.checked_sub(1)?;
    Some(mask.checked_shr(bit)? & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_mask() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert_eq!(ignores(status, SIGHUP), Some(true));
        assert_eq!(ignores(status, SIGINT), Some(false));
        assert_eq!(ignores(status, 13), Some(true));
        assert_eq!(ignores("", SIGHUP), None);
        assert_eq!(ignores("SigIgn:\tx\n", SIGHUP), None);
    }
}
