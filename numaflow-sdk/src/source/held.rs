//! Calls of the source that hold their thread: they go to a task of their own, or they would hold their connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::in_flight::InFlight;

/// A call that holds its thread for longer than this in one poll blocks it. Far longer than it takes to write a chunk, and
/// a part of the 100 ms in which the platform wants `IsReady` answered.
const BLOCKS: Duration = Duration::from_millis(20);
/// After that so many calls are tasks: a client library that blocks while there is nothing to read does so now and then.
const DISTRUST: u32 = 1000;
/// So many calls of a stream are tasks before the first one is polled in place, so that a source that always blocks never
/// holds its connection.
const FIRST: u32 = 4;

/// A call of the source, and for how long it has held its thread in one poll at the most.
pub(super) struct Held<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    in_flight: InFlight,
    longest: Duration,
}

impl<T> Held<T> {
    pub(super) fn new(in_flight: &InFlight, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Box::pin(future), in_flight: in_flight.clone(), longest: Duration::ZERO }
    }

    pub(super) fn blocks(&self) -> bool {
        self.longest > BLOCKS
    }
}

impl<T> Future for Held<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let _polled = this.in_flight.poll();
        let begun = Instant::now();
        let polled = this.future.as_mut().poll(cx);
        this.longest = this.longest.max(begun.elapsed());
        polled
    }
}

/// How many calls of a stream are yet to be tasks from their start.
#[derive(Debug)]
pub(super) struct Distrust(u32);

impl Distrust {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// Whether the next call starts as a task.
    pub(super) fn next(&mut self) -> bool {
        let distrusted = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        distrusted
    }

    /// A call has blocked its thread.
    pub(super) fn renew(&mut self) {
        self.0 = DISTRUST;
    }
}
