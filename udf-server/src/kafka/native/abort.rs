//! A last line for a process that the client library aborts.
//!
//! The library ends the process with an assertion where a peer sends what it does not expect, and nothing can catch that: see
//! `docs/kafka-source.md`, "Brokers that end the process". The text of an assertion names a line of C and no remedy.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use signal_hook::consts::SIGABRT;
use signal_hook::low_level;

const LAST_LINE: &str = "udf-server was aborted, mostly by an assertion of librdkafka (the line before names it): a broker or \
                         a proxy of --brokers answers what librdkafka does not take; see \"Brokers that end the process\" in \
                         docs/kafka-source.md\n";

/// Has a process that is aborted write why, as the last line of its standard error. For the whole process, so a program asks
/// for it and no library.
pub(crate) fn explain_aborts() {
    let written = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|stderr| {
        let explain = move || {
            // A signal handler may do no more than this one system call, and nobody is left to tell of a failure.
            _ = (&stderr).write(LAST_LINE.as_bytes());
        };
        // SAFETY: the handler only writes to a file descriptor that it owns, and write(2) is safe in a signal handler.
        #[expect(unsafe_code, reason = "what a signal handler may do is for us to see to")]
        unsafe {
            low_level::register(SIGABRT, explain)
        }
    });
    if let Err(error) = written {
        tracing::debug!(%error, "an abort will not be explained");
    }
}
