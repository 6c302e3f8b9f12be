//! Panics of handlers, caught one call at a time.
//!
//! Catching needs no global state. Where a panic happened is known to the panic hook only, so a hook is chained in once,
//! which leaves location and backtrace for the thread that catches and then calls the hook that was there before.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

thread_local! {
    /// Whether this thread is inside a handler, so that panics elsewhere cost nothing.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAPTURED: RefCell<Option<Capture>> = const { RefCell::new(None) };
}

struct Capture {
    location: String,
    backtrace: Backtrace,
}

/// A panic that was caught.
pub(crate) struct Panic {
    message: String,
    capture: Option<Capture>,
}

impl Panic {
    fn new(payload: &(dyn Any + Send), capture: Option<Capture>) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned());
        Self { message, capture }
    }

    /// What was said, without where.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// File, line and column; `None` where the panic hook is not ours.
    pub(crate) fn location(&self) -> Option<&str> {
        self.capture.as_ref().map(|capture| capture.location.as_str())
    }

    /// The backtrace as text. Resolving its symbols takes long (tenths of a second in a large program): call it where
    /// nothing waits.
    pub(crate) fn backtrace(&self) -> String {
        self.capture.as_ref().map(|capture| capture.backtrace.to_string()).unwrap_or_default()
    }
}

/// The most bytes of a panic's text that are shown, in a log or a status: enough for a message with its values, while user
/// code may panic with a text of any length.
const SHOWN: usize = 4096;

/// The text of a panic, cut where it is long.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.floor_char_boundary(SHOWN)];
        f.write_str(shown)?;
        if shown.len() < self.0.len() {
            write!(f, "… ({} bytes in all)", self.0.len())?;
        }
        Ok(())
    }
}

/// The text, cut where it is long, and the place.
impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.message).fmt(f)?;
        match &self.capture {
            Some(capture) => write!(f, " at {}", capture.location),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&format_args!("{self}")).finish()
    }
}

/// Chains the hook in; further calls do nothing.
pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            capture(info);
            earlier(info);
        }));
    });
}

fn capture(info: &PanicHookInfo<'_>) {
    if !CATCHING.get() {
        return;
    }
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // Walks the stack but resolves no symbols, which is what takes long.
    let backtrace = Backtrace::force_capture();
    CAPTURED.set(Some(Capture { location, backtrace }));
}

/// Runs user code, whose panic becomes an error.
pub(crate) fn catching<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    CATCHING.set(before);
    result.map_err(|payload| Panic::new(&*payload, CAPTURED.take()))
}

/// A future whose panics become errors.
pub(crate) struct CatchPanic<F> {
    future: Pin<Box<F>>,
}

/// Makes the panics of `future` errors.
pub(crate) fn catch<F: Future>(future: F) -> CatchPanic<F> {
    CatchPanic { future: Box::pin(future) }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catching(|| self.future.as_mut().poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_wherever_it_is_shown() {
        install_hook();
        let panicked = |text: &str| catching::<()>(|| panic!("{text}")).unwrap_err();
        let panic = panicked(&"ü".repeat(1 << 20));
        for shown in [format!("{panic}"), format!("{panic:?}")] {
            assert!(shown.len() < SHOWN + 200, "{} bytes", shown.len());
            assert!(shown.contains("üü… (2097152 bytes in all) at ") && shown.contains("panic.rs:"), "{shown}");
        }
        assert!(format!("{}", panicked("short")).starts_with("short at "));
    }
}
