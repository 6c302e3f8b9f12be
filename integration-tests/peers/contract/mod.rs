//! The part of the handler contract that is the same for every SDK in Rust: what an input asks for, what is held until
//! told, and the records of a source. How a message or an answer looks is the SDK's.

pub(crate) mod instruction;
pub(crate) mod latches;
pub(crate) mod records;

use std::env;
use std::io::{Write as _, stderr};
use std::process::ExitCode;

/// What a map answers where its SDK has no means for what is asked.
pub(crate) const NOT_OFFERED: &str = "not offered";
/// The text of failures that are asked for without one.
pub(crate) const ASKED_FOR: &str = "the suite asked for this";

/// The kind of server to be, as the suite names it.
pub(crate) fn kind() -> String {
    env::var("CONFORMANCE_KIND").unwrap_or_default()
}

/// Whether the source leaves it to its SDK to say what is pending and which partitions there are.
pub(crate) fn defaults() -> bool {
    env::var("CONFORMANCE_DEFAULTS").is_ok_and(|value| value == "1")
}

/// Says on standard error that there is no such kind, and returns the exit status for that.
pub(crate) fn no_such_kind(kind: &str) -> ExitCode {
    // Where nobody can read it, the status says it all the same.
    _ = writeln!(
        stderr(),
        "there is no server of the kind {kind:?} here; set CONFORMANCE_KIND to map-unary, map-batch, map-stream or source"
    );
    ExitCode::from(3)
}

/// Panics as a handler is asked to.
#[track_caller]
#[expect(clippy::panic, reason = "the contract asks for one")]
pub(crate) fn panicked(text: &str) -> ! {
    panic!("{text}")
}
