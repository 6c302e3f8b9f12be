//! A future whose output is turned into something else.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project_lite::pin_project! {
    /// Made by [`mapped`]. An async block would hold its future twice, before and after it is first polled, and the future
    /// of every message is moved into its box.
    pub(super) struct Mapped<Fut, F> {
        #[pin]
        future: Fut,
        map: F,
    }
}

/// Turns the output of `future` into what `map` makes of it.
pub(super) fn mapped<Fut: Future, T, F: Fn(Fut::Output) -> T>(future: Fut, map: F) -> Mapped<Fut, F> {
    Mapped { future, map }
}

impl<Fut: Future, T, F: Fn(Fut::Output) -> T> Future for Mapped<Fut, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.project();
        this.future.poll(cx).map(this.map)
    }
}
