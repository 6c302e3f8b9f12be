//! What is told of a panic on standard error, without waiting for whoever reads it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::time::Duration;

use crate::panic::Shown;

/// How long a thread that panics waits for its line to be written: with `panic = "abort"`, or where a second panic follows,
/// the process ends right after.
const PATIENCE: Duration = Duration::from_millis(100);

/// Puts a hook in the place of the standard library's, which writes to standard error and so waits for ever where nobody
/// reads it: a handler that panics would take its thread with it. A hook of the program's stays.
pub(crate) fn replace_default_hook() {
    let hook = take_hook();
    // After a hook was taken the standard library's is in place.
    let default = take_hook();
    // Both were made by the same function of the standard library then, so they are of the same type and without data.
    let is_default = std::ptr::eq(&raw const *hook, &raw const *default);
    set_hook(if is_default { Box::new(tell) } else { hook });
}

fn tell(info: &PanicHookInfo<'_>) {
    super::queue().push_and_flush(text(info, &Backtrace::capture()).as_bytes(), PATIENCE);
}

/// In the words of the standard library's hook. A long text of the panic is cut.
fn text(info: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let thread = std::thread::current();
    let mut text = format!("thread '{}' panicked", thread.name().unwrap_or("<unnamed>"));
    if let Some(location) = info.location() {
        // Writing to a text cannot fail.
        _ = write!(text, " at {location}");
    }
    _ = writeln!(text, ":\n{}", Shown(info.payload_as_str().unwrap_or("a panic without a text")));
    if backtrace.status() == BacktraceStatus::Captured {
        _ = writeln!(text, "stack backtrace:\n{backtrace}");
    } else {
        text.push_str("note: the environment variable RUST_BACKTRACE=1 adds a backtrace\n");
    }
    text
}
