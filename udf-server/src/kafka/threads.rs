//! The threads of the source. A panic on one of them fails the source, which cannot go on without it.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::shared::Shared;

/// Starts a thread that makes a state and works on it.
///
/// Where the work panics, the source has failed before the state is dropped, which may take its time. Callbacks of the
/// client library run on these threads while they poll. Only its log callback may run on a thread of the library, where a
/// panic aborts the process.
///
/// # Errors
///
/// The system does not give us a thread.
pub(super) fn spawn<S>(
    name: &'static str,
    shared: Arc<Shared>,
    make: impl FnOnce() -> S + Send + 'static,
    work: impl FnOnce(&mut S) + Send + 'static,
) -> io::Result<()> {
    let guarded = move || {
        let fail = |panic: Box<dyn Any + Send>| shared.fail(format!("the thread {name} panicked: {}", text(&*panic)));
        match catch_unwind(AssertUnwindSafe(make)) {
            // After a panic the state is only dropped. What others share with it, they look at to end.
            Ok(mut state) => {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&mut state))) {
                    fail(panic);
                }
            }
            Err(panic) => fail(panic),
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(guarded).map(drop)
}

/// The text of a panic.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::budget::Budget;
    use super::super::token::Topics;
    use super::*;

    struct Last(Arc<Shared>);

    impl Drop for Last {
        fn drop(&mut self) {
            assert!(self.0.failure.borrow().is_some(), "the source has failed before what is dropped can block");
            self.0.stop();
        }
    }

    #[test]
    fn a_panic_fails_the_source() {
        let shared = || Arc::new(Shared::new(Vec::new(), Topics::Listed(Vec::new()), Budget::new(1 << 20)));
        for (panic, text) in [
            ((|| panic!("a text")) as fn(), "the thread kafka panicked: a text"),
            (|| panic!("a text with {}", 1), "the thread kafka panicked: a text with 1"),
            (|| std::panic::panic_any(1), "the thread kafka panicked: a panic without a text"),
        ] {
            let shared = shared();
            let last = shared.clone();
            spawn("kafka", shared.clone(), move || Last(last), move |_| panic()).unwrap();
            while !shared.stopped() {
                thread::park_timeout(Duration::from_millis(1));
            }
            assert_eq!(shared.failure.borrow().as_deref(), Some(text));
        }
    }

    #[test]
    fn a_panic_before_the_work_fails_the_source_too() {
        let shared = Arc::new(Shared::new(Vec::new(), Topics::Listed(Vec::new()), Budget::new(1 << 20)));
        spawn("kafka", shared.clone(), || panic!("too early"), |(): &mut ()| ()).unwrap();
        while shared.failure.borrow().is_none() {
            thread::park_timeout(Duration::from_millis(1));
        }
        assert_eq!(shared.failure.borrow().as_deref(), Some("the thread kafka panicked: too early"));
    }
}
